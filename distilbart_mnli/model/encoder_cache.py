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
    <key>/xxh3.bin     uint64 [rows], XXH3-64 of every row's bytes, taken before they were written
    <key>/meta.json    sizes and origin; present in a whole cache only

While it is built (encoder_cache_build.py) the folder is `<key>.partial`, and `<key>.lock` is locked.
"""

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import re
import shutil
import stat
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from distilbart_mnli.command_line import OneLineParser, file_path
from distilbart_mnli.data.batches import DamagedRows
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import InputError, run_command, say
from distilbart_mnli.files import lock_file
from distilbart_mnli.model.frozen_encoder import VERSION, FrozenEncoder

logger = logging.getLogger(__name__)


def default_folder() -> Path:
    """distilbart_mnli/encoder in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distilbart_mnli" / "encoder"


def partial_folder(folder: Path) -> Path:
    """Where the cache of `folder` is while it is built."""
    return folder.with_name(folder.name + ".partial")


def lock_path(folder: Path) -> Path:
    """The file that is locked while the cache of `folder` is built or removed."""
    return folder.with_name(folder.name + ".lock")


CHECKSUMS: dict[str, tuple[Callable[[Any], int], type]] = {
    "xxh3.bin": (xxhash.xxh3_64_intdigest, np.uint64),
    "crc.bin": (zlib.crc32, np.uint32),  # of caches that earlier releases built
}
"""The file of every row's checksum, and how it is computed. XXH3 is 19 times as fast as zlib's CRC-32 here."""


def expected_meta(encoder: FrozenEncoder, split: TokenizedSplit) -> dict[str, Any]:
    """What must stand in meta.json. Nothing that is read from there is used: all of it is known."""
    return {
        "version": VERSION,
        "rows": len(split),
        "tokens": int(split.offsets[-1]),
        "d_model": encoder.model.config.d_model,
        "dtype": encoder.dtype,
    }


class EncoderCache:
    """A whole cache, opened for reading. Calling it gathers a batch (see data/batches.py, Collator).

    A row's checksum is looked at when the row is first read, and what is damaged is computed again, with the same
    bits, and written back.

    Raises:
        ValueError: it is not whole, or not this split's; the message says in what.
    """

    def __init__(self, folder: Path, split: TokenizedSplit, encoder: FrozenEncoder):
        self.folder, self._split, self._encoder = folder, split, encoder
        names = [name for name in CHECKSUMS if (folder / name).exists()]
        if not names:
            raise ValueError("it has no checksums")
        self._checksum_file = names[0]
        self._checksum, of_rows = CHECKSUMS[names[0]]
        sizes = {
            "states.bin": encoder.cache_bytes(split),
            names[0]: np.dtype(of_rows).itemsize * len(split),
            "meta.json": None,
        }
        for name, size in sizes.items():
            found = (folder / name).stat()
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{name} is not a file")
            if size not in (None, found.st_size):
                raise ValueError(f"{name} has {found.st_size} bytes instead of {size}")
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        for name, value in expected_meta(encoder, split).items():
            if meta[name] != value:
                raise ValueError(f"its meta.json says {name} {str(meta[name])[:40]} instead of {value}")
        shape = (int(split.offsets[-1]), encoder.token_bytes)
        self._bytes = np.memmap(folder / "states.bin", np.uint8, "r", shape=shape)
        self._checksums: np.ndarray = np.fromfile(folder / names[0], of_rows)
        self._unchecked = np.ones(len(split), dtype=bool)
        self._mended: dict[int, np.ndarray] = {}  # damaged rows that could not be written back
        with warnings.catch_warnings():
            # "not writable": it is only ever read.
            warnings.simplefilter("ignore", UserWarning)
            self._states = torch.from_numpy(self._bytes).view(getattr(torch, encoder.dtype))
        with contextlib.suppress(OSError):  # a cache that others wrote can be read all the same
            os.utime(folder / "meta.json")  # "last used" of `list` and `prune`

    def __call__(self, rows: np.ndarray, index: np.ndarray, real: np.ndarray) -> torch.Tensor:
        """States [batch, length, d_model] of `rows` [batch], at token `index` [batch, length]; 0 where not `real`.

        Raises:
            DamagedRows: a row does not have its checksum; `repair` computes it again.
        """
        states = self._states.index_select(0, torch.from_numpy(index.reshape(-1))).view(*index.shape, -1)
        if self._mended or self._unchecked[rows].any():
            self._check(rows, states.view(torch.uint8).numpy())
        return states.masked_fill_(torch.from_numpy(~real)[:, :, None], 0)

    def _check(self, rows: np.ndarray, data: np.ndarray) -> None:
        """Check the rows of a batch, uint8 [batch, length, bytes], that are read for the first time.

        It is what was copied into the batch that is checked: the bytes that are used, while the processor still has
        them at hand.
        """
        damaged = []
        for place, row in enumerate(rows.tolist()):
            length = self._split.offsets[row + 1] - self._split.offsets[row]
            if row in self._mended:
                data[place, :length] = self._mended[row]
            elif self._unchecked[row]:
                if self._checksum(data[place, :length].data) == self._checksums[row]:
                    self._unchecked[row] = False
                else:
                    damaged.append(row)
        if damaged:
            raise DamagedRows(lambda: self.repair(damaged))

    # -- repair -------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _batches(self) -> list[np.ndarray]:
        return self._encoder.batches(self._split)

    def _row(self, row: int) -> np.ndarray:
        """The bytes of a row as they are on the disk."""
        return self._bytes[self._split.offsets[row] : self._split.offsets[row + 1]]

    def _is_damaged(self, row: int) -> bool:
        return self._checksum(self._row(row).data) != self._checksums[row]

    def repair(self, rows: list[int]) -> None:
        """Compute damaged rows again, with all others of their batches, and write back what differs.

        Must be called on the thread that runs the model, outside of its forward pass.
        """
        rows = [row for row in rows if row not in self._mended and self._is_damaged(row)]
        if not rows:
            return  # with its batch, since this was found, or by another process
        level = logging.INFO if "_batches" in self.__dict__ else logging.WARNING  # once: a failing disk damages many
        logger.log(
            level,
            "encoder cache %s is damaged (row %d does not have its checksum): what is damaged is computed again",
            self.folder.name,
            rows[0],
        )
        others = 0
        batches = [batch for batch in self._batches if np.isin(rows, batch).any()]
        for batch, states in zip(batches, self._encoder.encode(self._split, batches), strict=True):
            ends = np.cumsum(self._split.lengths[batch])
            data = np.split(self._encoder.as_bytes(states), ends[:-1])
            for row, found in zip(batch.tolist(), data, strict=True):
                if self._is_damaged(row):
                    others += not self._replace(row, found)
        if others:
            logger.log(
                level,
                "encoder cache %s: %d rows have other bits here than where it was built (another number of threads, "
                "another processor?); they are equal up to rounding",
                self.folder.name,
                others,
            )

    def _replace(self, row: int, data: np.ndarray) -> bool:
        """Put computed states in the place of damaged ones; in memory, where the disk does not take them.

        Returns whether they are what was there before the damage: what was damaged may be the checksum alone.
        """
        checksum = self._checksum(data.data)
        same = checksum == self._checksums[row] or np.array_equal(data, self._row(row))
        self._checksums[row] = checksum
        start = int(self._split.offsets[row]) * self._encoder.token_bytes
        with contextlib.suppress(OSError):
            _overwrite(self.folder / "states.bin", start, data)
            place = row * self._checksums.itemsize
            _overwrite(self.folder / self._checksum_file, place, self._checksums[row : row + 1])
        if not np.array_equal(data, self._row(row)):
            self._mended[row] = data.copy()
        return same


def _overwrite(path: Path, start: int, data: np.ndarray) -> None:
    """Write the bytes of `data` into a file, from byte `start` on; never through a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.pwrite(descriptor, data.tobytes(), start)
    finally:
        os.close(descriptor)


def open_cache(folder: Path, split: TokenizedSplit, encoder: FrozenEncoder) -> EncoderCache | None:
    """The cache in `folder` if it is whole; None, with a warning if something that is not whole is there."""
    if not os.path.lexists(folder):
        return None
    try:
        return EncoderCache(folder, split, encoder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
            entry = {"dtype": "?", "rows": "?", "split": "?", "origin": "unfinished", "used": path.lstat().st_mtime}
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                if not (path / "meta.json").is_file():
                    raise ValueError("a pipe would be waited for")
                meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
                entry.update({name: str(meta[name]) for name in ("dtype", "rows", "split", "origin")})
                entry["used"] = (path / "meta.json").stat().st_mtime
            entries.append({**entry, "path": path, "size": folder_bytes(path)})
    return entries


def _unused_days(used: float) -> float:
    """For how long a cache was not used: infinitely long, if that is more than a day in the future.

    A clock that was wrong and went back leaves such times, and nobody can tell how old they are. A disk's server may
    be seconds ahead of this machine.
    """
    days = (time.time() - used) / 86400
    return max(days, 0.0) if days > -1 else math.inf


def _remove(path: Path) -> bool:
    """Remove a cache, whole or partial; false if a run is building it. (A run that reads it keeps what it opened.)"""
    try:
        lock = lock_file(lock_path(path.with_name(path.name.removesuffix(".partial"))))
        if lock is not None:
            with lock:
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be removed: {error.strerror}") from None
    return lock is not None


def _days(text: str) -> float:
    """ "nan" would be more than no number and less than none: prune would remove everything."""
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of days, 0 or more, not '{text}'")
    return days


def main() -> None:
    parser = OneLineParser(
        prog="python -m distilbart_mnli.model.encoder_cache",
        description="Show or remove the encoder caches on this machine.",
    )
    parser.add_argument("command", choices=["list", "prune"])
    parser.add_argument("--encoder_cache_dir", type=file_path, default=default_folder())
    parser.add_argument("--older_than_days", type=_days, default=0.0, help="prune: only what was not used for so long")
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
        path, days = entry["path"], _unused_days(entry["used"])
        if prune and (days < options.older_than_days or not path.name.startswith(options.key)):
            continue
        if prune and not _remove(path):
            say(f"{path.name:<40} is being built by a run; kept")
            continue
        total += entry["size"]
        ago = "in the future of this clock" if math.isinf(days) else f"{days:.1f} days ago"
        say(
            f"{path.name:<40} {entry['size'] / 1e6:10.1f} MB  {entry['dtype']:<8} {entry['rows']:>7} rows  "
            f"{entry['split']:<10} {entry['origin']}  used {ago}"
        )
    say(f"{'removed' if prune else 'in all'} {total / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(run_command(main))
