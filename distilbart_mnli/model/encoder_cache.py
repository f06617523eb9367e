"""The frozen encoder's outputs on disk: computed once for all epochs, all students of a teacher and every resumed run.

With the encoder frozen and without dropout its outputs are constants of the input, and every student of one teacher
keeps the same encoder. One pass in length order writes the states of the real tokens, without padding, in the dtype
that the decoder's cross-attention casts them to anyway, to one memory-mapped file.

    python -m distilbart_mnli.model.encoder_cache list
    python -m distilbart_mnli.model.encoder_cache prune --older_than_days 30

A cache is a folder named by a digest of everything that decides its bits: encoder weights and configuration, token ids
(so: tokenizer, texts and length), dtype, attention implementation, kind of device, versions of torch and transformers.
Nothing of it is a path, so a moved folder still hits.

    <key>/states.bin   [tokens, d_model], row i at offsets[i] of the tokenised split
    <key>/crc.bin      uint32 [rows], CRC-32 of every row's bytes, taken before they were written
    <key>/meta.json    sizes and origin; present in a whole cache only

While it is built (encoder_cache_build.py) the folder is `<key>.partial`, and `<key>.lock` is locked.
"""

import argparse
import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.errors import InputError, run_command
from distilbart_mnli.model.bart import ShortCutBart

logger = logging.getLogger(__name__)

VERSION = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WIDTHS = {4: np.float32, 2: np.uint16}  # bytes of a number -> numpy's type for the file; numpy has no bfloat16
CHECK_ROWS = 1024  # rows whose CRC is checked when a cache is opened, spread over the whole file
FREE_DISK_SHARE = 0.8


def default_folder() -> Path:
    """distilbart_mnli/encoder in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distilbart_mnli" / "encoder"


def encoder_digest(model: ShortCutBart) -> str:
    """SHA-256 of the encoder's weights and of the configuration that its arithmetic depends on."""
    names = "d_model encoder_attention_heads encoder_layers activation_function scale_embedding pad_token_id".split()
    config = json.dumps({name: getattr(model.config, name) for name in names})
    tensors = sorted(model.model.encoder.state_dict().items())
    return digest_of(config, *(part for name, t in tensors for part in (name, t.detach().cpu().float().numpy())))


def cache_key(model: ShortCutBart, split: TokenizedSplit, dtype: str, encoder: str | None = None) -> str:
    """The folder's name. `encoder`: encoder_digest(model), if it is known."""
    return digest_of(
        f"encoder-cache-{VERSION}",
        encoder or encoder_digest(model),
        split.digest,
        dtype,
        str(model.config._attn_implementation),
        model.device.type,
        torch.__version__,
        transformers.__version__,
    )[:32]


def cache_bytes(split: TokenizedSplit, d_model: int, dtype: str) -> int:
    """Size of states.bin."""
    return int(split.offsets[-1]) * d_model * DTYPES[dtype].itemsize


class EncoderCache:
    """A whole cache, opened for reading. Calling it gathers a batch (see batching.Collator).

    Raises:
        ValueError: it is not whole, or not this split's; the message says in what.
    """

    def __init__(self, folder: Path, split: TokenizedSplit):
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.folder, self.dtype, d_model = folder, meta["dtype"], meta["d_model"]
        tokens, rows = int(split.offsets[-1]), len(split)
        size = cache_bytes(split, d_model, self.dtype)
        if (meta["rows"], meta["tokens"], meta["version"]) != (rows, tokens, VERSION):
            raise ValueError("its meta.json is another data set's")
        for name, expected in (("states.bin", size), ("crc.bin", 4 * rows)):
            found = (folder / name).stat().st_size
            if found != expected:
                raise ValueError(f"{name} has {found} bytes instead of {expected}")
        self._bytes = np.memmap(folder / "states.bin", np.uint8, "r")
        width = WIDTHS[DTYPES[self.dtype].itemsize]
        with warnings.catch_warnings():
            # "not writable": it is only ever read.
            warnings.simplefilter("ignore", UserWarning)
            states = torch.from_numpy(np.memmap(folder / "states.bin", width, "r", shape=(tokens, d_model)))
        self._states = states.view(DTYPES[self.dtype])
        self._check(split, d_model)
        with contextlib.suppress(OSError):  # a cache that others wrote can be read all the same
            os.utime(folder / "meta.json")  # "last used" of `list` and `prune`

    def _check(self, split: TokenizedSplit, d_model: int) -> None:
        crc = np.fromfile(self.folder / "crc.bin", np.uint32)
        token_bytes = d_model * DTYPES[self.dtype].itemsize
        for row in np.unique(np.linspace(0, len(split) - 1, min(len(split), CHECK_ROWS)).astype(np.int64)):
            start, end = (int(split.offsets[row + i]) * token_bytes for i in (0, 1))
            if zlib.crc32(self._bytes[start:end].data) != crc[row]:
                raise ValueError(f"row {row} of states.bin does not have its checksum")

    def __call__(self, index: np.ndarray, real: np.ndarray) -> torch.Tensor:
        """States [batch, length, d_model] at token `index` [batch, length]; 0 where not `real`."""
        states = self._states.index_select(0, torch.from_numpy(index.reshape(-1)))
        states = states.view(*index.shape, -1)
        return states.masked_fill_(torch.from_numpy(~real)[:, :, None], 0)


def open_cache(folder: Path, split: TokenizedSplit) -> EncoderCache | None:
    """The cache in `folder` if it is whole; None, with a warning if something that is not whole is there."""
    if not folder.exists():
        return None
    try:
        return EncoderCache(folder, split)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("encoder cache %s is damaged (%s): it is built again", folder.name, error)
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Whether


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


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder; 0 if there is none."""
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


# ---------------------------------------------------------------------------------------------------------------------
# Places and locks


def partial_folder(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of one cache; another run that wants the same one waits and then finds it built.

    Gives false, and holds nothing, if another process has it and `wait` is false.
    """
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                logger.info("another run builds the same encoder cache; waiting for it (%s)", path)
                fcntl.flock(file, fcntl.LOCK_EX)
            # `prune` removes the file while it holds it: then this is nobody's lock any more.
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield True
                return


# ---------------------------------------------------------------------------------------------------------------------
# list, prune


def _entries(folder: Path) -> list[dict[str, Any]]:
    entries = []
    for path in sorted(folder.glob("*")):
        if not path.is_dir() or not re.fullmatch(r"[0-9a-f]{32}(\.partial)?", path.name):
            continue  # not ours, whatever folder was named
        meta: dict[str, Any] = {"dtype": "?", "rows": "?", "split": "?", "origin": "unfinished"}
        stamp = path
        with contextlib.suppress(OSError, ValueError):
            meta.update(json.loads((path / "meta.json").read_text(encoding="utf-8")))
            stamp = path / "meta.json"
        entries.append({**meta, "path": path, "size": folder_bytes(path), "used": stamp.stat().st_mtime})
    return entries


def _removed(path: Path) -> bool:
    """Remove a cache, whole or partial; false if a run is building it. (A run that reads it keeps what it opened.)"""
    lock = lock_file(path.with_name(path.name.removesuffix(".partial")))
    with locked(lock, wait=False) as held:
        if held:
            shutil.rmtree(path)
            lock.unlink()
    return held


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m distilbart_mnli.model.encoder_cache",
        description="Show or remove the encoder caches on this machine.",
    )
    parser.add_argument("command", choices=["list", "prune"])
    parser.add_argument("--encoder_cache_dir", type=Path, default=default_folder())
    parser.add_argument("--older_than_days", type=float, default=0.0, help="prune: only what was not used for so long")
    parser.add_argument("--key", default="", help="prune: only folders whose name begins so")
    options = parser.parse_args()
    if not options.encoder_cache_dir.is_dir():
        raise InputError(f"{options.encoder_cache_dir}: no such folder; no encoder cache was made here yet")
    try:
        entries = _entries(options.encoder_cache_dir)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    now, total = time.time(), 0
    for entry in entries:
        days, path = (now - entry["used"]) / 86400, entry["path"]
        if options.command == "prune":
            if days < options.older_than_days or not path.name.startswith(options.key):
                continue
            try:
                removed = _removed(path)
            except OSError as error:
                raise InputError(f"{path}: cannot be removed: {error.strerror}") from None
            if not removed:
                print(f"{path.name:<40} is being built by a run; kept")
                continue
        total += entry["size"]
        print(
            f"{path.name:<40} {entry['size'] / 1e6:10.1f} MB  {entry['dtype']:<8} {entry['rows']:>7} rows  "
            f"{entry['split']:<10} {entry['origin']}  used {days:.1f} days ago"
        )
    print(f"{'removed' if options.command == 'prune' else 'in all'} {total / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(run_command(main))
