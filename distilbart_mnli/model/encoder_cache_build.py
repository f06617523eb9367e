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
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from accelerate import PartialState
from tqdm import tqdm

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import FileLock, lock_file, sync
from distilbart_mnli.model.encoder_cache import (
    VERSION,
    EncoderCache,
    FrozenEncoder,
    folder_bytes,
    lock_path,
    open_cache,
    partial_folder,
)
from distilbart_mnli.processes import gather_objects, raise_on_all_ranks, ranks_sharing, same_outcome_on_all_ranks

logger = logging.getLogger(__name__)

# Padded tokens of one encoder batch: enough to fill the device, little enough for its activations.
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
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

    @property
    def wanted(self) -> str:
        return self.option if self.resumed is None else str(self.resumed).lower()


def open_or_build(
    encoder: FrozenEncoder, split: TokenizedSplit, request: CacheRequest, progress: bool = False
) -> EncoderCache | None:
    """The cache of a set's encoder outputs, if there is to be one. All processes must call it.

    Raises:
        InputError: it is wanted (by the option "true", or by the checkpoint) and cannot be had; on all processes.
        RunError: the disk is full, or failed.
    """
    wanted = request.wanted
    if wanted == "false" or (request.trains and not encoder.model.encoder_is_constant):
        return None
    if request.unavailable:
        if wanted == "true":
            raise_on_all_ranks(InputError(f"cache_encoder_outputs is true, but {request.unavailable}; take auto"))
        logger.info("encoder cache: none for %s: %s", split.name, request.unavailable)
        return None
    folder = request.folder / encoder.key(split)
    cache = open_cache(folder, split)
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
    free, started = shutil.disk_usage(folder.parent).free, time.monotonic()
    what = f"{split.name} needs {size / 1e9:.2f} GB ({free / 1e9:.1f} GB are free)"
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


def encoder_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Rows in length order, the longest first (so that a lack of memory shows at once), at most `batch_tokens` padded
    tokens a batch. A function of the lengths alone."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches


def build_cache(
    encoder: FrozenEncoder, split: TokenizedSplit, folder: Path, index: int = 0, count: int = 1, progress: bool = False
) -> EncoderCache:
    """Encode every row of `split` into `folder` (the cache's own, named by its key) and open it.

    All processes of the run must call it. Each of its phases ends when all of them are through, and raises on all of
    them if one failed, so that a full disk on one machine leaves none waiting.

    Args:
        index, count: this process among those that see the folder.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    partial = partial_folder(folder)
    batches = encoder_batches(split.lengths, BATCH_TOKENS.get(encoder.model.device.type, BATCH_TOKENS["cpu"]))
    leads = index == 0
    with contextlib.ExitStack() as held:
        with _phase(folder):
            if leads:
                held.enter_context(_lock(folder))
                if open_cache(folder, split) is None:
                    shutil.rmtree(folder, ignore_errors=True)
                    _lay_out(partial, encoder.cache_bytes(split), len(split), len(batches))
                else:
                    shutil.rmtree(partial, ignore_errors=True)
        with _phase(folder):
            if partial.exists():
                files = _Files(partial, split, encoder)
                mine = {i: batches[i] for i in range(index, len(batches), count) if not files.done[i]}
                _encode(encoder, split, files, mine, progress)
        with _phase(folder):
            if leads and partial.exists():
                _finish(encoder, split, partial, folder)
    cache = open_cache(folder, split)
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
            raise RunError(
                f"encoder cache {folder.parent}: cannot be written: {error.strerror or error}; free some space, set "
                "encoder_cache_dir to another disk, or cache_encoder_outputs to false"
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
    sizes = {partial / "states.bin": state_bytes, partial / "crc.bin": 4 * rows, partial / "done.bin": batches}
    if all(path.exists() and path.stat().st_size == size for path, size in sizes.items()):
        return  # a killed build's
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for path, size in sizes.items():
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


class _Files:
    """The files of a cache that is being built, mapped into memory. Used by one thread at a time."""

    def __init__(self, partial: Path, split: TokenizedSplit, encoder: FrozenEncoder):
        self.split, self.dtype = split, getattr(torch, encoder.dtype)
        tokens = int(split.offsets[-1])
        shape = (tokens, encoder.cache_bytes(split) // tokens)
        self.states = np.memmap(partial / "states.bin", np.uint8, "r+", shape=shape)
        self.crc = np.memmap(partial / "crc.bin", np.uint32, "r+")
        self.done = np.memmap(partial / "done.bin", np.uint8, "r+")
        self._finished: list[int] = []
        self._flushed = time.monotonic()

    def write(self, number: int, rows: np.ndarray, states: torch.Tensor) -> None:
        """Batch `number`: the states [tokens, d_model] of `rows`, one after the other."""
        data = states.to(self.dtype).cpu().contiguous().view(torch.uint8).numpy()
        ends = np.cumsum(self.split.lengths[rows])
        for row, of_row in zip(rows, np.split(data, ends[:-1]), strict=True):
            self.states[self.split.offsets[row] : self.split.offsets[row + 1]] = of_row
            self.crc[row] = zlib.crc32(of_row.data)
        self._finished.append(number)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self.states.flush()
        self.crc.flush()
        self.done[self._finished] = 1  # only now: a batch counts when its bytes are on the disk
        self.done.flush()
        self._finished.clear()
        self._flushed = time.monotonic()


def _encode(
    encoder: FrozenEncoder, split: TokenizedSplit, files: _Files, batches: dict[int, np.ndarray], progress: bool
) -> None:
    model, device = encoder.model, encoder.model.device
    collate = Collator(split, model.config.pad_token_id, Padding(int(split.lengths.max())))
    tokens = sum(int(split.lengths[rows].sum()) for rows in batches.values())
    bar = tqdm(total=tokens, desc=f"Encoding {split.name}", unit="tok", unit_scale=True, disable=not progress)
    was_training = model.training
    model.eval()
    # One writer thread: the copy to the disk's cache overlaps the next batch's arithmetic; at most one is waiting.
    with ThreadPoolExecutor(1, thread_name_prefix="encoder_cache") as writer, torch.no_grad(), bar:
        waiting = None
        for number, rows in batches.items():
            batch = collate(MicroBatch(rows, np.ones(len(rows), np.float32)))
            ids, real = batch["input_ids"], batch["attention_mask"]
            with encoder.autocast():
                states = model.encode(ids.to(device), real.to(device))
            kept = real.reshape(-1).nonzero().squeeze(1).to(device)
            states = states.reshape(-1, states.shape[-1]).index_select(0, kept)
            if waiting is not None:
                waiting.result()
            waiting = writer.submit(files.write, number, rows, states)
            bar.update(len(states))
        if waiting is not None:
            waiting.result()
        files.flush()
    model.train(was_training)


def _finish(encoder: FrozenEncoder, split: TokenizedSplit, partial: Path, folder: Path) -> None:
    meta = {
        "version": VERSION,
        "rows": len(split),
        "tokens": int(split.offsets[-1]),
        "d_model": encoder.model.config.d_model,
        "dtype": encoder.dtype,
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
