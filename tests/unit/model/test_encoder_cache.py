"""The encoder cache changes nothing but the time: same logits, same training; and it is never read for another input.

What it holds is compared with the encoder run by hand, row by row, without padding.
"""

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.model import encoder_cache, encoder_cache_build
from distilbart_mnli.model.bart import ShortCutBart, freeze
from distilbart_mnli.model.encoder_cache import cache_bytes, cache_key, open_cache, refuse_reason
from distilbart_mnli.model.encoder_cache_build import Builders, build_cache, encoder_batches
from tests.support.tiny import ROOT, tiny_bart


def split_of(lengths, seed=0) -> TokenizedSplit:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, 400, offsets[-1]).astype(np.int32)
    for start, end in itertools.pairwise(offsets):
        ids[start], ids[start + 2], ids[start + 3], ids[end - 1] = 0, 2, 2, 2
    return TokenizedSplit("train", ids, offsets, rng.integers(0, 3, len(lengths)), digest_of(ids, offsets))


LENGTHS = [9, 30, 7, 128, 12, 64, 8, 8, 100, 33, 15]


@pytest.fixture
def split(monkeypatch):
    monkeypatch.setitem(encoder_cache_build.BATCH_TOKENS, "cpu", 130)  # several batches for a few rows
    return split_of(LENGTHS)


def student(seed=0, encoder_from=None, **config) -> ShortCutBart:
    """A short-cut model with a frozen encoder; `encoder_from`: whose encoder it keeps."""
    stock = tiny_bart(seed=seed, **config)
    if encoder_from is not None:
        stock.model.encoder.load_state_dict(encoder_from.model.encoder.state_dict())
    model = ShortCutBart(stock.config)
    model.load_state_dict(stock.state_dict())
    freeze(model, encoder=True, embeddings=True)
    return model.eval()


def autocast(dtype):
    return lambda: torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")


def built(model, split, folder, dtype="float32", **more) -> encoder_cache.EncoderCache:
    return build_cache(model, split, Path(folder) / cache_key(model, split, dtype), dtype, autocast(dtype), **more)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".bin"}


# ---------------------------------------------------------------------------------------------------------------------
# What it holds


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_file_holds_the_encoder_s_output_of_every_real_token(tmp_path, split, dtype):
    model = student()
    cache = built(model, split, tmp_path, dtype)
    assert (
        (cache.folder / "states.bin").stat().st_size
        == cache_bytes(split, 16, dtype)
        == sum(LENGTHS) * 16 * (4 if dtype == "float32" else 2)
    )
    for row, (start, end) in enumerate(zip(split.offsets[:-1], split.offsets[1:], strict=True)):
        ids = torch.from_numpy(split.ids[None, start:end].astype(np.int64))
        with torch.no_grad(), autocast(dtype)():
            expected = model.model.encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.float()
        index = np.arange(start, end)[None]
        found = cache(index, np.ones_like(index, dtype=bool))
        assert found.dtype == getattr(torch, dtype)
        tolerance = 1e-5 if dtype == "float32" else 2e-2
        assert (found.float() - expected).abs().max() <= tolerance * expected.abs().max(), row


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layers", [1, 2])
def test_logits_and_gradients_with_the_cache_are_those_without(tmp_path, split, dtype, layers):
    model = student(decoder_layers=layers)
    cache = built(model, split, tmp_path, dtype)
    batch = MicroBatch(np.array([1, 0, 4, 3]), np.ones(4, np.float32))
    results = []
    for states in (None, cache):
        tensors = Collator(split, 1, Padding(128, multiple_of=8), states)(batch)
        model.train()
        model.zero_grad(set_to_none=True)
        with autocast(dtype)():
            inputs = ("input_ids", "attention_mask", "encoder_hidden_states")
            logits = model(**{name: tensors[name] for name in inputs if name in tensors})
        torch.nn.functional.cross_entropy(logits.float(), tensors["labels"]).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((logits.detach().float(), gradient))
    assert "encoder_hidden_states" in tensors
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for without, with_cache in zip(*results, strict=True):
        assert (with_cache - without).norm() <= tolerance * without.norm()


def test_nothing_of_the_padding_reaches_a_batch(tmp_path, split):
    cache = built(student(), split, tmp_path)
    tensors = Collator(split, 1, Padding(128), cache)(MicroBatch(np.array([2, 1]), np.ones(2, np.float32)))
    assert tensors["encoder_hidden_states"].shape == (2, 30, 16)
    assert (tensors["encoder_hidden_states"][0, 7:] == 0).all()
    assert (tensors["encoder_hidden_states"][0, :7] != 0).any(dim=1).all()


def test_batches_are_a_function_of_the_lengths_and_the_longest_comes_first():
    lengths = np.array(LENGTHS)
    batches = encoder_batches(lengths, 130)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert lengths[np.concatenate(batches)].tolist() == sorted(LENGTHS, reverse=True)
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= 130 for rows in batches)


# ---------------------------------------------------------------------------------------------------------------------
# Hit and miss


def encoded_rows(model, monkeypatch) -> list[int]:
    """A list that grows by the rows of every batch that `model` encodes from now on."""
    seen, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda ids, mask: seen.append(len(ids)) or encode(ids, mask))
    return seen


def test_a_second_student_of_the_same_teacher_reads_what_the_first_one_wrote(tmp_path, split, monkeypatch):
    teacher = student(seed=0)
    first = built(student(seed=1, encoder_from=teacher, decoder_layers=1), split, tmp_path)
    other = student(seed=2, encoder_from=teacher, decoder_layers=3)
    seen = encoded_rows(other, monkeypatch)
    second = built(other, split, tmp_path)
    assert second.folder == first.folder and not seen
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_moved_folder_still_hits(tmp_path, split, monkeypatch):
    model = student()
    built(model, split, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    seen = encoded_rows(model, monkeypatch)
    built(model, split, tmp_path / "there")
    assert not seen


def test_whatever_decides_the_bits_decides_the_key(split):
    model = student()
    expected = cache_key(model, split, "float32")
    assert cache_key(student(), split_of(LENGTHS), "float32") == expected
    keys = {expected, cache_key(model, split, "bfloat16"), cache_key(model, split, "float16")}
    # Another tokenizer, another text, another cut of long pairs: all of them are other ids.
    other = split_of(LENGTHS)
    other.ids[5] += 1
    keys.add(
        cache_key(
            model,
            TokenizedSplit("train", other.ids, other.offsets, None, digest_of(other.ids, other.offsets)),
            "float32",
        )
    )
    keys.add(cache_key(model, split_of([9, 31, *LENGTHS[2:]]), "float32"))
    for _, tensor in list(model.model.encoder.state_dict().items())[::7]:
        before = tensor.view(-1)[0].item()
        tensor.view(-1)[0] = before + 1e-6 * max(1.0, abs(before))
        keys.add(cache_key(model, split, "float32"))
        tensor.view(-1)[0] = before
    changed = len(list(model.model.encoder.state_dict())[::7])
    for option, value in {
        "activation_function": "relu",
        "scale_embedding": True,
        "encoder_attention_heads": 2,
    }.items():
        keys.add(cache_key(student(**{option: value}), split, "float32"))
    eager = student()
    eager.set_attn_implementation("eager")
    keys.add(cache_key(eager, split, "float32"))
    assert len(keys) == 5 + changed + 4
    assert cache_key(model, split, "float32") == expected


def test_what_does_not_touch_the_encoder_does_not_touch_the_key(split):
    model = student()
    expected = cache_key(model, split, "float32")
    for tensor in [*model.model.decoder.layers.parameters(), *model.classification_head.parameters()]:
        tensor.data.add_(1)
    model.train()
    renamed = TokenizedSplit("other", split.ids, split.offsets, None, split.digest)
    assert cache_key(model, renamed, "float32") == expected


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_another_release_of_the_libraries_makes_another_cache(split, package, monkeypatch):
    model = student()
    expected = cache_key(model, split, "float32")
    monkeypatch.setattr(getattr(encoder_cache, package), "__version__", "0.0")
    assert cache_key(model, split, "float32") != expected


# ---------------------------------------------------------------------------------------------------------------------
# Killed, damaged, full


BUILD = """
import sys, time
from pathlib import Path
from tests.unit.model.test_encoder_cache import *
encoder_cache_build.BATCH_TOKENS["cpu"] = 130
encoder_cache_build.FLUSH_SECONDS = 0.0
model, split = student(), split_of(LENGTHS)
encode, calls = model.encode, []
def slow(ids, mask):
    calls.append(1)
    if len(calls) == 4:
        print("encoding", flush=True)
        time.sleep(60)
    return encode(ids, mask)
model.encode = slow
built(model, split, Path(sys.argv[1]))
"""


def test_a_killed_build_goes_on_where_it_was_and_ends_in_the_same_bits(tmp_path, split, monkeypatch):
    expected = content(built(student(), split, tmp_path / "whole").folder)
    child = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout.readline() == b"encoding\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (partial,) = (tmp_path / "killed").glob("*.partial")
    done = np.fromfile(partial / "done.bin", np.uint8)
    assert 1 <= done.sum() < len(done)
    assert not any(path.is_dir() and path.suffix != ".partial" for path in (tmp_path / "killed").iterdir())

    model = student()
    seen = encoded_rows(model, monkeypatch)
    cache = built(model, split, tmp_path / "killed")
    assert len(seen) == len(done) - done.sum()
    assert content(cache.folder) == expected
    assert not list((tmp_path / "killed").glob("*.partial"))


def flip(path: Path, place: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": lambda folder: flip(folder / "states.bin"),
    "a flipped bit at the end": lambda folder: flip(folder / "states.bin", -1),
    "a flipped bit in the checksums": lambda folder: flip(folder / "crc.bin", 7),
    "a truncated file": lambda folder: os.truncate(folder / "states.bin", 1000),
    "truncated checksums": lambda folder: os.truncate(folder / "crc.bin", 8),
    "no states": lambda folder: (folder / "states.bin").unlink(),
    "no meta.json": lambda folder: (folder / "meta.json").unlink(),
    "an empty meta.json": lambda folder: (folder / "meta.json").write_text(""),
    "a meta.json of something else": lambda folder: (folder / "meta.json").write_text("[1]"),
    "a meta.json in no encoding": lambda folder: (folder / "meta.json").write_bytes(b"\xff\xfe\x00"),
    "another dtype in meta.json": lambda folder: edit(folder, dtype="float16"),
    "an unknown dtype in meta.json": lambda folder: edit(folder, dtype="float8"),
    "another width in meta.json": lambda folder: edit(folder, d_model="sixteen"),
    "another version of the format": lambda folder: edit(folder, version=0),
    "another number of rows": lambda folder: edit(folder, rows=3),
}


def edit(folder: Path, **changes) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again_with_a_warning(tmp_path, split, damage, caplog):
    cache = built(student(), split, tmp_path)
    folder, expected = cache.folder, content(cache.folder)
    del cache
    DAMAGES[damage](folder)
    caplog.set_level(logging.WARNING)
    again = built(student(), split, tmp_path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text and "built again" in caplog.text
    assert content(again.folder) == expected


def test_a_partial_folder_that_is_another_layout_s_is_begun_anew(tmp_path, split):
    model = student()
    expected = content(built(model, split, tmp_path / "a").folder)
    folder = tmp_path / "b" / cache_key(model, split, "float32")
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True)
    (partial / "states.bin").write_bytes(b"\1" * 10)
    (partial / "done.bin").write_bytes(b"\1")
    assert content(built(model, split, tmp_path / "b").folder) == expected


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(tmp_path, split, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"No space left on device while reserving 0\.00 GB; free some") as caught:
        built(student(), split, tmp_path)
    assert caught.value.exit_code == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_made_ends_in_one_line(tmp_path, split):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="encoder_cache_dir"):
        built(student(), split, tmp_path / "file" / "below")


# ---------------------------------------------------------------------------------------------------------------------
# Several builders


class Phases:
    """What context.together gives to processes, for threads."""

    def __init__(self, count: int):
        self.barrier = threading.Barrier(count, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.barrier.wait()


@pytest.mark.parametrize("count", [2, 3])
def test_several_builders_write_the_bits_of_one(tmp_path, split, count):
    expected = content(built(student(), split, tmp_path / "one").folder)
    models = [student() for _ in range(count)]
    phases, shares, errors = Phases(count), [], []

    def build(index):
        try:
            model = models[index]
            encode, mine = model.encode, []
            model.encode = lambda ids, mask: mine.append(len(ids)) or encode(ids, mask)
            caches.append(built(model, split, tmp_path / "many", builders=Builders(count, index, lambda: phases)))
            shares.append(sum(mine))
        except BaseException as error:
            errors.append(error)
            phases.barrier.abort()

    caches: list = []
    threads = [threading.Thread(target=build, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sum(shares) == len(LENGTHS) and min(shares) >= 1
    assert len({cache.folder for cache in caches}) == 1
    assert content(caches[0].folder) == expected


def test_a_second_run_waits_for_the_first_one_s_build_and_reads_it(tmp_path, split, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    slow, fast = student(), student()
    encode, started = slow.encode, threading.Event()

    def slowly(ids, mask):
        started.set()
        time.sleep(0.1)
        return encode(ids, mask)

    slow.encode = slowly
    seen = encoded_rows(fast, monkeypatch)
    builder = threading.Thread(target=built, args=(slow, split, tmp_path))
    builder.start()
    assert started.wait(60)
    cache = built(fast, split, tmp_path)
    builder.join()
    assert not seen and cache.folder.is_dir()
    assert "another run builds the same encoder cache" in caplog.text


# ---------------------------------------------------------------------------------------------------------------------
# Whether; list and prune


def free_disk(monkeypatch, gigabytes: int) -> None:
    usage = types.SimpleNamespace(free=gigabytes * 10**9)
    monkeypatch.setattr(encoder_cache.shutil, "disk_usage", lambda _: usage)


def test_a_cache_that_pays_nothing_or_does_not_fit_is_declined_with_the_reason(tmp_path, monkeypatch):
    free_disk(monkeypatch, 100)
    folder = tmp_path / "not" / "there" / "key"
    assert "at most once" in refuse_reason(10**9, folder, 50, 1)
    assert "at most once" in refuse_reason(10**9, folder, 50, 0.5)
    assert not folder.parent.exists()
    assert refuse_reason(10**9, folder, 50, 2) is None
    assert refuse_reason(10**9, folder, 50, 1.5) is None
    assert refuse_reason(60 * 10**9, folder, 50, 2) == "it needs 60.00 GB, encoder_cache_max_gb is 50"
    assert refuse_reason(79 * 10**9, folder, 1000, 2) is None
    assert "it needs 81.00 GB, 100.00 GB are free" in refuse_reason(81 * 10**9, folder, 1000, 2)


def test_a_folder_that_cannot_be_made_or_written_is_a_reason_too(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "cannot be made: Not a directory" in refuse_reason(1, tmp_path / "file" / "below" / "key", 50, 2)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "is not writable" in refuse_reason(1, tmp_path / "key", 50, 2)


def test_the_space_that_a_killed_build_has_reserved_counts_as_free(tmp_path, monkeypatch):
    """6 GB of 10: the killed build leaves 4 GB free, and must still be allowed to go on."""
    free_disk(monkeypatch, 4)
    assert "4.00 GB are free" in refuse_reason(6 * 10**9, tmp_path / "key", 50, 2)
    (tmp_path / "key.partial").mkdir()
    with (tmp_path / "key.partial" / "states.bin").open("wb") as file:
        file.truncate(6 * 10**9)  # sparse: a size without blocks
    assert refuse_reason(6 * 10**9, tmp_path / "key", 50, 2) is None


def told(*arguments, capsys, monkeypatch) -> str:
    monkeypatch.setattr(sys, "argv", ["encoder_cache", *map(str, arguments)])
    encoder_cache.main()
    return capsys.readouterr().out


def test_caches_are_listed_and_pruned_by_age_and_key(tmp_path, split, capsys, monkeypatch):
    folder = tmp_path / "caches"
    old = built(student(seed=1), split, folder, origin="teacher-a").folder
    new = built(student(seed=2), split, folder, "bfloat16", origin="teacher-b").folder
    week_ago = time.time() - 7 * 86400
    os.utime(old / "meta.json", (week_ago, week_ago))
    dead = folder / ("d" * 32 + ".partial")
    dead.mkdir()
    (dead / "states.bin").write_bytes(b"\0" * 2_000_000)
    (folder / "precious").mkdir()  # not ours
    where = ("--encoder_cache_dir", folder)

    def run(*arguments):
        return told(*arguments, *where, capsys=capsys, monkeypatch=monkeypatch)

    listed = run("list")
    assert all(word in listed for word in (old.name, new.name, "teacher-a", "teacher-b", "bfloat16", "11 rows"))
    assert "unfinished" in listed and "used 7.0 days ago" in listed and "in all 2.0 MB" in listed
    assert old.name in run("prune", "--older_than_days", 3)
    assert not old.exists() and new.exists() and dead.exists()
    assert run("prune", "--key", "no-such-key").startswith("removed 0.0 MB")
    run("prune", "--key", new.name[:8])
    assert not new.exists()
    run("prune")
    assert [path.name for path in folder.iterdir()] == ["precious"]


def test_reading_a_cache_makes_it_young(tmp_path, split):
    cache = built(student(), split, tmp_path)
    os.utime(cache.folder / "meta.json", (1, 1))
    assert open_cache(cache.folder, split) is not None
    assert (cache.folder / "meta.json").stat().st_mtime > time.time() - 60


def test_a_cache_that_others_wrote_is_read_though_its_time_cannot_be_set(tmp_path, split, monkeypatch):
    folder = built(student(), split, tmp_path).folder

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refused)
    assert open_cache(folder, split) is not None


def test_a_cache_that_is_being_built_is_not_pruned(tmp_path, split, capsys, monkeypatch):
    model = student()
    encode, started, go_on = model.encode, threading.Event(), threading.Event()

    def waiting(ids, mask):
        started.set()
        assert go_on.wait(60)
        return encode(ids, mask)

    model.encode = waiting
    found: list = []
    builder = threading.Thread(target=lambda: found.append(built(model, split, tmp_path)))
    builder.start()
    assert started.wait(60)
    shown = told("prune", "--encoder_cache_dir", tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    go_on.set()
    builder.join()
    assert "being built" in shown and found and found[0].folder.is_dir()


def test_a_cache_that_cannot_be_removed_is_named_in_one_line(tmp_path, split, capsys, monkeypatch):
    folder = built(student(), split, tmp_path).folder

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(encoder_cache.shutil, "rmtree", refused)
    with pytest.raises(InputError, match=f"{folder}: cannot be removed: Permission denied"):
        told("prune", "--encoder_cache_dir", tmp_path, capsys=capsys, monkeypatch=monkeypatch)


def test_a_folder_without_caches_is_named_or_empty(tmp_path, capsys, monkeypatch):
    with pytest.raises(InputError, match="no such folder; no encoder cache was made here yet"):
        told("list", "--encoder_cache_dir", tmp_path / "absent", capsys=capsys, monkeypatch=monkeypatch)
    assert told("list", "--encoder_cache_dir", tmp_path, capsys=capsys, monkeypatch=monkeypatch) == "in all 0.0 MB\n"


def test_the_default_folder_is_in_the_user_s_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert encoder_cache.default_folder() == Path("/some/where/distilbart_mnli/encoder")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert encoder_cache.default_folder() == Path("/home/me/.cache/distilbart_mnli/encoder")
