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

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from distilbart_mnli.command_line import OneLineParser
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.errors import InputError, run_command, say
from distilbart_mnli.files import lock_file
from distilbart_mnli.model.bart import ShortCutBart, weights_digest
from distilbart_mnli.options.fields import PRECISION_DTYPES

logger = logging.getLogger(__name__)

VERSION = 1
CHECK_ROWS = 1024  # rows whose CRC is checked when a cache is opened, spread over the whole file


def default_folder() -> Path:
    """distilbart_mnli/encoder in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distilbart_mnli" / "encoder"


def partial_folder(folder: Path) -> Path:
    """Where the cache of `folder` is while it is built."""
    return folder.with_name(folder.name + ".partial")


def lock_path(folder: Path) -> Path:
    """The file that is locked while the cache of `folder` is built or removed."""
    return folder.with_name(folder.name + ".lock")


def encoder_digest(model: ShortCutBart) -> str:
    """SHA-256 of the encoder's weights and of the configuration that its arithmetic depends on."""
    names = "d_model encoder_attention_heads encoder_layers activation_function scale_embedding pad_token_id".split()
    config = json.dumps({name: getattr(model.config, name) for name in names})
    return weights_digest(model.model.encoder, config)


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder whose outputs are constants of its input, and how the run computes them."""

    model: ShortCutBart  # on its device already: the kind of device is part of the key
    dtype: str  # of the states, as torch names it: what the decoder's cross-attention casts them to
    autocast: Callable[[], contextlib.AbstractContextManager]  # the context in which a training runs the encoder
    origin: str = ""  # the model's name, for `list`

    @functools.cached_property
    def digest(self) -> str:
        return encoder_digest(self.model)

    def key(self, split: TokenizedSplit) -> str:
        """The name of a cache's folder."""
        return digest_of(
            f"encoder-cache-{VERSION}",
            self.digest,
            split.digest,
            self.dtype,
            str(self.model.config._attn_implementation),
            self.model.device.type,
            torch.__version__,
            transformers.__version__,
        )[:32]

    def cache_bytes(self, split: TokenizedSplit) -> int:
        """Size of states.bin."""
        return int(split.offsets[-1]) * self.model.config.d_model * getattr(torch, self.dtype).itemsize


class EncoderCache:
    """A whole cache, opened for reading. Calling it gathers a batch (see data/batches.py, Collator).

    Raises:
        ValueError: it is not whole, or not this split's; the message says in what.
    """

    def __init__(self, folder: Path, split: TokenizedSplit):
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.folder, tokens, rows = folder, int(split.offsets[-1]), len(split)
        if (meta["rows"], meta["tokens"], meta["version"]) != (rows, tokens, VERSION):
            raise ValueError("its meta.json is another data set's")
        if meta["dtype"] not in PRECISION_DTYPES.values():
            raise ValueError(f"its meta.json names the dtype {meta['dtype']}")
        dtype = getattr(torch, meta["dtype"])
        width = meta["d_model"] * dtype.itemsize
        for name, expected in (("states.bin", tokens * width), ("crc.bin", 4 * rows)):
            found = (folder / name).stat().st_size
            if found != expected:
                raise ValueError(f"{name} has {found} bytes instead of {expected}")
        states = np.memmap(folder / "states.bin", np.uint8, "r", shape=(tokens, width))
        crc = np.fromfile(folder / "crc.bin", np.uint32)
        for row in np.unique(np.linspace(0, rows - 1, min(rows, CHECK_ROWS)).astype(np.int64)):
            if zlib.crc32(states[split.offsets[row] : split.offsets[row + 1]].data) != crc[row]:
                raise ValueError(f"row {row} of states.bin does not have its checksum")
        with warnings.catch_warnings():
            # "not writable": it is only ever read.
            warnings.simplefilter("ignore", UserWarning)
            self._states = torch.from_numpy(states).view(dtype)
        with contextlib.suppress(OSError):  # a cache that others wrote can be read all the same
            os.utime(folder / "meta.json")  # "last used" of `list` and `prune`

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


def folder_bytes(folder: Path) -> int:
    """Bytes of the files in a folder; 0 if there is none."""
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


# ---------------------------------------------------------------------------------------------------------------------
# list, prune


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Every cache, whole or partial, with its meta.json. What else is in `folder`, whatever was named, is not ours."""
    entries = []
    for path in sorted(folder.glob("*")):
        if path.is_dir() and re.fullmatch(r"[0-9a-f]{32}(\.partial)?", path.name):
            entry = {"dtype": "?", "rows": "?", "split": "?", "origin": "unfinished", "used": path.stat().st_mtime}
            with contextlib.suppress(OSError, ValueError):
                entry.update(json.loads((path / "meta.json").read_text(encoding="utf-8")))
                entry["used"] = (path / "meta.json").stat().st_mtime
            entries.append({**entry, "path": path, "size": folder_bytes(path)})
    return entries


def _remove(path: Path) -> bool:
    """Remove a cache, whole or partial; false if a run is building it. (A run that reads it keeps what it opened.)"""
    try:
        lock = lock_file(lock_path(path.with_name(path.name.removesuffix(".partial"))))
        if lock is not None:
            with lock:
                shutil.rmtree(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be removed: {error.strerror}") from None
    return lock is not None


def main() -> None:
    parser = OneLineParser(
        prog="python -m distilbart_mnli.model.encoder_cache",
        description="Show or remove the encoder caches on this machine.",
    )
    parser.add_argument("command", choices=["list", "prune"])
    parser.add_argument("--encoder_cache_dir", type=Path, default=default_folder())
    parser.add_argument("--older_than_days", type=float, default=0.0, help="prune: only what was not used for so long")
    parser.add_argument("--key", default="", help="prune: only folders whose name begins so")
    options = parser.parse_args()
    folder, prune, total = options.encoder_cache_dir, options.command == "prune", 0
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; no encoder cache was made here yet")
    try:
        entries = _entries(folder)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    for entry in entries:
        path, days = entry["path"], (time.time() - entry["used"]) / 86400
        if prune and (days < options.older_than_days or not path.name.startswith(options.key)):
            continue
        if prune and not _remove(path):
            say(f"{path.name:<40} is being built by a run; kept")
            continue
        total += entry["size"]
        say(
            f"{path.name:<40} {entry['size'] / 1e6:10.1f} MB  {entry['dtype']:<8} {entry['rows']:>7} rows  "
            f"{entry['split']:<10} {entry['origin']}  used {days:.1f} days ago"
        )
    say(f"{'removed' if prune else 'in all'} {total / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(run_command(main))
