"""Whether a set's encoder outputs are cached, and building the cache (encoder_cache.py has its layout and its key).

    encoder = FrozenEncoder(model, "bfloat16", accelerator.autocast)
    request = CacheRequest("auto", passes=3, folder=default_folder(), max_gb=50)
    cache = open_or_build(encoder, split, request)    # None: not worth it, or there is no place for it

One pass over the set, shared by the processes that see the folder. While it is built it is `<key>.partial` with one
byte a batch in done.bin, so a killed build goes on where it was; the rename comes last. Batches are cut independently
of the number of processes, so their bits do not depend on it.
"""

import contextlib
import datetime
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import transformers
import xxhash
from accelerate import PartialState
from tqdm import tqdm

from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import InputError, RunError, cannot_write
from distilbart_mnli.files import FileLock, lock_file, remove, sync
from distilbart_mnli.model.encoder_cache import (
    EncoderCache,
    expected_meta,
    folder_bytes,
    lock_path,
    open_cache,
    partial_folder,
)
from distilbart_mnli.model.frozen_encoder import FrozenEncoder
from distilbart_mnli.processes import gather_objects, raise_on_all_ranks, ranks_sharing, same_outcome_on_all_ranks

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 20.0  # at most so much of a killed build is done again
FREE_DISK_SHARE = 0.8

# ---------------------------------------------------------------------------------------------------------------------
# Whether


@dataclass(frozen=True)
class CacheRequest:
    """What decides whether a set gets a cache."""

    option: str  # cache_encoder_outputs: "auto", "true" or "false"
    passes: float  # how often the run reads every example
    folder: Path  # of all caches
    max_gb: float  # the largest size of one
    resumed: bool | None = None  # what wins over the option: whether a checkpoint was made with a cache
    trains: bool = True  # without training, any encoder is constant
    unavailable: str | None = None  # why this device has no cache; None: it has


def open_or_build(
    encoder: FrozenEncoder, split: TokenizedSplit, request: CacheRequest, progress: bool = False
) -> EncoderCache | None:
    """The cache of a set's encoder outputs, if there is to be one. All processes must call it.

    Raises:
        InputError: it is wanted (by the option "true", or by the checkpoint) and cannot be had; on all processes.
        RunError: the disk is full, or failed.
    """
    wanted = request.option if request.resumed is None else str(request.resumed).lower()
    if wanted == "false" or (request.trains and not encoder.model.encoder_is_constant):
        return None
    if request.unavailable:
        if wanted == "true":
            raise_on_all_ranks(InputError(f"cache_encoder_outputs is true, but {request.unavailable}; take auto"))
        logger.info("encoder cache: none for %s: %s", split.name, request.unavailable)
        return None
    folder = request.folder / encoder.key(split)
    cache = open_cache(folder, split, encoder)
    if all(gather_objects(cache is not None)):
        logger.info("encoder cache: %s is read from %s", split.name, folder)
        return cache
    size = encoder.cache_bytes(split)
    passes = request.passes if wanted == "auto" else float("inf")
    reasons = [reason for reason in gather_objects(refuse_reason(size, folder, request.max_gb, passes)) if reason]
    if reasons and wanted == "true":
        why = "cache_encoder_outputs is true" if request.resumed is None else "the checkpoint was made with a cache"
        raise_on_all_ranks(InputError(f"{why}, but {reasons[0]}; see also encoder_cache_dir"))
    if reasons:
        logger.info("encoder cache: none for %s: %s", split.name, reasons[0])
        return None
    ranks = ranks_sharing(folder.parent)
    free, started = shutil.disk_usage(folder.parent).free / 1e9, time.monotonic()
    what = f"{split.name} needs {size / 1e9:.2f} GB ({free:.1f} GB are free)"
    logger.info("encoder cache: %s; building %s", what, folder)
    cache = build_cache(encoder, split, folder, ranks.index(PartialState().process_index), len(ranks), progress)
    logger.info("encoder cache: %s written in %.1f s", split.name, time.monotonic() - started)
    return cache


def refuse_reason(size: int, folder: Path, max_gb: float, passes: float) -> str | None:
    """Why a cache of `size` bytes is not worth building, or cannot be; None if it is and can.

    Args:
        folder: the cache's own; what a killed build reserved for it counts as free.
        passes: how often this run reads each example.
    """
    if passes <= 1:
        return "the run reads every example at most once"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder.parent} cannot be made: {error.strerror}"
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        return f"{folder.parent} is not writable"
    free = shutil.disk_usage(folder.parent).free + folder_bytes(folder) + folder_bytes(partial_folder(folder))
    needed = f"it needs {size / 1e9:.2f} GB"
    if size > max_gb * 1e9:
        return f"{needed}, encoder_cache_max_gb is {max_gb:g}"
    if size > FREE_DISK_SHARE * free:
        return f"{needed}, {free / 1e9:.2f} GB are free in {folder.parent} (at most 80 % of it is used)"
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Building


def build_cache(
    encoder: FrozenEncoder, split: TokenizedSplit, folder: Path, index: int = 0, count: int = 1, progress: bool = False
) -> EncoderCache:
    """Encode every row of `split` into `folder` (the cache's own, named by its key) and open it.

    All processes of the run must call it. Each of its phases ends when all of them are through, and raises on all of
    them if one failed, so that a full disk on one machine leaves none waiting.

    Args:
        index, count: this process among those that see the folder.

    Raises:
        RunError: the disk is full. InputError: the folder cannot be written.
    """
    partial = partial_folder(folder)
    batches = encoder.batches(split)
    leads = index == 0
    with contextlib.ExitStack() as held:
        with _phase(folder):
            if leads:
                held.enter_context(_lock(folder))
                if open_cache(folder, split, encoder) is None:
                    remove(folder)
                    _lay_out(partial, encoder.cache_bytes(split), len(split), len(batches))
                else:
                    remove(partial)
        with _phase(folder):
            if partial.exists():
                files = _Files(partial, split, encoder)
                mine = {i: batches[i] for i in range(index, len(batches), count) if not files.done[i]}
                _encode(encoder, split, files, mine, progress)
        with _phase(folder):
            if leads and partial.exists():
                _finish(encoder, split, partial, folder)
    cache = open_cache(folder, split, encoder)
    if cache is None:
        raise RunError(f"the encoder cache {folder} was not whole after it was built; is its disk in order?")
    return cache


@contextlib.contextmanager
def _phase(folder: Path) -> Iterator[None]:
    """A part of the build, through which all processes get or none does; an error of the disk as one line."""
    with same_outcome_on_all_ranks():
        try:
            yield
        except OSError as error:
            raise cannot_write(
                f"encoder cache {folder.parent}: cannot be written",
                error,
                "set encoder_cache_dir to another disk, or cache_encoder_outputs to false",
            ) from None


def _lock(folder: Path) -> FileLock:
    """Held by the run that builds; another one that wants the same cache waits, and then finds it built."""
    lock = lock_file(lock_path(folder))
    if lock is None:
        logger.info("another run builds the same encoder cache; waiting for it (%s)", lock_path(folder))
        lock = lock_file(lock_path(folder), wait=True)
    assert lock is not None
    return lock


def _lay_out(partial: Path, state_bytes: int, rows: int, batches: int) -> None:
    """Reserve the files. A full disk shows here: later, writing to a memory map would end in SIGBUS."""
    sizes = {partial / "states.bin": state_bytes, partial / "xxh3.bin": 8 * rows, partial / "done.bin": batches}
    own = partial.is_dir() and not any(path.is_symlink() for path in (partial, *sizes))  # no link is written through
    if own and all(path.is_file() and path.stat().st_size == size for path, size in sizes.items()):
        return  # a killed build's
    remove(partial)
    try:
        partial.mkdir(parents=True)
        for path, size in sizes.items():
            with path.open("wb") as file:
                _reserve(file, size)
    except OSError:
        remove(partial)
        raise


def _reserve(file: BinaryIO, size: int) -> None:
    """Give a new file `size` bytes of zeros that the disk has room for."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(2**20)  # macOS has no such call, and a file that is only made longer gets its blocks when it is full
    for start in range(0, size, len(zeros)):
        file.write(zeros[: size - start])


class _Files:
    """The files of a cache that is being built, mapped into memory. Used by one thread at a time."""

    def __init__(self, partial: Path, split: TokenizedSplit, encoder: FrozenEncoder):
        self.split, self.encoder = split, encoder
        shape = (int(split.offsets[-1]), encoder.token_bytes)
        self.states = np.memmap(partial / "states.bin", np.uint8, "r+", shape=shape)
        self.checksums = np.memmap(partial / "xxh3.bin", np.uint64, "r+")
        self.done = np.memmap(partial / "done.bin", np.uint8, "r+")
        self._finished: list[int] = []
        self._flushed = time.monotonic()

    def write(self, number: int, rows: np.ndarray, states: torch.Tensor) -> None:
        """Batch `number`: the states [tokens, d_model] of `rows`, one after the other."""
        data = self.encoder.as_bytes(states)
        ends = np.cumsum(self.split.lengths[rows])
        for row, of_row in zip(rows, np.split(data, ends[:-1]), strict=True):
            self.states[self.split.offsets[row] : self.split.offsets[row + 1]] = of_row
            self.checksums[row] = xxhash.xxh3_64_intdigest(of_row.data)
        self._finished.append(number)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self.states.flush()
        self.checksums.flush()
        self.done[self._finished] = 1  # only now: a batch counts when its bytes are on the disk
        self.done.flush()
        self._finished.clear()
        self._flushed = time.monotonic()


def _encode(
    encoder: FrozenEncoder, split: TokenizedSplit, files: _Files, batches: dict[int, np.ndarray], progress: bool
) -> None:
    tokens = sum(int(split.lengths[rows].sum()) for rows in batches.values())
    bar = tqdm(total=tokens, desc=f"Encoding {split.name}", unit="tok", unit_scale=True, disable=not progress)
    # One writer thread: the copy to the disk's cache overlaps the next batch's arithmetic; at most one is waiting.
    with ThreadPoolExecutor(1, thread_name_prefix="encoder_cache") as writer, bar:
        waiting = None
        states_of = encoder.encode(split, batches.values())
        for (number, rows), states in zip(batches.items(), states_of, strict=True):
            if waiting is not None:
                waiting.result()
            waiting = writer.submit(files.write, number, rows, states)
            bar.update(len(states))
        if waiting is not None:
            waiting.result()
        files.flush()


def _finish(encoder: FrozenEncoder, split: TokenizedSplit, partial: Path, folder: Path) -> None:
    meta = {
        **expected_meta(encoder, split),
        "split": split.name,
        "origin": encoder.origin,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")
    sync(partial / "meta.json")
    (partial / "done.bin").unlink()
    partial.rename(folder)
