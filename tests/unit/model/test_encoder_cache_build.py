"""Whether a cache is built, and that whatever happens meanwhile it ends in the same bits, or in one line.

On a full disk, with several processes, with another run that wants the same cache. A kill:
end_to_end/test_encoder_cache.py.
"""

import logging
import os
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.model import encoder_cache_build
from distilbart_mnli.model.bart import compile_layers, freeze
from distilbart_mnli.model.encoder_cache_build import CacheRequest, open_or_build, refuse_reason
from distilbart_mnli.model.frozen_encoder import encoder_batches
from tests.support.encoder_caches import (
    LENGTHS,
    built,
    content,
    encoded_rows,
    encoder_of,
    student,
)

# ---------------------------------------------------------------------------------------------------------------------
# Whether


def free_disk(monkeypatch, gigabytes: int) -> None:
    usage = types.SimpleNamespace(free=gigabytes * 10**9)
    monkeypatch.setattr(encoder_cache_build.shutil, "disk_usage", lambda _: usage)


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


def test_a_set_gets_the_cache_that_was_asked_for(tmp_path, split):
    encoder = encoder_of(student())

    def found(option="auto", passes=2.0, max_gb=50.0, **more):
        return open_or_build(encoder, split, CacheRequest(option, passes, tmp_path, max_gb, **more))

    assert found("false") is None and found(passes=1) is None and found(max_gb=0) is None
    assert found(unavailable="this device has none") is None
    assert found("true", resumed=False) is None
    assert not list(tmp_path.iterdir())
    cache = found("true", passes=1)
    with encoded_rows(encoder.model) as seen:
        assert found(passes=1).folder == cache.folder == found(max_gb=0).folder  # one that is there costs nothing
        assert found("false", resumed=True).folder == cache.folder
    assert not seen


def test_an_encoder_that_is_trained_has_no_cache(tmp_path, split):
    encoder = encoder_of(student())
    freeze(encoder.model, encoder=True, embeddings=True, encoder_dropout=True)
    assert open_or_build(encoder, split, CacheRequest("auto", 2, tmp_path, 50)) is None
    assert open_or_build(encoder, split, CacheRequest("auto", 2, tmp_path, 50, trains=False)) is not None


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"option": "true"}, "cache_encoder_outputs is true, .*encoder_cache_max_gb"),
        ({"option": "auto", "resumed": True}, "checkpoint .*encoder_cache_max_gb"),
        ({"option": "true", "unavailable": "XLA has none"}, "cache_encoder_outputs is true, but XLA has none"),
    ],
)
def test_a_cache_that_must_be_and_cannot_be_is_refused(tmp_path, split, request_, told):
    with pytest.raises(InputError, match=told):
        open_or_build(encoder_of(student()), split, CacheRequest(passes=2, folder=tmp_path, max_gb=0, **request_))


# ---------------------------------------------------------------------------------------------------------------------
# Killed, foreign, full


def test_batches_are_a_function_of_the_lengths_and_the_longest_comes_first():
    lengths = np.array(LENGTHS)
    batches = encoder_batches(lengths, 130)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert lengths[np.concatenate(batches)].tolist() == sorted(LENGTHS, reverse=True)
    assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= 130 for rows in batches)


def test_a_partial_folder_that_is_another_layout_s_is_begun_anew(tmp_path, split):
    model = student()
    expected = built(model, split, tmp_path / "a").folder
    partial = tmp_path / "b" / f"{expected.name}.partial"
    partial.mkdir(parents=True)
    (partial / "states.bin").write_bytes(b"\1" * 10)
    (partial / "done.bin").write_bytes(b"\1")
    assert content(built(model, split, tmp_path / "b").folder) == content(expected)


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(tmp_path, split, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"encoder cache .*No space left on device") as caught:
        built(student(), split, tmp_path)
    assert caught.value.exit_code == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_made_ends_in_one_line(tmp_path, split):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="encoder_cache_dir"):
        built(student(), split, tmp_path / "file" / "below")


# ---------------------------------------------------------------------------------------------------------------------
# Several builders


class Phases:
    """What same_outcome_on_all_ranks is to processes, for threads."""

    def __init__(self, count: int):
        self.barrier = threading.Barrier(count, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.barrier.wait()


def test_a_compiled_model_s_cache_holds_what_its_layers_compute_as_they_are_written(tmp_path, split, monkeypatch):
    """A training compiles its model before it builds the caches of its evaluation sets, and mends rows of its own."""
    expected = content(built(student(), split, tmp_path / "one").folder)
    calls = []

    def backend(graph, _inputs):
        return lambda *arguments: (calls.append(graph), graph(*arguments))[1]

    torch._dynamo.reset()
    compile_, model = torch.nn.Module.compile, student()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_(self, **how, backend=backend))
    compile_layers(model)
    assert content(built(model, split, tmp_path / "other").folder) == expected and not calls
    with torch.no_grad():
        model.encode(torch.tensor([[0, 5, 6, 2]]), torch.ones(1, 4, dtype=torch.int64))
    assert len(calls) == model.config.encoder_layers
    torch._dynamo.reset()


@pytest.mark.parametrize("count", [2, 3])
def test_several_builders_write_the_bits_of_one(tmp_path, split, count, monkeypatch):
    expected = content(built(student(), split, tmp_path / "one").folder)
    models = [student() for _ in range(count)]
    phases, shares, errors, caches = Phases(count), [], [], []
    monkeypatch.setattr(encoder_cache_build, "same_outcome_on_all_ranks", lambda: phases)

    def build(index):
        try:
            with encoded_rows(models[index]) as mine:
                caches.append(built(models[index], split, tmp_path / "many", index=index, count=count))
            shares.append(sum(mine))
        except BaseException as error:
            errors.append(error)
            phases.barrier.abort()

    threads = [threading.Thread(target=build, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sum(shares) == len(LENGTHS) and min(shares) >= 1
    assert len({cache.folder for cache in caches}) == 1
    assert content(caches[0].folder) == expected


def test_a_second_run_waits_for_the_first_one_s_build_and_reads_it(tmp_path, split, caplog):
    caplog.set_level(logging.INFO)
    slow, fast = student(), student()
    encode, started = slow.encode, threading.Event()

    def slowly(ids, mask):
        started.set()
        time.sleep(0.1)
        return encode(ids, mask)

    slow.encode = slowly
    builder = threading.Thread(target=built, args=(slow, split, tmp_path))
    builder.start()
    assert started.wait(60)
    with encoded_rows(fast) as seen:
        cache = built(fast, split, tmp_path)
    builder.join()
    assert not seen and cache.folder.is_dir()
    assert "another run builds the same encoder cache" in caplog.text
    assert not list(Path(tmp_path).glob("*.lock"))
