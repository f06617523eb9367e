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

import contextlib
import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import atomic_folder, path_inside, remove, sha256
from distilbart_mnli.train.record import Record, from_json

logger = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-(\d+)")
MANIFEST = "manifest.json"
STATE = "trainer_state.json"


# ---------------------------------------------------------------------------------------------------------------------
# Writing whole


@contextlib.contextmanager
def disk_errors(what: str, folder: Path, safe: str) -> Iterator[None]:
    """An error of the disk, whichever library meets it, as one line.

    Args:
        what: that was written to `folder`: "checkpoint-300".
        safe: what is still whole.

    Raises:
        RunError: no space left, or another error of the disk.
    """
    try:
        yield
    except Exception as error:
        # tokenizers reports the disk's errors with a bare Exception: "No space left on device (os error 28)".
        if not isinstance(error, OSError | SafetensorError) and "(os error " not in str(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(f"{what} could not be written to {folder}: {reason}; {safe}") from None


def write_checkpoint(final: Path, write: Callable[[Path], None], what: str, safe: str) -> None:
    """Let `write` fill a temporary neighbour of `final`, add the manifest, put it in place of whatever is there.

    Args:
        what, safe: for messages (disk_errors).

    Raises:
        RunError: no space left, or another error of the disk; the temporary folder is gone then.
    """
    with disk_errors(what, final.parent, safe), atomic_folder(final) as folder:
        write(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
        }
        (folder / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def last_good_checkpoint(output_dir: Path, run_id: str) -> str:
    """For messages: what this run can go on from."""
    found = _newest_of(output_dir, run_id)
    return f"the last good checkpoint is {found}" if found else "there is no checkpoint yet"


def when_there_is_space(output_dir: Path, run_id: str) -> str:
    """For messages: what to do about a full disk."""
    found = _newest_of(output_dir, run_id)
    whole = f"resume; {found} is whole" if found else "start again; nothing of this run is on the disk"
    return f"free some space and {whole}"


def _newest_of(output_dir: Path, run_id: str) -> Path | None:
    """An earlier training's checkpoints stay until this one's first is whole, and are not this one's."""
    own = [path for path in checkpoints_in(output_dir) if _run_id(path) == run_id]
    return own[-1] if own else None


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
        sums = _read_json(checkpoint, MANIFEST)
        for name, entry in sums.items():
            path = _file(checkpoint, name)
            if path.stat().st_size != entry["bytes"]:
                raise ValueError(f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}")
            if sha256(path) != entry["sha256"]:
                raise ValueError(f"{name} does not have its checksum")
        for name in ("model.safetensors", "optimizer.safetensors", "random_states.safetensors", STATE):
            if name not in sums:
                raise ValueError(f"{name} is missing")
        state = _read_json(checkpoint, STATE)
        if not isinstance(state, dict) or not isinstance(state.get("resume"), dict):
            raise ValueError(f"{STATE} holds nothing to resume from")
        return state
    except OSError as error:
        raise ValueError(f"{Path(error.filename or MANIFEST).name}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} or {STATE} is damaged ({error})") from None


def _file(checkpoint: Path, name: str) -> Path:
    """A file of a checkpoint; raises ValueError for a name that leads out of it, a link, and what is no plain file."""
    try:
        path = path_inside(checkpoint, name)
    except InputError as error:
        raise ValueError(str(error)) from None
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device has no end
        raise ValueError(f"{name} is no file")
    return path


def _read_json(checkpoint: Path, name: str) -> Any:
    try:
        return json.loads(_file(checkpoint, name).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply") from None


def read_record(checkpoint: Path) -> Record:
    """What a whole checkpoint says of the training.

    Raises:
        ValueError: it is not whole, or of another release.
    """
    state = read_state(checkpoint)
    record = from_json(Record, state["resume"], "resume")
    best, named = record.progress.best_step, state.get("best_model_checkpoint")
    if named not in (None, f"checkpoint-{best}"):
        raise ValueError(f"{STATE} names {str(named)[:60]!r} as its best checkpoint, but best_step is {best}")
    return record


def read_resumable(checkpoint: Path, check: Callable[[Path, Record], None] = lambda *_: None) -> Record:
    """read_record, and for a run that is to end with its best checkpoint a look at that one, which stands beside it.

    Args:
        check: raises ValueError if a checkpoint, whole as it is, does not fit the run.

    Raises:
        ValueError: one of the two cannot be used.
    """
    record = read_record(checkpoint)
    check(checkpoint, record)
    if record.needs_best not in (None, checkpoint.name):
        best = checkpoint.parent / str(record.needs_best)
        try:
            of_best = read_record(best)
            if of_best.run_id != record.run_id:
                raise ValueError("it is another training's")
            check(best, of_best)
        except ValueError as error:
            raise ValueError(f"its best checkpoint so far, {best.name}, is not: {error}") from None
    return record


def find_resumable(
    output_dir: Path, asked: str, check: Callable[[Path, Record], None] = lambda *_: None
) -> tuple[Path, Record] | None:
    """The checkpoint to go on from and its record.

    Args:
        asked: "true": the newest one that can be used, None if output_dir has none yet; else the path of one.
            (Where a best one is needed and is not whole, the run goes on from before it and makes it again.)
        check: as for read_resumable.

    Raises:
        InputError: the one asked for is missing or cannot be used; or there are some, and none can be.
    """
    if asked != "true":
        path = Path(asked)
        if not path.is_dir():
            raise InputError(f"resume_from_checkpoint: {path} is no folder")
        try:
            return path, read_resumable(path, check)
        except ValueError as error:
            raise InputError(
                f"resume_from_checkpoint: {path} is not whole: {error}; give another one, or true"
            ) from None
    # A new training over old results leaves the old run's checkpoints until its own first one is whole. The newest
    # run counts, alone, and in it the highest step. Only as many are read in full as it takes to find one that is
    # whole.
    found, newest = sorted(checkpoints_in(output_dir), key=_age, reverse=True), None
    for path in found:
        run_id = _run_id(path)
        if newest and run_id and run_id != newest:
            break
        newest = newest or run_id
        try:
            return path, read_resumable(path, check)
        except ValueError as error:
            logger.warning("%s is not whole (%s): passed over", path.name, error)
    if found:
        raise InputError(
            f"no checkpoint of the newest training in {output_dir} is whole; remove them, or start anew with "
            "--overwrite_output_dir"
        )
    return None


def bring_best(checkpoint: Path, output_dir: Path, record: Record) -> None:
    """Copy the best checkpoint of a run that is resumed from another folder into output_dir, where it is looked for.

    Raises:
        RunError: no space left.
    """
    best = record.needs_best
    if best is None or checkpoint.parent.resolve() == output_dir.resolve():
        return
    if _run_id(output_dir / best) == record.run_id:
        return
    source = checkpoint.parent / best

    def write(folder: Path) -> None:
        for name in json.loads((source / MANIFEST).read_text(encoding="utf-8")):  # and nothing else, read_state saw it
            target = path_inside(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path_inside(source, name), target)

    write_checkpoint(output_dir / best, write, f"a copy of {best}", f"{checkpoint} is whole")


def rotate(output_dir: Path, keep_last: int | None, keep: Iterable[Path], foreign_run: str | None = None) -> None:
    """Remove old checkpoints, now that a newer one is whole.

    Args:
        keep_last: how many to keep; None: all.
        keep: not removed for their age: the new one and the best one.
        foreign_run: this run's id, at its first save: checkpoints of other runs go as well.
    """
    kept = {path.resolve() for path in keep}
    own = []
    for path in checkpoints_in(output_dir):
        if foreign_run is not None and _run_id(path) != foreign_run:
            remove(path)
        else:
            own.append(path)
    if keep_last is None:
        return
    removable = [path for path in own if path.resolve() not in kept]
    for path in removable[: max(0, len(own) - keep_last)]:
        remove(path)


def _resume_of(checkpoint: Path) -> dict[str, Any]:
    """What trainer_state.json says, unchecked; {} if it says nothing."""
    try:
        return dict(_read_json(checkpoint, STATE)["resume"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _run_id(checkpoint: Path) -> str | None:
    """Which training's it is; None if it does not say."""
    found = _resume_of(checkpoint).get("run_id")
    return found if isinstance(found, str) else None


def _age(checkpoint: Path) -> tuple[float, int]:
    match = NAME.fullmatch(checkpoint.name)
    started = _resume_of(checkpoint).get("run_started", math.inf)  # damaged: reported first, then passed over
    return (started if isinstance(started, int | float) else math.inf, int(match[1]) if match else 0)
