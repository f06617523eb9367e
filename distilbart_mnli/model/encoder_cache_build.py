"""Building the encoder cache: one pass over a set, shared by the processes that see its folder (encoder_cache.py).

    cache = build_cache(model, split, folder / key, "bfloat16", accelerator.autocast)

While it is built it is `<key>.partial` with one byte a batch in done.bin, so a killed build goes on where it was; the
rename comes last. Batches are cut independently of the number of processes, so their bits do not depend on it.
"""

import contextlib
import datetime
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from tqdm import tqdm

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import RunError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.encoder_cache import (
    DTYPES,
    VERSION,
    WIDTHS,
    EncoderCache,
    cache_bytes,
    lock_file,
    locked,
    open_cache,
    partial_folder,
)

# Padded tokens of one encoder batch: enough to fill the device, little enough for its activations.
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
FLUSH_SECONDS = 20.0  # at most so much of a killed build is done again


@dataclass(frozen=True)
class Builders:
    """The processes that build one cache together: those that see its folder.

    `together` is the context of one phase: it ends when every process of the run is through, and raises on all of
    them if one failed, so that a full disk on one machine leaves none waiting.
    """

    count: int = 1
    index: int = 0
    together: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


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
    model: ShortCutBart,
    split: TokenizedSplit,
    folder: Path,
    dtype: str,
    autocast: Callable[[], contextlib.AbstractContextManager],
    builders: Builders | None = None,
    progress: bool = False,
    origin: str = "",
) -> EncoderCache:
    """Encode every row of `split` into `folder` (the cache's own, named by its key) and open it.

    Args:
        autocast: the context in which training runs the encoder.
        builders: the processes that share the work.
        origin: the model's name, for `list`.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    builders = builders or Builders()
    partial = partial_folder(folder)
    leads = builders.index == 0
    with contextlib.ExitStack() as held:
        whole = None
        with builders.together():
            if leads:
                try:
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    held.enter_context(locked(lock_file(folder)))
                except OSError as error:
                    raise RunError(
                        f"encoder cache {folder.parent}: cannot be written: {error.strerror}; set encoder_cache_dir "
                        "to another folder, or cache_encoder_outputs to false"
                    ) from None
                whole = open_cache(folder, split)
                if whole is None:
                    shutil.rmtree(folder, ignore_errors=True)
                    _lay_out(partial, split, model, dtype)
                else:
                    shutil.rmtree(partial, ignore_errors=True)
        with builders.together():
            if partial.exists():
                _encode(model, split, partial, dtype, autocast, builders, progress)
        with builders.together():
            if leads and whole is None:
                _finish(partial, folder, split, model, dtype, origin)
    cache = open_cache(folder, split)
    if cache is None:
        raise RunError(f"the encoder cache {folder} was not whole after it was built; is its disk in order?")
    return cache


def _lay_out(partial: Path, split: TokenizedSplit, model: ShortCutBart, dtype: str) -> None:
    """Reserve the files. A full disk shows here: later, writing to a memory map would end in SIGBUS."""
    sizes = {
        "states.bin": cache_bytes(split, model.config.d_model, dtype),
        "crc.bin": 4 * len(split),
        "done.bin": len(_batches(model, split)),
    }
    if partial.exists() and all(
        (partial / n).exists() and (partial / n).stat().st_size == s for n, s in sizes.items()
    ):
        return
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, size in sizes.items():
            with (partial / name).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(
            f"encoder cache {partial.parent}: {error.strerror} while reserving {sizes['states.bin'] / 1e9:.2f} GB; "
            "free some, set encoder_cache_dir to another disk, or cache_encoder_outputs to false"
        ) from None


def _batches(model: ShortCutBart, split: TokenizedSplit) -> list[np.ndarray]:
    return encoder_batches(split.lengths, BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"]))


def _encode(
    model: ShortCutBart,
    split: TokenizedSplit,
    partial: Path,
    dtype: str,
    autocast: Callable[[], contextlib.AbstractContextManager],
    builders: Builders,
    progress: bool,
) -> None:
    d_model, device = model.config.d_model, model.device
    states = np.memmap(
        partial / "states.bin", WIDTHS[DTYPES[dtype].itemsize], "r+", shape=(int(split.offsets[-1]), d_model)
    )
    crc = np.memmap(partial / "crc.bin", np.uint32, "r+")
    done = np.memmap(partial / "done.bin", np.uint8, "r+")
    batches = _batches(model, split)
    collate = Collator(split, model.config.pad_token_id, Padding(int(split.lengths.max())))
    mine = [i for i in range(builders.index, len(batches), builders.count) if not done[i]]
    tokens = sum(int(split.lengths[batches[i]].sum()) for i in mine)
    bar = tqdm(total=tokens, desc=f"Encoding {split.name}", unit="tok", unit_scale=True, disable=not progress)
    finished: list[int] = []
    flushed = time.monotonic()

    def flush() -> None:
        nonlocal flushed
        states.flush()
        crc.flush()
        done[finished] = 1  # only now: a batch counts when its bytes are on the disk
        done.flush()
        finished.clear()
        flushed = time.monotonic()

    def write(number: int, values: torch.Tensor) -> None:
        rows = batches[number]
        kept = values.to(DTYPES[dtype]).cpu().contiguous()
        flat = kept.numpy() if dtype == "float32" else kept.view(torch.int16).numpy().view(np.uint16)
        ends = np.cumsum(split.lengths[rows])
        for row, end in zip(rows, ends, strict=True):
            start, stop = split.offsets[row], split.offsets[row + 1]
            values_of_row = flat[end - (stop - start) : end]
            states[start:stop] = values_of_row
            crc[row] = zlib.crc32(values_of_row.data)
        finished.append(number)
        bar.update(len(flat))

    was_training = model.training
    model.eval()
    # One writer thread: the copy to the disk's cache overlaps the next batch's arithmetic; at most one is waiting.
    with ThreadPoolExecutor(1, thread_name_prefix="encoder_cache") as writer, torch.no_grad(), bar:
        waiting = None
        for number in mine:
            rows = batches[number]
            batch = collate(MicroBatch(rows, np.ones(len(rows), np.float32)))
            ids, real = batch["input_ids"], batch["attention_mask"]
            with autocast():
                encoded = model.encode(ids.to(device), real.to(device))
            kept = real.reshape(-1).nonzero().squeeze(1).to(device)
            values = encoded.reshape(-1, d_model).index_select(0, kept)
            if waiting is not None:
                waiting.result()
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    flush()
            waiting = writer.submit(write, number, values)
        if waiting is not None:
            waiting.result()
        flush()
    model.train(was_training)


def _finish(partial: Path, folder: Path, split: TokenizedSplit, model: ShortCutBart, dtype: str, origin: str) -> None:
    done = np.fromfile(partial / "done.bin", np.uint8)
    if not done.all():
        raise RunError(f"encoder cache {partial.name}: {int((done == 0).sum())} batches were not encoded")
    meta = {
        "version": VERSION,
        "rows": len(split),
        "tokens": int(split.offsets[-1]),
        "d_model": model.config.d_model,
        "dtype": dtype,
        "split": split.name,
        "origin": origin,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    with (partial / "meta.json").open("w", encoding="utf-8") as file:
        json.dump(meta, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    (partial / "done.bin").unlink()
    partial.rename(folder)
