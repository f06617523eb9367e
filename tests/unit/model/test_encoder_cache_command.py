"""`python -m distilbart_mnli.model.encoder_cache` lists and removes caches, and nothing that is no cache or in use."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from distilbart_mnli.errors import InputError
from distilbart_mnli.model import encoder_cache
from tests.support.encoder_caches import built, student


@pytest.fixture
def told(capsys, monkeypatch):
    """What the command prints."""

    def run(*arguments) -> str:
        monkeypatch.setattr(sys, "argv", ["encoder_cache", *map(str, arguments)])
        encoder_cache.main()
        return capsys.readouterr().out

    return run


def test_caches_are_listed_and_pruned_by_age_and_key(tmp_path, split, told):
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
    listed = told("list", *where)
    assert all(word in listed for word in (old.name, new.name, "teacher-a", "teacher-b", "bfloat16", "11 rows"))
    assert "unfinished" in listed and "used 7.0 days ago" in listed and "in all 2.0 MB" in listed
    assert old.name in told("prune", "--older_than_days", 3, *where)
    assert not old.exists() and new.exists() and dead.exists()
    assert told("prune", "--key", "no-such-key", *where).startswith("removed 0.0 MB")
    told("prune", "--key", new.name[:8], *where)
    assert not new.exists()
    told("prune", *where)
    assert [path.name for path in folder.iterdir()] == ["precious"]


@pytest.mark.parametrize("past_years", [-10, -0.001])
def test_a_cache_from_the_future_of_a_clock_that_went_back_is_pruned(tmp_path, split, told, past_years):
    """Ten years in the future nobody knows how old it is; a few hours can be the clock of the disk's server."""
    folder, where = built(student(), split, tmp_path).folder, ("--encoder_cache_dir", tmp_path)
    then = time.time() - past_years * 365 * 86400
    os.utime(folder / "meta.json", (then, then))
    assert ("future" in told("list", *where)) == (past_years == -10)
    told("prune", "--older_than_days", 3, *where)
    assert folder.exists() == (past_years != -10)
    told("prune", *where)
    assert not folder.exists()


@pytest.mark.parametrize("days", ["nan", "-1", "inf", "soon"])
def test_days_that_are_no_number_remove_nothing(tmp_path, split, told, days):
    folder = built(student(), split, tmp_path).folder
    with pytest.raises(InputError, match="older_than_days"):
        told("prune", f"--older_than_days={days}", "--encoder_cache_dir", tmp_path)
    assert folder.exists()


@pytest.mark.parametrize(
    "meta", ["[1]", '{"dtype": null}', "[" * 100_000, '{"dtype": {}, "rows": [], "split": "\\u001b[2J", "origin": 1}']
)
def test_a_cache_whose_description_is_something_else_is_listed_all_the_same(tmp_path, split, told, meta):
    folder = built(student(), split, tmp_path).folder
    (folder / "meta.json").write_text(meta)
    listed = told("list", "--encoder_cache_dir", tmp_path)
    assert folder.name in listed and "\x1b" not in listed
    told("prune", "--encoder_cache_dir", tmp_path)
    assert not folder.exists()


def test_a_pipe_in_place_of_a_description_is_not_waited_for(tmp_path, split, told):
    folder = built(student(), split, tmp_path).folder
    (folder / "meta.json").unlink()
    os.mkfifo(folder / "meta.json")
    assert "unfinished" in told("list", "--encoder_cache_dir", tmp_path)


def test_a_link_to_a_cache_is_removed_and_what_it_leads_to_stays(tmp_path, split, told):
    folder = built(student(), split, tmp_path / "elsewhere").folder
    (tmp_path / "caches").mkdir()
    (tmp_path / "caches" / folder.name).symlink_to(folder)
    told("prune", "--encoder_cache_dir", tmp_path / "caches")
    assert not list((tmp_path / "caches").iterdir()) and (folder / "states.bin").exists()


def test_a_cache_that_is_being_built_is_not_pruned(tmp_path, split, told):
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
    shown = told("prune", "--encoder_cache_dir", tmp_path)
    go_on.set()
    builder.join()
    assert "being built" in shown and found and found[0].folder.is_dir()


def test_a_cache_that_cannot_be_removed_is_named_in_one_line(tmp_path, split, told, monkeypatch):
    folder = built(student(), split, tmp_path).folder

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(encoder_cache.shutil, "rmtree", refused)
    with pytest.raises(InputError, match=f"{folder}: .*Permission denied"):
        told("prune", "--encoder_cache_dir", tmp_path)


def test_a_folder_without_caches_is_named_or_empty(tmp_path, told):
    with pytest.raises(InputError, match=f"{tmp_path / 'absent'}"):
        told("list", "--encoder_cache_dir", tmp_path / "absent")
    assert told("list", "--encoder_cache_dir", tmp_path) == "in all 0.0 MB\n"


def test_a_mistyped_option_is_named_with_the_nearest_one(told):
    with pytest.raises(InputError, match=r"--older_then_days.*--older_than_days"):
        told("prune", "--older_then_days", 3)


def test_the_default_folder_is_in_the_user_s_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert encoder_cache.default_folder() == Path("/some/where/distilbart_mnli/encoder")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert encoder_cache.default_folder() == Path("/home/me/.cache/distilbart_mnli/encoder")
