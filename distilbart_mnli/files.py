"""Files and folders that appear whole or not at all, and the lock that keeps two processes apart.

    with atomic_file(output_dir / "all_results.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_folder(output_dir / "checkpoint-300") as temporary:
        model.save_pretrained(temporary)
    lock = lock_file(output_dir / ".lock")      # None: another process holds it

They are written beside their place, synced, and renamed into it. A run that is killed, a full disk or a power cut then
leaves what was there before, or nothing; never a half of it.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from distilbart_mnli.errors import InputError, RunError

TEMPORARY = ".writing-"
"""What the name of everything begins with that is not whole yet."""


def check_output_dir(folder: Path) -> None:
    """Whether a command can write to its output_dir, or make it; touches nothing.

    Raises:
        InputError: it is a file or below one, it or the folder above it is not writable, its name is too long.
    """
    existing = folder
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
    except OSError as error:  # a name too long, a folder above it that may not be entered
        raise InputError(f"output_dir {folder}: cannot be used: {error.strerror}") from None
    if not existing.is_dir():
        raise InputError(f"output_dir {folder}: {existing} is a file; expected a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output_dir {folder}: {existing} is not writable")


def sync(path: Path) -> None:
    """fsync a file's bytes; or a folder's own entries, so that a rename in it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path, safe: str = "") -> Iterator[Path]:
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


@contextlib.contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """A temporary neighbour of `final` to write into; at the end synced and renamed to `final`, on any error removed.

    What was at `final` goes only when the new folder stands in its place. A folder cannot be renamed over another one:
    killed between the two renames, the old one is in `.writing-old-NAME`, and the next call puts it back.
    Errors of the disk are the caller's to explain.
    """
    final = final.resolve()
    temporary, old = (final.with_name(f"{TEMPORARY}{prefix}{final.name}") for prefix in ("", "old-"))
    made = [parent for parent in final.parents if not parent.exists()]
    done = False
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.rglob("*")):
            sync(path)
        sync(temporary)
        if final.exists():
            final.rename(old)
        try:
            temporary.rename(final)
        except OSError:
            if old.exists():
                old.rename(final)
            raise
        done = True
        sync(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if not done:
            shutil.rmtree(temporary, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()


# ---------------------------------------------------------------------------------------------------------------------
# Locks


class LocksNotSupported(OSError):
    """A disk, usually a network's, that knows no locks."""


class FileLock:
    """Held until it is released; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path, file: IO | None):
        self.path, self._file = path, file
        if file is not None:
            # A forked worker inherits the lock and could outlive a killed run: it gives up its share at once.
            os.register_at_fork(after_in_child=self._forget)
            atexit.register(self.release)

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def release(self) -> None:
        """Remove the file and let go. Safe to call again."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)  # while it is still held, so that it cannot be another's
            self._forget()
            atexit.unregister(self.release)

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_file(path: Path, wait: bool = False) -> FileLock | None:
    """Lock `path`, a file of this purpose alone; None if another process holds it and `wait` is false.

    Raises:
        LocksNotSupported: the disk has none.
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            file.close()
            raise LocksNotSupported(error.errno, error.strerror, str(path)) from None
        # The holder before us removes the file: what we opened before that is nobody's lock any more.
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return FileLock(path, file)


def lock_holder(path: Path) -> str:
    """Who holds the lock, as it says itself: "process 123 on host"."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"
