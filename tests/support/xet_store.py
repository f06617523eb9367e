"""What hf_xet's built-in local client left in a folder: which files it stored, and their bytes.

The small Hub of the tests hands the client `local://FOLDER` as the address of the content store, so that hf_xet writes
its xorbs and shards there instead of speaking to a server. A shard (MDB file) lists, for every file, the xet hash
that reads it back and, as an extension, its SHA-256, which is what a commit names. Layout read from xet-core's
mdb_shard crate and checked against hf_xet 1.8.0: a header of 48 bytes, then for each file one header entry, its
segments, their verification entries (flag bit 31) and its metadata (flag bit 30), all entries 48 bytes, until a
header whose hash is all ones. Hashes are four little-endian 64-bit words.
"""

import shutil
import struct
import tempfile
from pathlib import Path

import hf_xet

ENTRY = 48
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


def _hexadecimal(hash_bytes: bytes) -> str:
    return b"".join(hash_bytes[start : start + 8][::-1] for start in range(0, 32, 8)).hex()


def shard_files(shard: bytes) -> dict[str, str]:
    """SHA-256 -> xet hash of every file in one shard."""
    found, position = {}, ENTRY
    while shard[position : position + 32] != b"\xff" * 32:
        xet_hash = _hexadecimal(shard[position : position + 32])
        flags, segments = struct.unpack("<II", shard[position + 32 : position + 40])
        position += ENTRY * (1 + segments + (segments if flags & WITH_VERIFICATION else 0))
        if flags & WITH_METADATA:
            found[_hexadecimal(shard[position : position + 32])] = xet_hash
            position += ENTRY
    return found


def read_object(store: Path, sha256: str, size: int) -> bytes | None:
    """The bytes of a file that a client uploaded, or None if no shard names it.

    Reads from a copy: the client's own session may still hold the lock of the store's database.
    Raises whatever hf_xet raises if the stored chunks are damaged.
    """
    xet_hash = None
    for shard in store.rglob("shards/*.mdb"):
        xet_hash = shard_files(shard.read_bytes()).get(sha256, xet_hash)
    if xet_hash is None:
        return None
    with tempfile.TemporaryDirectory(dir=store.parent) as folder:
        copy, target = Path(folder) / "store", Path(folder) / "object"
        shutil.copytree(store, copy, ignore=shutil.ignore_patterns("shard-*"))
        with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{copy}") as group:
            group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(target))
        return target.read_bytes()
