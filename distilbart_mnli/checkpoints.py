"""Checkpoints: written whole or not at all, checked before they are used, nothing in them a pickle.

    output_dir/checkpoint-<optimizer step>/
        config.json, model.safetensors, tokenizer files    a stock model, float32: it loads anywhere
        optimizer.safetensors                              AdamW's moments, "<parameter>/<name>"
        random_states.safetensors                          all processes' generators: "<process>/cpu", ".../cuda", xla
        trainer_state.json                                 transformers.TrainerState's keys, `run`, and `resume`
        manifest.json                                      size and SHA-256 of every other file; written last

A checkpoint is written to a neighbour with a temporary name, every file is fsynced, the folder is renamed, the parent
is fsynced. So a folder named checkpoint-* is whole unless its disk or a person damaged it, which the manifest shows.
Old checkpoints go after the new one is whole, never before, and never the best one.

Only the first process writes, and only it reads: what the others need travels through the process group, so machines
need no shared disk.
"""

import hashlib
import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from accelerate.utils import is_torch_xla_available
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from distilbart_mnli import xla
from distilbart_mnli.batching import digest_of
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import TEMPORARY, sync

logger = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-(\d+)")
MANIFEST = "manifest.json"
STATE = "trainer_state.json"


# ---------------------------------------------------------------------------------------------------------------------
# Writing whole


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(final: Path, write: Callable[[Path], None], what: str, safe: str) -> None:
    """Let `write` fill a temporary neighbour of `final`, then put it in place of whatever is there.

    Args:
        what: for messages: "checkpoint-300".
        safe: for messages: what is still whole if this fails.

    Raises:
        RunError: no space left, or another error of the disk; the temporary folder is gone then.
    """
    temporary = final.with_name(TEMPORARY + final.name)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        sums = {
            str(path.relative_to(temporary)): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files
        }
        (temporary / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")
        for path in [*files, temporary / MANIFEST]:
            sync(path)
        sync(temporary)
        if final.exists():
            # A folder cannot be renamed over another one: move the old one aside first. Killed in between, neither
            # name is there and the checkpoint before this one counts.
            aside = final.with_name(TEMPORARY + "old-" + final.name)
            shutil.rmtree(aside, ignore_errors=True)
            final.rename(aside)
            temporary.rename(final)
            shutil.rmtree(aside)
        else:
            temporary.rename(final)
        sync(final.parent)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # tokenizers reports the disk's errors with a bare Exception: "No space left on device (os error 28)".
        if not isinstance(error, OSError | SafetensorError) and "(os error " not in str(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(f"{what} could not be written to {final.parent}: {reason}; {safe}") from None


def remove_leftovers(output_dir: Path) -> None:
    """Remove what a killed run left half written."""
    for path in output_dir.glob(TEMPORARY + "*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------------------------
# Finding


def checkpoints_in(output_dir: Path) -> list[Path]:
    """All checkpoint folders, the lowest step first; whole or not."""
    found = [(int(match[1]), path) for path in output_dir.glob("checkpoint-*") if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found) if path.is_dir()]


def read_state(checkpoint: Path) -> dict[str, Any]:
    """trainer_state.json of a checkpoint that is whole.

    Raises:
        ValueError: it is not whole; the message names the file.
    """
    try:
        sums = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        for name, entry in sums.items():
            path = checkpoint / name
            if path.stat().st_size != entry["bytes"]:
                raise ValueError(f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}")
            if _sha256(path) != entry["sha256"]:
                raise ValueError(f"{name} does not have its checksum")
        for name in ("model.safetensors", "optimizer.safetensors", "random_states.safetensors", STATE):
            if name not in sums:
                raise ValueError(f"{name} is missing")
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("resume"), dict):
            raise ValueError(f"{STATE} holds nothing to resume from")
        return state
    except OSError as error:
        raise ValueError(f"{Path(error.filename or MANIFEST).name}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{MANIFEST} or {STATE} is damaged ({error})") from None


def read_resumable(checkpoint: Path) -> dict[str, Any]:
    """read_state, and for a run that is to end with its best checkpoint a look at that one, which stands beside it.

    Raises:
        ValueError: one of the two is not whole.
    """
    state = read_state(checkpoint)
    best = _best_of(state)
    if best is not None and best != checkpoint.name:
        try:
            read_state(checkpoint.parent / best)
        except ValueError as error:
            raise ValueError(f"its best checkpoint so far, {best}, is not: {error}") from None
    return state


def load_file(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is something else, although the manifest says that it should be.
    """
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} holds no tensors ({error}); remove its folder, or resume from another one") from None


def _best_of(state: dict[str, Any]) -> str | None:
    """Name of the best checkpoint so far, if the run is to end with it."""
    recipe = state["resume"].get("recipe") or {}
    return state.get("best_model_checkpoint") if recipe.get("load_best_model_at_end") else None


def find_resumable(output_dir: Path, asked: str) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from and its state.

    Args:
        asked: "true": the newest whole one, None if output_dir has none yet; else the path of one.
            (Where a best one is needed and is not whole, the run goes on from before it and makes it again.)

    Raises:
        InputError: the one asked for is missing or not whole; or there are some, and none is whole.
    """
    if asked != "true":
        path = Path(asked)
        if not path.is_dir():
            raise InputError(f"resume_from_checkpoint: {path} is no folder")
        try:
            return path, read_resumable(path)
        except ValueError as error:
            raise InputError(
                f"resume_from_checkpoint: {path} is not whole: {error}; give another one, or true"
            ) from None
    # A new training over old results leaves the old run's checkpoints until its own first one is whole. The newest
    # run counts, and in it the highest step. Only as many are read in full as it takes to find one that is whole.
    found = sorted(checkpoints_in(output_dir), key=_age, reverse=True)
    for path in found:
        try:
            return path, read_resumable(path)
        except ValueError as error:
            logger.warning("%s is not whole (%s): passed over", path.name, error)
    if found:
        raise InputError(
            f"none of the checkpoints in {output_dir} is whole; remove them, or start anew with --overwrite_output_dir"
        )
    return None


def bring_best(checkpoint: Path, output_dir: Path, state: dict[str, Any]) -> None:
    """Copy the best checkpoint of a run that is resumed from another folder into output_dir, where it is looked for.

    Raises:
        RunError: no space left.
    """
    best = _best_of(state)
    if best is None or checkpoint.parent.resolve() == output_dir.resolve() or (output_dir / best).exists():
        return

    def write(folder: Path) -> None:
        shutil.copytree(checkpoint.parent / best, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))

    write_whole(output_dir / best, write, f"a copy of {best}", f"{checkpoint} is whole")


def rotate(output_dir: Path, keep_last: int | None, keep: Iterable[Path], foreign_run: str | None = None) -> None:
    """Remove old checkpoints, now that a newer one is whole.

    Args:
        keep_last: how many to keep; None: all.
        keep: never removed: the new one and the best one.
        foreign_run: this run's id, at its first save: checkpoints of other runs go as well.
    """
    kept = {path.resolve() for path in keep}
    own = []
    for path in checkpoints_in(output_dir):
        if path.resolve() not in kept and foreign_run is not None and _resume_of(path).get("run_id") != foreign_run:
            _remove(path)
        else:
            own.append(path)
    if keep_last is None:
        return
    removable = [path for path in own if path.resolve() not in kept]
    for path in removable[: max(0, len(own) - keep_last)]:
        _remove(path)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint under another name, so that a run killed meanwhile leaves no half of one."""
    aside = checkpoint.with_name(TEMPORARY + "old-" + checkpoint.name)
    try:
        checkpoint.rename(aside)
    except OSError:
        aside = checkpoint
    shutil.rmtree(aside, ignore_errors=True)


def _resume_of(checkpoint: Path) -> dict[str, Any]:
    """What trainer_state.json says, unchecked; {} if it says nothing."""
    try:
        return dict(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["resume"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _age(checkpoint: Path) -> tuple[float, int]:
    match = NAME.fullmatch(checkpoint.name)
    started = _resume_of(checkpoint).get("run_started", math.inf)  # damaged: reported first, then passed over
    return (started if isinstance(started, int | float) else math.inf, int(match[1]) if match else 0)


# ---------------------------------------------------------------------------------------------------------------------
# Optimizer and random states as tensors by name


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


# ---------------------------------------------------------------------------------------------------------------------
# The recipe


def recipe_difference(saved: dict[str, Any], current: dict[str, Any]) -> str | None:
    """What differs between the recipe of a checkpoint and this run's, as "name: then -> now, ..."; None if nothing."""
    different = []
    for name in sorted({*saved, *current}):
        then, now = saved.get(name), current.get(name)
        if then != now:
            shown = [value[:12] if isinstance(value, str) and len(value) == 64 else value for value in (then, now)]
            different.append(f"{name}: {json.dumps(shown[0])} -> {json.dumps(shown[1])}")
    return ", ".join(different) or None


def text_digest(digest: str, labels: np.ndarray | None) -> str:
    """Digest of a set as training sees it: its tokens and its labels."""
    return digest_of(digest, "" if labels is None else labels)


def plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """The part of a scheduler's state that JSON can hold; the rest are functions, which get_scheduler makes again."""
    plain: dict[str, Any] = {}
    for key, value in state.items():
        try:
            plain[key] = json.loads(json.dumps(value))
        except TypeError:
            continue
    plain.pop("lr_lambdas", None)
    return plain


# ---------------------------------------------------------------------------------------------------------------------
# Weights


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
