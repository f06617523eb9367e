"""Whatever bit of an encoder cache is flipped, what is read from it is what was written, and the cache is whole again.

Read as a training reads it, in batches that threads prepare; compared with the bytes of an untouched cache.
"""

import itertools
import logging
import os
import random
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding, prefetch
from distilbart_mnli.model import encoder_cache, encoder_cache_build
from distilbart_mnli.model.encoder_cache import EncoderCache
from distilbart_mnli.model.encoder_cache_build import CacheRequest, open_or_build
from tests.support.encoder_caches import LENGTHS, built, content, encoded_rows, encoder_of, student
from tests.support.files import flip_bit

ROWS = len(LENGTHS)


def opened(model, split, folder: Path) -> EncoderCache:
    """The cache below `folder`, as a run gets it."""
    cache = open_or_build(encoder_of(model), split, CacheRequest("true", 2, folder, 50))
    assert cache is not None
    return cache


def all_states(cache: EncoderCache, split, workers: int = 1) -> torch.Tensor:
    """Every row's states, read in batches of three in another order than the file's; twice, as in two epochs."""
    collate = Collator(split, 1, Padding(128), cache)
    order = np.random.default_rng(0).permutation(ROWS)
    found = torch.zeros(ROWS, 128, 16)
    for _ in range(2):
        batches = [MicroBatch(rows, np.ones(len(rows), np.float32)) for rows in np.array_split(order, 4)]
        for micro, batch in zip(batches, prefetch(collate, batches, workers), strict=True):
            states = batch["encoder_hidden_states"]
            found[micro.rows] = 0
            found[micro.rows, : states.shape[1]] = states
    return found


@pytest.fixture
def whole(tmp_path, split) -> tuple[Path, torch.Tensor, dict[str, bytes]]:
    """An untouched cache: the folder around it, its states, its files."""
    model = student()
    cache = built(model, split, tmp_path / "whole")
    return tmp_path / "whole", all_states(cache, split), content(cache.folder)


def copied(whole: Path, folder: Path) -> Path:
    """A copy of the cache to damage; returns the cache's own folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (own,) = (path for path in folder.iterdir() if path.is_dir())
    return own


@pytest.mark.parametrize("name", ["states.bin", "xxh3.bin", "meta.json"])
def test_no_flipped_bit_changes_what_is_read(tmp_path, split, whole, name):
    folder, expected, files = whole
    model, draw = student(), random.Random(name)
    for trial in range(20):
        own = copied(folder, tmp_path / "damaged")
        for _ in range(draw.choice([1, 1, 1, 2, 50])):
            size = (own / name).stat().st_size
            data = bytearray((own / name).read_bytes())
            data[draw.randrange(size)] ^= 1 << draw.randrange(8)
            (own / name).write_bytes(data)
        found = all_states(opened(model, split, tmp_path / "damaged"), split, workers=trial % 3)
        assert torch.equal(found, expected), trial
        assert content(own) == files, trial


def test_a_damaged_row_is_computed_again_with_its_batch_alone_and_one_warning(tmp_path, split, whole, caplog):
    folder, expected, _ = whole
    own = copied(folder, tmp_path / "damaged")
    for row in (3, 0):
        flip_bit(own / "states.bin", int(split.offsets[row]) * 64 + 5)
    model = student()
    caplog.set_level(logging.WARNING)
    with encoded_rows(model) as seen:
        assert torch.equal(all_states(opened(model, split, tmp_path / "damaged"), split), expected)
    mine = [len(batch) for batch in encoder_of(model).batches(split) if {0, 3} & set(batch.tolist())]
    assert sorted(seen) == sorted(mine) and sum(mine) < ROWS
    assert [record.levelname for record in caplog.records] == ["WARNING"] and own.name in caplog.text
    caplog.clear()
    with encoded_rows(model) as seen:
        all_states(opened(model, split, tmp_path / "damaged"), split)
    assert not seen and not caplog.records


def test_a_model_in_training_stays_in_training_and_no_gradient_is_made(tmp_path, split, whole):
    folder, expected, _ = whole
    flip_bit(copied(folder, tmp_path / "damaged") / "states.bin")
    model = student()
    model.train()
    assert torch.equal(all_states(opened(model, split, tmp_path / "damaged"), split), expected)
    assert model.training and torch.is_grad_enabled()


def test_a_cache_of_nothing_but_zeros_costs_one_encoding(tmp_path, split, whole):
    folder, expected, files = whole
    own = copied(folder, tmp_path / "damaged")
    (own / "states.bin").write_bytes(bytes(len(files["states.bin"])))
    model = student()
    with encoded_rows(model) as seen:
        assert torch.equal(all_states(opened(model, split, tmp_path / "damaged"), split), expected)
    assert sum(seen) == ROWS and content(own) == files


def test_a_damaged_cache_that_cannot_be_written_is_mended_in_memory(tmp_path, split, whole, monkeypatch):
    folder, expected, _ = whole
    own = copied(folder, tmp_path / "damaged")
    flip_bit(own / "states.bin")
    damaged = content(own)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(encoder_cache, "_overwrite", refused)
    assert torch.equal(all_states(opened(student(), split, tmp_path / "damaged"), split), expected)
    assert content(own) == damaged


def test_nothing_is_written_through_a_link(tmp_path, split, whole):
    folder, expected, _ = whole
    own = copied(folder, tmp_path / "damaged")
    flip_bit(own / "states.bin")
    (own / "states.bin").rename(tmp_path / "precious.bin")
    (own / "states.bin").symlink_to(tmp_path / "precious.bin")
    before = (tmp_path / "precious.bin").read_bytes()
    assert torch.equal(all_states(opened(student(), split, tmp_path / "damaged"), split), expected)
    assert (tmp_path / "precious.bin").read_bytes() == before


def test_a_row_that_this_machine_computes_otherwise_is_used_and_said(tmp_path, split, whole, monkeypatch, caplog):
    """As with another number of threads: the states are right, their last bits are not those of the file."""
    folder, expected, _ = whole
    own = copied(folder, tmp_path / "damaged")
    flip_bit(own / "states.bin", int(split.offsets[4]) * 64)
    model = student()
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda ids, mask: encode(ids, mask) * (1 + 2**-22))
    caplog.set_level(logging.WARNING)
    found = all_states(opened(model, split, tmp_path / "damaged"), split)
    assert torch.allclose(found, expected, rtol=1e-6) and not torch.equal(found, expected)
    assert torch.equal(found[5:], expected[5:]) and torch.equal(found[:4], expected[:4])
    assert "1 rows" in caplog.text and "other bits" in caplog.text


def test_flips_in_a_killed_build_are_seen_when_it_is_finished(tmp_path, split, whole, monkeypatch):
    """In its states, its checksums, and its list of the batches that are done."""
    folder, expected, files = whole
    model, draw = student(), random.Random(0)
    batches = len(encoder_of(model).batches(split))
    for trial in range(15):
        own = copied(folder, tmp_path / "damaged")
        (own / "meta.json").unlink()
        done = np.array([draw.randrange(2) for _ in range(batches)], np.uint8)
        (own / "done.bin").write_bytes(done.tobytes())
        data = bytearray(files["states.bin"])
        for number, rows in enumerate(encoder_of(model).batches(split)):
            for row in rows if not done[number] else ():
                data[split.offsets[row] * 64 : split.offsets[row + 1] * 64] = bytes(int(split.lengths[row]) * 64)
        (own / "states.bin").write_bytes(data)
        name = draw.choice(["states.bin", "xxh3.bin", "done.bin"])
        flip_bit(own / name, draw.randrange((own / name).stat().st_size))
        own.rename(own.with_name(own.name + ".partial"))
        assert torch.equal(all_states(opened(model, split, tmp_path / "damaged"), split), expected), trial
        assert content(own) == files


def test_a_killed_build_with_links_is_begun_anew_and_nothing_is_written_through_them(tmp_path, split, whole):
    folder, expected, files = whole
    own = copied(folder, tmp_path / "damaged")
    (own / "meta.json").unlink()
    (own / "done.bin").write_bytes(bytes(len(encoder_of(student()).batches(split))))
    (own / "states.bin").write_bytes(bytes(len(files["states.bin"])))
    (own / "states.bin").rename(tmp_path / "precious.bin")
    (own / "states.bin").symlink_to(tmp_path / "precious.bin")
    own.rename(own.with_name(own.name + ".partial"))
    assert torch.equal(all_states(opened(student(), split, tmp_path / "damaged"), split), expected)
    assert not any((tmp_path / "precious.bin").read_bytes())
    assert content(own) == files and not own.joinpath("states.bin").is_symlink()


@pytest.mark.parametrize("flipped", [False, True])
def test_a_cache_of_an_earlier_release_is_read_and_checked_by_its_own_checksums(tmp_path, split, whole, flipped):
    folder, expected, files = whole
    own = copied(folder, tmp_path / "old")
    (own / "xxh3.bin").unlink()
    starts = [int(place) * 64 for place in split.offsets]
    rows = [files["states.bin"][start:end] for start, end in itertools.pairwise(starts)]
    np.array([zlib.crc32(row) for row in rows], np.uint32).tofile(own / "crc.bin")
    whole_files = content(own)
    if flipped:
        flip_bit(own / "states.bin")
        flip_bit(own / "crc.bin", 0)
    model = student()
    with encoded_rows(model) as seen:
        assert torch.equal(all_states(opened(model, split, tmp_path / "old"), split), expected)
    assert bool(seen) == flipped and content(own) == whole_files


def test_without_a_call_of_linux_the_same_cache_is_built(tmp_path, split, whole, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    cache = built(student(), split, tmp_path / "mac")
    assert content(cache.folder) == whole[2]


def test_a_disk_that_is_full_before_the_reserved_bytes_are_written_ends_in_one_line(tmp_path, split, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")

    def full(file, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder_cache_build, "_reserve", full)
    with pytest.raises(encoder_cache_build.RunError, match="No space left on device"):
        built(student(), split, tmp_path / "full")
    assert not [path for path in (tmp_path / "full").iterdir() if path.is_dir()]
