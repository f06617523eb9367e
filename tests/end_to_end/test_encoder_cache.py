"""The building of an encoder cache that is killed goes on, in another process, and ends in the same bits."""

import sys

import numpy as np

from distilbart_mnli.model import frozen_encoder
from tests.support.encoder_caches import BATCH_TOKENS, LENGTHS, built, content, encoded_rows, split_of, student
from tests.support.launch import finish, start

BUILD = """
import sys, time
from distilbart_mnli.model import encoder_cache_build, frozen_encoder
from tests.support.encoder_caches import BATCH_TOKENS, LENGTHS, built, split_of, student
frozen_encoder.BATCH_TOKENS["cpu"] = BATCH_TOKENS
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
built(model, split, sys.argv[1])
"""


def test_a_killed_build_goes_on_where_it_was_and_ends_in_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setitem(frozen_encoder.BATCH_TOKENS, "cpu", BATCH_TOKENS)
    split = split_of(LENGTHS)
    expected = content(built(student(), split, tmp_path / "whole").folder)
    child = start([sys.executable, "-c", BUILD, tmp_path / "killed"])
    assert any(line == "encoding\n" for line in child.stdout)
    child.kill()
    finish(child)
    (partial,) = (tmp_path / "killed").glob("*.partial")
    done = np.fromfile(partial / "done.bin", np.uint8)
    assert 1 <= done.sum() < len(done)
    assert not any(path.is_dir() and path.suffix != ".partial" for path in (tmp_path / "killed").iterdir())

    model = student()
    with encoded_rows(model) as seen:
        cache = built(model, split, tmp_path / "killed")
    assert len(seen) == len(done) - done.sum()
    assert content(cache.folder) == expected
    assert not list((tmp_path / "killed").glob("*.partial"))
