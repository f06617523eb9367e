"""A model's folder that appears whole or not at all, and never in the place of something that is no model."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from distilbart_mnli.errors import InputError
from distilbart_mnli.files import sync
from distilbart_mnli.model.teacher import is_local

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def check_save_path(save_path: Path, teacher_name_or_path: str, overwrite: bool = False) -> None:
    """Whether a student may be written to `save_path`; touches nothing.

    Raises:
        InputError: a file, a folder that cannot be replaced or written beside, a folder with something in it without
            `overwrite`, with `overwrite` one that is no model's, or the teacher itself.
    """
    path = save_path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"save_path {save_path}: is a file; expected a new or an empty folder")
    if path.is_dir():
        if path == Path.cwd() or os.path.ismount(path):
            raise InputError(f"save_path {save_path}: the current folder or a mount point; name a folder in it")
        teacher = Path(teacher_name_or_path).resolve()
        if is_local(teacher_name_or_path) and (path == teacher or path in teacher.parents):
            raise InputError(f"save_path {save_path}: holds the teacher; name another folder")
        try:
            empty = not any(path.iterdir())
        except OSError as error:
            raise InputError(f"save_path {save_path}: cannot be read: {error.strerror}") from error
        if not empty and not overwrite:
            raise InputError(f"save_path {save_path}: is not empty; name another folder, or give --overwrite")
        if not empty and (reason := _no_model(path)):
            raise InputError(
                f"save_path {save_path}: {reason}, so --overwrite does not delete it; name another folder"
            )
    ancestor = path.parent
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise InputError(f"save_path {save_path}: {ancestor.name} is a file, so no folder can be made in it")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise InputError(f"save_path {save_path}: the folder above it is not writable")


def _no_model(folder: Path) -> str | None:
    """Why a folder does not look like a single model, or None. What has folders in it is more than a model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or "model_type" not in config:
        return "has no config.json of a model"
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        return "has no weights of a model"
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return f"has a folder in it ({inner[0]})" if inner else None


@contextlib.contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A temporary neighbour of `final` to write into, synced and renamed to `final` at the end; on any error, removed.

    What was at `final` goes only when the new one stands in its place.
    """
    final = final.resolve()
    made = [parent for parent in final.parents if not parent.exists()]
    partial, old = (final.with_name(f".{final.name}.{suffix}-{os.getpid()}") for suffix in ("partial", "old"))
    done = False
    try:
        partial.mkdir(parents=True)
        yield partial
        for entry in sorted(partial.iterdir()):
            sync(entry)
        sync(partial)
        if final.exists():
            final.rename(old)
        try:
            partial.rename(final)
        except OSError:
            if old.exists():
                old.rename(final)
            raise
        done = True
        sync(final.parent)
    finally:
        if not done:
            shutil.rmtree(partial, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()
        elif old.exists():
            shutil.rmtree(old)
