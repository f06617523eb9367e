"""Files and folders that appear whole or not at all, names out of files, and the lock that keeps two processes apart.

    with atomic_file(output_dir / "all_results.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_folder(output_dir / "checkpoint-300") as temporary:
        model.save_pretrained(temporary)
    path = path_inside(checkpoint, name)        # `name` stands in a file that may be anybody's
    lock = lock_file(output_dir / ".lock")      # None: another process holds it

They are written beside their place, synced, and renamed into it. A run that is killed, a full disk or a power cut then
leaves what was there before, or nothing; never a half of it. They have the mode that the umask gives.

A folder can come from elsewhere, with links in it that lead out of it. None is written through: a temporary name is
new and cannot be laid out beforehand, and a rename replaces a link, not what it leads to.
"""

import atexit
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from distilbart_mnli.errors import InputError, RunError

TEMPORARY = ".writing-"
"""What the name of everything begins with that is not whole yet."""
OLD = TEMPORARY + "old-"
"""And of a folder that its successor is about to replace."""
_OURS = re.compile(rf"{re.escape(TEMPORARY)}(?:[0-9a-f]{{16}}-|old-)")


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


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_inside(folder: Path, name: object, links: bool = False) -> Path:
    """The path of what a file calls `name`, which must lie inside `folder`; it need not be there.

    Args:
        name: as it was read, of any type.
        links: whether it may be a link: in the Hub's cache every file is one.

    Raises:
        InputError: it is no text or empty, absolute, leads out of the folder, or goes through a link.
    """
    problem = None
    if not isinstance(name, str) or not name or "\0" in name:
        problem = "is no name of a file"
    elif Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts:
        problem = "is not inside it"
    elif not links:
        inner = [folder.joinpath(*Path(name).parts[: count + 1]) for count in range(len(Path(name).parts))]
        problem = next((f"goes through a link ({path.name})" for path in inner if path.is_symlink()), None)
    if problem:
        raise InputError(f"{folder}: a file in this folder names {str(name)[:100]!r}, which {problem}")
    return folder / str(name)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder, as far as the disk allows.

    A folder gets a temporary name first, so that a run killed meanwhile leaves no half of one under its own.
    """
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        aside = _temporary_name(path.parent, path.name)
        try:
            path.rename(aside)
        except OSError:
            aside = path
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path, owned: bool = False) -> None:
    """Remove what dead processes left half written in `folder`, and put back a folder that one was about to replace.

    What a living process writes it holds locked.

    Args:
        owned: nobody else writes here: then also where the disk has no locks to ask, and what earlier releases left.
    """
    for path in folder.glob(TEMPORARY + "*"):
        if not owned and not _OURS.match(path.name):
            continue
        with contextlib.ExitStack() as stack:
            dead = path.is_symlink()  # ours never are
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                dead = True
            except BlockingIOError:
                continue
            except OSError:
                dead = dead or owned
            final = path.with_name(path.name.removeprefix(OLD))
            was_replaced = path.name.startswith(OLD) and path.is_dir() and not path.is_symlink()
            if dead and was_replaced and not os.path.lexists(final):
                with contextlib.suppress(OSError):
                    path.rename(final)
            elif dead:
                remove(path)


def _temporary_name(folder: Path, name: str) -> Path:
    return folder / f"{TEMPORARY}{secrets.token_hex(8)}-{name[-100:]}"


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Lock a file or folder against remove_leftovers, where its disk has locks; false if it is not there."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield os.path.lexists(path)


@contextlib.contextmanager
def _temporary(folder: Path, name: str, make: Callable[[Path], None]) -> Iterator[Path]:
    """What `make` makes new in `folder`, held while it is written; at the end removed, if it is still there."""
    remove_leftovers(folder)
    while True:
        path = _temporary_name(folder, name)
        make(path)
        with _held(path) as kept:
            if not kept:
                continue
            try:
                yield path
            finally:
                remove(path)
            return


@contextlib.contextmanager
def atomic_file(path: Path, safe: str = "") -> Iterator[Path]:
    """A temporary neighbour of `path` to write; at the end synced and renamed to `path`, on any error removed.

    Args:
        path: its folder is made if it is not there.
        safe: for the message: what is whole although this failed.

    Raises:
        RunError: no space left, or another error of the disk.
    """

    def make(temporary: Path) -> None:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent, path.name, make) as temporary:
            mode = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            with contextlib.suppress(OSError):  # a disk without modes
                temporary.chmod(mode)  # some libraries write a file of their own and rename it
            sync(temporary)
            temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"{path} could not be written: {reason}{'; ' * bool(safe)}{safe}") from None


def temporary_folder(parent: Path, name: str) -> contextlib.AbstractContextManager[Path]:
    """A new folder in `parent` to write into and to take from; at the end removed. Errors of the disk are OSErrors."""
    return _temporary(parent, name, Path.mkdir)


def finish_folder(folder: Path) -> None:
    """Sync everything in `folder`, and give its files the mode that the umask gives.

    safetensors writes for the owner alone. What the umask says is read from the folder, which was just made.
    """
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with contextlib.suppress(OSError):  # a disk without modes
                path.chmod(mode)
        sync(path)
    sync(folder)


@contextlib.contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """A temporary neighbour of `final` to write into; at the end synced and renamed to `final`, on any error removed.

    What was at `final` (a link itself, not what it leads to) goes only when the new folder stands in its place. A
    folder cannot be renamed over another one: killed between the two renames, the old one is in `.writing-old-NAME`,
    and remove_leftovers, which the next call begins with, puts it back. Errors of the disk are OSErrors.
    """
    parent = final.parent.resolve()
    final, old = parent / final.name, parent / (OLD + final.name)
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    done = False
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(parent, final.name) as temporary:
            yield temporary
            finish_folder(temporary)
            with _held(final) as replaces:
                if replaces:
                    final.rename(old)
                try:
                    temporary.rename(final)
                finally:  # also where a signal comes between the two
                    if replaces and not os.path.lexists(final):
                        old.rename(final)
            done = True
            sync(parent)
            remove(old)
    finally:
        if not done:
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


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
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            file = os.fdopen(os.open(path, flags, 0o666), "w", encoding="utf-8")
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, f"{path.name} in it is a link; remove it", str(path)) from None
            raise
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            file.close()
            raise LocksNotSupported(error.errno, error.strerror, str(path)) from None
        found = os.fstat(file.fileno())
        # The holder before us removes the file: what we opened before that is nobody's lock any more.
        if os.path.lexists(path) and path.lstat().st_ino == found.st_ino:
            if stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_nlink == 1:
                break
            # A dead process's. It is not written into, because it can be another file by a second name.
            path.unlink()
        file.close()
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return FileLock(path, file)


def lock_holder(path: Path) -> str:
    """Who holds the lock, as it says itself: "process 123 on host"."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    except OSError:
        return "another process"
