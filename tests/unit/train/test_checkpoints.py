"""Checkpoints are whole or not counted: written beside and renamed, damage seen in any file, the best one kept."""

import os
import shutil
from pathlib import Path

import pytest

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import remove_leftovers
from distilbart_mnli.train import checkpoints
from tests.support.checkpoints import FILES, halve, names, write_checkpoint
from tests.support.files import everything_in, flip_bit

DAMAGES = {"halved": halve, "emptied": lambda path: path.write_bytes(b""), "removed": Path.unlink, "bit": flip_bit}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_damage_to_any_file_is_seen_reported_and_passed_over(tmp_path, name, damage, caplog):
    good = write_checkpoint(tmp_path, 1)
    bad = write_checkpoint(tmp_path, 2)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == bad
    DAMAGES[damage](bad / name)
    with pytest.raises(ValueError, match="." if name == "manifest.json" else name):
        checkpoints.read_state(bad)
    with caplog.at_level("WARNING"):
        assert checkpoints.find_resumable(tmp_path, "true")[0] == good
    assert "checkpoint-2 is not whole" in caplog.text
    with pytest.raises(InputError, match="checkpoint-2 is not whole"):
        checkpoints.find_resumable(tmp_path, str(bad))


def test_none_whole_is_said_and_not_taken_for_a_fresh_start(tmp_path):
    halve(write_checkpoint(tmp_path, 1) / "model.safetensors")
    with pytest.raises(InputError, match=r"no checkpoint of .* is whole"):
        checkpoints.find_resumable(tmp_path, "true")


def test_an_empty_folder_has_nothing_to_resume(tmp_path):
    assert checkpoints.find_resumable(tmp_path, "true") is None


def test_a_run_that_ends_with_its_best_checkpoint_needs_that_one_whole(tmp_path):
    before = write_checkpoint(tmp_path, 1, best=1)
    write_checkpoint(tmp_path, 2, best=2)
    last = write_checkpoint(tmp_path, 3, best=2)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == last
    halve(tmp_path / "checkpoint-2/model.safetensors")
    assert checkpoints.find_resumable(tmp_path, "true")[0] == before


def test_the_newest_run_counts_before_the_highest_step(tmp_path):
    """A new training over old results is killed after its first save: the old run's checkpoints are still there."""
    write_checkpoint(tmp_path, 900, run_id="old", started=1.0)
    new = write_checkpoint(tmp_path, 10, run_id="new", started=2.0)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == new


def test_another_run_s_checkpoint_does_not_stand_in_for_one_that_is_damaged(tmp_path):
    write_checkpoint(tmp_path, 900, run_id="old", started=1.0)
    halve(write_checkpoint(tmp_path, 10, run_id="new", started=2.0) / "model.safetensors")
    with pytest.raises(InputError, match=str(tmp_path)):
        checkpoints.find_resumable(tmp_path, "true")


def test_another_run_s_checkpoint_is_not_the_best_of_this_one(tmp_path):
    before = write_checkpoint(tmp_path, 1, best=1)
    write_checkpoint(tmp_path, 2, run_id="other", started=0.5)
    last = write_checkpoint(tmp_path, 3, best=2)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == before
    with pytest.raises(InputError, match="checkpoint-2"):
        checkpoints.find_resumable(tmp_path, str(last))


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch, failing, replaces):
    whole = write_checkpoint(tmp_path, 1)
    if replaces:
        write_checkpoint(tmp_path, 2)
    before = everything_in(tmp_path)

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        target = {"write": (Path, "write_text"), "fsync": (os, "fsync"), "rename": (Path, "rename")}[failing]
        patch.setattr(*target, refuse)
        with pytest.raises(RunError, match=r"checkpoint-2 could not be written .*No space left on device"):
            write_checkpoint(tmp_path, 2)
    assert everything_in(tmp_path) == before
    assert checkpoints.read_state(whole)


def test_a_safetensors_or_tokenizers_failure_is_told_in_one_line_too(tmp_path):
    """Both libraries are written in Rust and report a full disk with exceptions of their own."""

    def tokenizer_fails(folder: Path) -> None:
        raise Exception("No space left on device (os error 28)")  # what tokenizers 0.22 raises

    with pytest.raises(RunError, match="No space left on device"):
        checkpoints.write_checkpoint(tmp_path / "checkpoint-1", tokenizer_fails, "checkpoint-1", "nothing is whole")
    assert names(tmp_path) == []

    def fault_of_ours(folder: Path) -> None:
        raise Exception("something else")

    with pytest.raises(Exception, match="something else") as caught:
        checkpoints.write_checkpoint(tmp_path / "checkpoint-1", fault_of_ours, "checkpoint-1", "nothing is whole")
    assert not isinstance(caught.value, RunError)


@pytest.mark.parametrize("call", range(1, 36))
def test_killed_at_any_call_to_the_system_one_whole_checkpoint_is_left(tmp_path, monkeypatch, call):
    """A child writes checkpoint-2 over a damaged one, rotates, and dies at its n-th call that changes a disk."""
    write_checkpoint(tmp_path, 1)
    halve(write_checkpoint(tmp_path, 2) / "model.safetensors")
    child = os.fork()
    if child == 0:
        left = [call]

        def dying(function):
            def wrapped(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return function(*arguments, **options)

            return wrapped

        for name in ("mkdir", "rename", "unlink", "rmdir", "fsync", "replace"):
            setattr(os, name, dying(getattr(os, name)))
        Path.write_text = dying(Path.write_text)
        final = write_checkpoint(tmp_path, 2)
        checkpoints.rotate(tmp_path, 1, [final])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in (0, 9)
    found, kept = checkpoints.find_resumable(tmp_path, "true")
    assert kept.progress.step == int(found.name.partition("-")[2])
    # Every folder with a checkpoint's name is whole; the damaged one may only still be there before it was replaced.
    for path in checkpoints.checkpoints_in(tmp_path):
        if path.name == "checkpoint-1" or found.name == "checkpoint-2":
            checkpoints.read_state(path)
    if ended == 0:
        assert found.name == "checkpoint-2" and names(tmp_path) == ["checkpoint-2"]
    remove_leftovers(tmp_path)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == found
    assert all(name.startswith("checkpoint-") for name in names(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Rotation


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [1, 2, 3, 4, 5]),
        (2, None, [4, 5]),
        (1, None, [5]),
        (2, 2, [2, 5]),
        (1, 2, [2, 5]),  # the best one is kept whatever the limit
        (1, 7, [5]),  # the best evaluation was at a step without a checkpoint
        (3, 4, [3, 4, 5]),
        (9, 1, [1, 2, 3, 4, 5]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(tmp_path, limit, best, left):
    for step in range(1, 6):
        write_checkpoint(tmp_path, step)
    keep = [tmp_path / "checkpoint-5", *([tmp_path / f"checkpoint-{best}"] if best else [])]
    checkpoints.rotate(tmp_path, limit, keep)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_the_first_save_of_a_new_run_removes_the_old_run(tmp_path):
    for step in (5, 10, 15):
        write_checkpoint(tmp_path, step, run_id="old")
    new = write_checkpoint(tmp_path, 5, run_id="new", started=2.0)
    best = tmp_path / "checkpoint-10"  # of the new run's steps, which has no checkpoint
    checkpoints.rotate(tmp_path, None, [new, best], foreign_run="new")
    assert names(tmp_path) == ["checkpoint-5"]


def test_folders_that_only_look_like_checkpoints_are_left_alone(tmp_path):
    for name in ("checkpoint-best", "checkpoint-7b", "checkpoint-"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-3").write_text("a file")
    new = write_checkpoint(tmp_path, 9)
    checkpoints.rotate(tmp_path, 1, [new], foreign_run="a")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["checkpoint-", "checkpoint-3", "checkpoint-7b", "checkpoint-9", "checkpoint-best"]


def test_the_best_checkpoint_comes_along_from_another_folder(tmp_path):
    write_checkpoint(tmp_path / "old", 2, best=2)
    last = write_checkpoint(tmp_path / "old", 3, best=2)
    (tmp_path / "new").mkdir()
    checkpoints.bring_best(last, tmp_path / "new", checkpoints.read_resumable(last))
    assert checkpoints.read_state(tmp_path / "new/checkpoint-2")["global_step"] == 2
    shutil.rmtree(tmp_path / "old/checkpoint-2")
    with pytest.raises(InputError, match="its best checkpoint so far, checkpoint-2, is not"):
        checkpoints.find_resumable(tmp_path, str(last))
