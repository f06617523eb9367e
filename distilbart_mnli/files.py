"""Files that appear whole or not at all: written beside their place, synced, renamed into it.

    with whole_file(output_dir / "all_results.json") as temporary:
        temporary.write_text(text, encoding="utf-8")

A run that is killed, a full disk or a power cut then leaves the file that was there before, or none; never a half of
one. (Folders: train/checkpoints.py and model/whole_folder.py.)
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from distilbart_mnli.errors import RunError

TEMPORARY = ".writing-"
"""What the name of everything begins with that is not whole yet."""


def sync(path: Path) -> None:
    """fsync a file's bytes; or a folder's own entries, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: Path, safe: str = "") -> Iterator[Path]:
    """A temporary neighbour of `path` to write; at the end synced and renamed to `path`, on any error removed.

    Args:
        path: its folder is made if it is not there.
        safe: for the message: what is whole although this failed.

    Raises:
        RunError: no space left, or another error of the disk.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"{path} could not be written: {reason}{'; ' * bool(safe)}{safe}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
