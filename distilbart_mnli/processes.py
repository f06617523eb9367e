"""Agreement among the processes of one run, and one run per output folder.

    lock = lock_output_dir(output_dir, is_main)     # held until the process ends, however it ends
    raise_on_all_ranks(error)                       # one process's failure is everybody's, with one message
    step = max_over_ranks(step)                     # "has anyone been signalled?", in every step

Processes agree through a gloo group on the CPU, never through the device: a question asked in every step must not wait
for the GPU's queue. Functions that talk to the others say so: all processes must call them, in the same order.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import PartialState

from distilbart_mnli.errors import CommandError, InputError, RunError
from distilbart_mnli.files import FileLock, LocksNotSupported, lock_file, lock_holder

logger = logging.getLogger(__name__)

# How long the others wait for one process: for its download, its encoder cache, its upload to the Hub. A process that
# dies closes its connections, which ends the wait at once, so this may be long.
WAITING_TIMEOUT = timedelta(days=2)

# ---------------------------------------------------------------------------------------------------------------------
# One first process per output folder


def lock_output_dir(output_dir: str | Path, is_main: bool) -> FileLock:
    """Lock `output_dir`/.lock on the main process (made with the folder if need be); elsewhere, a lock of nothing.

    Raises:
        InputError: another process holds it, named with its machine; or the folder cannot be written.
    """
    path = Path(output_dir) / ".lock"
    if not is_main:
        return FileLock(path, None)
    try:
        lock = lock_file(path)
    except LocksNotSupported as error:  # the run is still good
        warn_once(
            f"{output_dir}: this disk has no locks ({error.strerror}); two runs in it would not notice each other"
        )
        return FileLock(path, None)
    except OSError as error:
        raise InputError(f"{output_dir}: output_dir cannot be written: {error.strerror}") from error
    if lock is None:
        raise InputError(
            f"{output_dir}: {lock_holder(path)} is writing to this output_dir; wait for it or choose another. If one "
            "launch started both, its processes did not find each other: use a file of accelerate_configs/"
        )
    return lock


# ---------------------------------------------------------------------------------------------------------------------
# Agreement among processes, without the device

_groups: dict[str, dist.ProcessGroup] = {}
exchange: Callable[[object], list] | None = None
"""How values travel among processes that have no group of torch's; set by who knows one (train/device.py)."""


def cpu_group() -> dist.ProcessGroup | None:
    """The gloo group on the CPU; None where there is one process. The first call must come from all processes."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    if "cpu" not in _groups:
        _groups["cpu"] = dist.new_group(backend="gloo", timeout=WAITING_TIMEOUT)
    return _groups["cpu"]


def leave_groups() -> None:
    """Close the gloo groups, whose threads must be gone before Python is; runs at the exit of the process.

    A gloo thread that is still letting go of a tensor while the interpreter shuts down aborts the process ("terminate
    called without an active exception", exit code 134 instead of the run's own; seen in about one exit in ten). NCCL's
    group is left to the kernel: closing it can wait for processes that are no longer there.
    """
    _groups.clear()
    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def follow_launcher(environment: Mapping[str, str]) -> None:
    """Under a launcher, on Linux: have the kernel send this process SIGTERM when the launcher is gone.

    `accelerate launch` of one process dies of the first SIGTERM and passes nothing on, and any launcher can be killed:
    without this the training would go on unseen, holding GPU and output folder. With it, it saves and ends.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment or "TORCHELASTIC_RUN_ID" in environment
    if launched and sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def gather_objects(value: object) -> list:
    """Every process's value, in the order of ranks, on every process. All processes must call it."""
    group = cpu_group()
    if group is None:
        return [value] if exchange is None else exchange(value)
    values: list = [None] * dist.get_world_size()
    with _peers_alive():
        dist.all_gather_object(values, value, group=group)
    return values


def max_over_ranks(value: int) -> int:
    """The largest of all processes' values; cheap enough for every step. All processes must call it."""
    group = cpu_group()
    if group is None:
        return max(gather_objects(value))
    number = torch.tensor(value, dtype=torch.int64)
    with _peers_alive():
        dist.all_reduce(number, dist.ReduceOp.MAX, group=group)
    return int(number)


def barrier() -> None:
    """A barrier on the CPU that waits as long as it takes. All processes must call it."""
    max_over_ranks(0)


def raise_on_all_ranks(error: CommandError | None) -> None:
    """Raise on every process if any has an error. All processes must call it, each with its own error or None.

    The lowest rank that has one with a message raises it; the others raise a CommandError without a message and with
    the same exit code, a moment later, because a launcher ends everybody as soon as one process is gone.
    """
    errors = gather_objects(None if error is None else (str(error), error.exit_code))
    failed = [rank for rank, found in enumerate(errors) if found is not None]
    if not failed:
        return
    # An error without a message was raised by another rank's, in a part of the run inside this one.
    speaker = next((rank for rank in failed if errors[rank][0]), failed[0])
    if error is not None and speaker == PartialState().process_index:
        raise error
    time.sleep(1)
    raise CommandError("", errors[speaker][1])


@contextlib.contextmanager
def same_outcome_on_all_ranks() -> Iterator[None]:
    """A part of the run that succeeds on all processes or ends on all of them, with one message."""
    error: CommandError | None = None
    try:
        yield
    except CommandError as problem:
        error = problem
    raise_on_all_ranks(error)


def ranks_sharing(folder: str | Path) -> list[int]:
    """The ranks that see the same `folder` as this one, itself included, in order. All processes must call it.

    Machines without a shared disk each need their own copy of what the first process writes. Each rank puts a file
    with a name never used before into the folder and looks for the others' by name, because a network disk may
    answer a listing from its cache but has to ask the server about a name it has never seen.

    Raises:
        InputError: the folder cannot be written on some process; on all of them.
    """
    folder, rank = Path(folder), PartialState().process_index
    token = gather_objects(uuid.uuid4().hex)[0]
    names = [f".seen-{token}-{other}" for other in range(PartialState().num_processes)]
    with same_outcome_on_all_ranks():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / names[rank]).touch()
        except OSError as error:
            raise InputError(f"{folder}: cannot be written on process {rank}: {error.strerror}") from None
    seen = [other for other, name in enumerate(names) if (folder / name).exists()]
    barrier()
    (folder / names[rank]).unlink(missing_ok=True)
    return seen


@contextlib.contextmanager
def _peers_alive() -> Iterator[None]:
    """gloo's RuntimeError about a closed connection, as one line."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            f"another process of this run is gone ({error}); what ended it is in its own output, or it was killed"
        ) from error


def warn_once(message: str) -> None:
    """A warning from the first process alone: before the processes have met, nobody else could hold the rest back."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(message)


def spoken_once(message: str) -> CommandError:
    """The error with its message on the first process of each machine, without one on its neighbours."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        return InputError(message)
    time.sleep(1)  # see raise_on_all_ranks
    return CommandError("", InputError.exit_code)
