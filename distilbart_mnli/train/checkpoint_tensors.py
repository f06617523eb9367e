"""The tensors of a checkpoint by name: weights, AdamW's moments, random states; as safetensors, never as pickles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from accelerate.utils import is_torch_xla_available
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.train import device as xla


def load_file(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is something else, although the manifest says that it should be.
    """
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} holds no tensors ({error}); remove its folder, or resume from another one") from None


def save_optimizer(optimizer: torch.optim.Optimizer, names: list[str], path: Path) -> list[dict[str, Any]]:
    """Write the moments to `path`; returns the parameter groups' numbers, for the JSON beside it.

    Args:
        names: the parameters' names, in the order of the optimizer's groups.
    """
    state = optimizer.state_dict()
    tensors = {
        f"{names[index]}/{key}": value.detach().cpu().contiguous()
        for index, entry in state["state"].items()
        for key, value in entry.items()
    }
    save_file(tensors, path)
    return [
        {key: value for key, value in group.items() if isinstance(value, int | float | bool | str | list | tuple)}
        for group in state["param_groups"]
    ]


def load_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, torch.Tensor], groups: list[dict[str, Any]]
) -> None:
    """Undo save_optimizer. `tensors`: what its file holds."""
    position = {name: index for index, name in enumerate(names)}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        state.setdefault(position[name], {})[kind] = value
    current = optimizer.state_dict()["param_groups"]
    merged = [{**now, **then, "params": now["params"]} for now, then in zip(current, groups, strict=True)]
    for group in merged:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": state, "param_groups": merged})


def random_state() -> dict[str, torch.Tensor]:
    """The generators that dropout draws from on this process, as byte tensors (XLA's is a number)."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    if is_torch_xla_available():
        states["xla"] = xla.random_state()
    return states


def set_random_state(states: dict[str, torch.Tensor]) -> None:
    """Undo random_state."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    if is_torch_xla_available() and "xla" in states:
        xla.set_random_state(states["xla"])


def save_random_states(states: list[dict[str, torch.Tensor]], path: Path) -> None:
    """Write every process's generators."""
    save_file({f"{process}/{kind}": t for process, kinds in enumerate(states) for kind, t in kinds.items()}, path)


def load_random_states(path: Path) -> list[dict[str, torch.Tensor]]:
    """Undo save_random_states."""
    states: list[dict[str, torch.Tensor]] = []
    for key, tensor in sorted(load_file(path).items(), key=lambda item: int(item[0].split("/")[0])):
        process, _, kind = key.partition("/")
        while len(states) <= int(process):
            states.append({})
        states[int(process)][kind] = tensor
    return states


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Copy a checkpoint's weights into `model`, in place, so that an optimizer keeps its parameters."""
    tensors = load_file(checkpoint / "model.safetensors")
    state = model.state_dict(keep_vars=True)  # the parameters themselves: a shared one is one object, on any device
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
    # A shared tensor is saved under one of its names; writing it there wrote the others.
    missing = {id(t) for t in state.values()} - {id(state[name]) for name in tensors}
    if missing:
        raise RunError(f"{checkpoint}: {len(missing)} tensors of the model are not in model.safetensors")


def broadcast_weights(model: nn.Module) -> None:
    """Give every process the first one's weights."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    for tensor in {t.data_ptr(): t for t in model.state_dict().values()}.values():
        dist.broadcast(tensor, 0)


def check_same_weights(model: nn.Module, gather_objects: Callable[[object], list]) -> None:
    """Raises RunError if a process has other weights than the first one."""
    sums = gather_objects([float(t.double().sum()) for t in model.state_dict().values()])
    if any(other != sums[0] for other in sums):
        raise RunError("the processes have different weights after resuming; this is a fault of the training loop")
