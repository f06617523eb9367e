"""What a checkpoint restores: all that decides what comes next. Tensors travel as safetensors, the rest as JSON."""

import math
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.bart import ShortCutBart


@dataclass
class Progress:
    """Where a training stands. JSON in, JSON out."""

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    run_started: float = field(default_factory=time.time)
    step: int = 0
    """Optimizer steps done."""
    log_history: list[dict[str, Any]] = field(default_factory=list)
    window: list[list[float]] = field(default_factory=list)
    """[sum of losses, examples] of every step since the last log line."""
    loss_sum: float = 0.0
    loss_examples: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    evaluations_without_improvement: int = 0
    stopped_early: bool = False
    evaluation_due: bool = False
    """Whether the evaluation after this step was begun and is to be done again."""
    seconds: float = 0.0
    data_seconds: float = 0.0

    def note_evaluation(self, value: float, greater_is_better: bool, threshold: float) -> bool:
        """Keep the books of the best model and of early stopping; true if this evaluation is the best so far."""
        sign = 1 if greater_is_better else -1
        gain = math.inf if self.best_metric is None else sign * (value - self.best_metric)
        if gain > 0:
            self.best_metric, self.best_step = value, self.step
        self.evaluations_without_improvement = 0 if gain > threshold else self.evaluations_without_improvement + 1
        return gain > 0


@dataclass(frozen=True)
class Steps:
    """How long a training is."""

    per_epoch: int
    """Optimizer steps of one epoch; a short last one counts."""
    total: int

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch, or the training, ends with `step`."""
        return step % self.per_epoch == 0 or step == self.total

    @property
    def epochs(self) -> int:
        """Epochs begun by the end."""
        return -(-self.total // self.per_epoch)


@dataclass
class TrainState:
    """A training between two optimizer steps."""

    progress: Progress
    model: ShortCutBart
    optimizer: torch.optim.Optimizer
    """Not accelerate's wrapper."""
    names: list[str]
    """Of the optimizer's parameters, in the order of its groups."""
    scheduler: Any
    scaler: torch.amp.GradScaler | None
    """fp16's."""
    steps: Steps
    recipe: dict[str, Any]
    """What decides the weights (recipe.make_recipe)."""
    bits: dict[str, Any]
    """What decides their bits beside it (recipe.decides_bits)."""
    cache_used: bool
    """Whether the encoder's states come from a cache."""
    train_examples: int
    """With labels."""
    transfer_examples: int
    """Without."""
    tracker_urls: dict[str, str]
    saved_step: int = -1
    """The step of the last checkpoint in output_dir."""
    first_save: bool = True
    """Whether this run has no checkpoint in output_dir yet: what is there may be another run's."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return self.progress.step / self.steps.per_epoch


# ---------------------------------------------------------------------------------------------------------------------
# Tensors of a checkpoint


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
    return group_values(optimizer)


def group_values(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What JSON can hold of the parameter groups: all but the parameters."""
    return [
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in group.items()
            if key != "params" and isinstance(value, int | float | bool | str | list | tuple)
        }
        for group in optimizer.param_groups
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


def save_random_states(states: list[dict[str, torch.Tensor]], path: Path) -> None:
    """Write every process's generators (Device.random_state)."""
    save_file({f"{process}/{kind}": t for process, kinds in enumerate(states) for kind, t in kinds.items()}, path)


def load_random_states(path: Path) -> list[dict[str, torch.Tensor]]:
    """Undo save_random_states."""
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        process, _, kind = key.partition("/")
        states.setdefault(int(process), {})[kind] = tensor
    return [states[process] for process in sorted(states)]


def check_tensors(checkpoint: Path, model: nn.Module, trained: list[str], num_processes: int) -> None:
    """Whether the tensors of a checkpoint are those of this model, its optimizer and its processes; reads no values.

    Args:
        trained: names of the parameters that are trained.

    Raises:
        ValueError: names the file, and a tensor that is missing, unknown or of another shape.
    """
    state = model.state_dict(keep_vars=True)  # the parameters themselves: a shared one is one object
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    found = _shapes(checkpoint / "model.safetensors")
    # A shared tensor is saved under one of its names.
    saved = {id(state[name]) for name in found if name in state}
    needed = [name for name, tensor in state.items() if id(tensor) not in saved]
    _compare("model.safetensors", found, shapes, needed)

    moments = {f"{name}/{kind}": shapes[name] for name in trained for kind in ("exp_avg", "exp_avg_sq")}
    moments |= {f"{name}/step": [] for name in trained}
    found = _shapes(checkpoint / "optimizer.safetensors")
    _compare("optimizer.safetensors", found, moments, [*moments] if found else [])  # none: fp16 skipped every step

    found = _shapes(checkpoint / "random_states.safetensors")
    needed = [f"{process}/cpu" for process in range(num_processes)]
    expected = {name: shape for name, shape in found.items() if re.fullmatch(r"\d+/(cuda|xla)", name)}
    expected |= {name: list(torch.get_rng_state().shape) for name in needed}
    _compare("random_states.safetensors", found, expected, needed)


def _shapes(path: Path) -> dict[str, list[int]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} holds no tensors ({error})") from None


def _compare(file: str, found: dict[str, list[int]], shapes: dict[str, list[int]], needed: list[str]) -> None:
    missing = [name for name in needed if name not in found]
    odd = [name for name, shape in found.items() if shapes.get(name) != shape]
    if missing or odd:
        what = f"lacks {missing[0]}" if missing else f"has {odd[0]}, unknown here or of another shape"
        raise ValueError(f"{file} {what}: of another model, or written by another release?")


def copy_weights(model: nn.Module, checkpoint: Path) -> None:
    """Copy a checkpoint's weights, which fit, into `model`, in place, so that an optimizer keeps its parameters."""
    state = model.state_dict(keep_vars=True)  # on any device; a shared tensor is written under one of its names
    with torch.no_grad():
        for name, tensor in load_file(checkpoint / "model.safetensors").items():
            state[name].copy_(tensor)


def broadcast_weights(model: nn.Module) -> None:
    """Give every process the first one's weights."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    for tensor in [*model.parameters(), *model.buffers()]:
        dist.broadcast(tensor.data, 0)
