"""What a checkpoint says is checked, whoever wrote it: another release, or somebody who means harm."""

import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from distilbart_mnli.errors import InputError
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.record import MAY_BE_ABSENT, Record
from distilbart_mnli.train.state import Progress
from tests.support.checkpoints import FILES, names, write_checkpoint
from tests.support.training_runs import sign_manifest


def rewrite(checkpoint: Path, change) -> None:
    """Change trainer_state.json, and let the manifest say that it is right."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    sign_manifest(checkpoint)


RECORD = [field.name for field in dataclasses.fields(Record) if field.name not in MAY_BE_ABSENT]
PROGRESS = [field.name for field in dataclasses.fields(Progress) if field.name not in MAY_BE_ABSENT]
CHANGES = {
    **{f"lacks {name}": lambda state, name=name: state["resume"].pop(name) for name in RECORD},
    **{f"lacks progress.{name}": lambda state, name=name: state["resume"]["progress"].pop(name) for name in PROGRESS},
    "a key too many": lambda state: state["resume"].update(more=1),
    "a key of the progress too many": lambda state: state["resume"]["progress"].update(more=1),
    "no object": lambda state: state.update(resume=[1]),
    "another list": lambda state: state["resume"].update(progress=[]),
    "a number as text": lambda state: state["resume"]["progress"].update(step="2"),
    "true for a number": lambda state: state["resume"]["progress"].update(step=True),
    "a path for a number": lambda state: state["resume"]["progress"].update(best_step="2/../../.ssh"),
    "a negative step": lambda state: state["resume"]["progress"].update(step=-1),
    "a best step to come": lambda state: state["resume"]["progress"].update(best_step=3),
    "more than any float": lambda state: state["resume"]["progress"].update(seconds=10**400),
    "no number": lambda state: state["resume"]["progress"].update(loss_sum=float("nan")),
    "a window of threes": lambda state: state["resume"]["progress"].update(window=[[1, 2, 3]]),
    "a log of texts": lambda state: state["resume"]["progress"].update(log_history=["loss"]),
    "a path for the best": lambda state: state.update(best_model_checkpoint="../../.ssh"),
    "a list for the best": lambda state: state.update(best_model_checkpoint=["checkpoint-1"]),
    "an object for the id": lambda state: state["resume"].update(run_id={}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_another_release_is_passed_over_in_one_line(tmp_path, caplog, change):
    good, bad = write_checkpoint(tmp_path, 1), write_checkpoint(tmp_path, 2)
    rewrite(bad, lambda state: None)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == bad
    rewrite(bad, CHANGES[change])
    assert checkpoints.find_resumable(tmp_path, "true")[0] == good
    (line,) = [line for line in caplog.messages if "checkpoint-2" in line]
    assert "passed over" in line and "\n" not in line
    with pytest.raises(InputError, match="checkpoint-2"):
        checkpoints.find_resumable(tmp_path, str(bad))


def test_files_without_an_end_and_json_without_a_floor_are_passed_over(tmp_path, caplog):
    """A pipe would be waited for, a device read for ever."""
    good = write_checkpoint(tmp_path, 1)
    for step in range(2, 7):
        bad = write_checkpoint(tmp_path, step)
        path = bad / ("manifest.json" if step % 2 else "trainer_state.json")
        path.unlink()
        if step < 4:
            os.mkfifo(path)
        elif step < 6:
            path.symlink_to("/dev/zero")
        else:
            path.write_text("[" * 200_000)
            sign_manifest(bad)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == good
    assert len(caplog.messages) == 5


def test_a_record_without_what_is_new_is_good(tmp_path):
    newest = write_checkpoint(tmp_path, 2)

    def older(state: dict) -> None:
        del state["resume"]["decides_bits"], state["resume"]["progress"]["evaluation_due"]

    rewrite(newest, older)
    found, kept = checkpoints.find_resumable(tmp_path, "true")
    assert found == newest and kept.decides_bits is None and kept.progress.evaluation_due is False


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "link"])
def test_a_manifest_that_names_a_file_elsewhere_is_not_followed(tmp_path, name):
    (tmp_path / "outside").write_text("precious")
    checkpoint = write_checkpoint(tmp_path / "out", 1)
    (checkpoint / "link").symlink_to(tmp_path / "outside")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    data = (checkpoint / name).read_bytes() if (checkpoint / name).exists() else b""
    manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=re.escape(name)):
        checkpoints.read_state(checkpoint)


def test_only_what_the_manifest_names_comes_along_from_another_folder(tmp_path):
    best = write_checkpoint(tmp_path / "old", 2, best=2)
    last = write_checkpoint(tmp_path / "old", 3, best=2)
    (tmp_path / "secret").write_text("secret")
    (best / "more").symlink_to(tmp_path / "secret")
    (tmp_path / "new").mkdir()
    checkpoints.bring_best(last, tmp_path / "new", checkpoints.read_resumable(last))
    assert names(tmp_path / "new/checkpoint-2") == sorted([*FILES, "manifest.json"])


def test_another_runs_checkpoint_of_the_same_name_is_not_taken_for_the_best(tmp_path):
    write_checkpoint(tmp_path / "old", 2, run_id="mine", best=2)
    last = write_checkpoint(tmp_path / "old", 3, run_id="mine", best=2)
    write_checkpoint(tmp_path / "new", 2, run_id="another")
    checkpoints.bring_best(last, tmp_path / "new", checkpoints.read_resumable(last))
    assert checkpoints.read_record(tmp_path / "new/checkpoint-2").run_id == "mine"
