"""From which checkpoint a run goes on: the newest that is whole and its own, or the one that is named; or none."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from distilbart_mnli.train import loop as training
from distilbart_mnli.train import stages
from tests.support.files import everything_in
from tests.support.in_process import train_here
from tests.support.resuming import CONFIGURATIONS, FIRST, RANDOM, edit_state
from tests.support.training_runs import Workshop, only_checkpoint, outcome, sign_manifest

pytestmark = pytest.mark.xdist_group("resume")


@pytest.fixture
def shop(uninterrupted) -> Workshop:
    return uninterrupted.shop


def other_shape(tensors: dict) -> None:
    name = next(name for name in tensors if tensors[name].dim() > 1)
    tensors[name] = tensors[name][:-1].clone()


def one_more(tensors: dict) -> None:
    tensors["0/more"] = torch.zeros(3)


def one_less(tensors: dict) -> None:
    del tensors[sorted(tensors)[-1]]


@pytest.mark.parametrize("name", ["model", "optimizer", "random_states"])
@pytest.mark.parametrize("change", [other_shape, one_more, one_less])
def test_tensors_of_another_release_are_passed_over(shop, uninterrupted, tmp_path, caplog, name, change):
    if name == "random_states" and change is other_shape:
        change = lambda tensors: tensors.update({"0/cpu": tensors["0/cpu"][:-1].clone()})  # noqa: E731
    only_checkpoint(uninterrupted(RANDOM), tmp_path / "out", 16)
    path = tmp_path / f"out/checkpoint-16/{name}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    sign_manifest(path.parent)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[RANDOM])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    (line,) = [line for line in caplog.messages if "passed over" in line]
    assert "checkpoint-16" in line and path.name in line and "\n" not in line
    assert outcome(tmp_path / "out") == outcome(uninterrupted(RANDOM))


@pytest.mark.parametrize(
    "change",
    [
        lambda resume: resume["optimizer_groups"].pop(),
        lambda resume: resume["optimizer_groups"][0].pop("lr"),
        lambda resume: resume["optimizer_groups"][0].update(more=1),
        lambda resume: resume["optimizer_groups"][0].update(betas=[0.9]),
        lambda resume: resume["scheduler"].pop("last_epoch"),
        lambda resume: resume["scheduler"].update(last_epoch="16"),
        lambda resume: resume["recipe"].pop("effective_batch_size"),
        lambda resume: resume["recipe"].update(of_a_later_release=True),
    ],
)
def test_states_of_another_release_are_passed_over(shop, uninterrupted, tmp_path, caplog, change):
    only_checkpoint(uninterrupted(RANDOM), tmp_path / "out", 17)
    edit_state(tmp_path / "out/checkpoint-17", lambda state: change(state["resume"]))
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[RANDOM])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert len([line for line in caplog.messages if "checkpoint-17" in line and "passed over" in line]) == 1
    assert outcome(tmp_path / "out") == outcome(uninterrupted(RANDOM))


def test_a_model_that_another_run_finished_meanwhile_is_not_replaced(shop, uninterrupted, tmp_path, monkeypatch):
    """A launch of several machines waits for the last of them between the first look at output_dir and its lock."""
    out, lock = tmp_path / "out", stages.lock_output_dir

    def locked_late(folder, is_main):
        shutil.copytree(uninterrupted(RANDOM), folder)
        return lock(folder, is_main)

    monkeypatch.setattr(stages, "lock_output_dir", locked_late)
    code, error = train_here(shop.options(out, **CONFIGURATIONS[RANDOM]))
    assert code == 2 and "output_dir" in error and "--overwrite_output_dir" in error
    assert everything_in(out) == everything_in(uninterrupted(RANDOM))


def test_checkpoints_and_neither_option_stop_the_run(shop, uninterrupted):
    options = shop.options(uninterrupted(FIRST), **CONFIGURATIONS[FIRST])
    before = outcome(uninterrupted(FIRST))
    code, error = train_here(options)
    assert code == 2 and "--resume_from_checkpoint true" in error and "--overwrite_output_dir" in error
    assert outcome(uninterrupted(FIRST)) == before


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(shop, uninterrupted, tmp_path, caplog):
    expected = uninterrupted(FIRST)
    only_checkpoint(expected, tmp_path / "out", 9)
    damaged = tmp_path / "out/checkpoint-9/optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("checkpoint-9" in line and "optimizer.safetensors" in line for line in warned), warned
    assert "resuming from checkpoint-8: step 8 of 18" in caplog.text
    assert outcome(tmp_path / "out") == outcome(expected)


def test_without_its_best_checkpoint_a_run_goes_on_from_before_it(shop, uninterrupted, tmp_path, caplog):
    expected = uninterrupted(FIRST)
    best = outcome(expected)["best_global_step"]
    only_checkpoint(expected, tmp_path / "out", best + 2)
    (tmp_path / f"out/checkpoint-{best}/model.safetensors").write_bytes(b"damaged")
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert f"resuming from checkpoint-{best - 1}:" in caplog.text
    assert outcome(tmp_path / "out") == outcome(expected)


def test_nothing_to_resume_yet_starts_from_the_beginning(shop, uninterrupted, tmp_path):
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[RANDOM])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == outcome(uninterrupted(RANDOM))


def test_the_path_of_a_checkpoint_wins_over_newer_ones(shop, uninterrupted, tmp_path):
    expected = uninterrupted(FIRST)
    only_checkpoint(expected, tmp_path / "out", 9)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    code, error = train_here(options, ("--resume_from_checkpoint", str(tmp_path / "out/checkpoint-4")))
    assert (code, error) == (0, "")
    assert outcome(tmp_path / "out") == outcome(expected)


def test_a_checkpoint_of_another_folder_brings_its_best_one_along(shop, uninterrupted, tmp_path):
    """The best checkpoint may be older than the one resumed from, and is then not in the new output_dir."""
    expected = uninterrupted(FIRST)
    best = outcome(expected)["best_global_step"]
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    code, error = train_here(options, ("--resume_from_checkpoint", str(expected / f"checkpoint-{best + 1}")))
    assert (code, error) == (0, "")
    assert outcome(tmp_path / "out") == outcome(expected)


@pytest.mark.parametrize("asked", ["nowhere", "out/checkpoint-3"])
def test_a_checkpoint_that_cannot_be_used_stops_the_run(shop, uninterrupted, tmp_path, asked):
    only_checkpoint(uninterrupted(FIRST), tmp_path / "out", 3)
    (tmp_path / "out/checkpoint-3/config.json").unlink()
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    code, error = train_here(options, ("--resume_from_checkpoint", str(tmp_path / asked)))
    assert code == 2 and str(tmp_path / asked) in error


def test_a_new_training_over_an_old_one_removes_nothing_before_it_has_saved(
    shop, uninterrupted, tmp_path, monkeypatch
):
    old, out = uninterrupted(FIRST), tmp_path / "out"
    shutil.copytree(old, out)
    options = shop.options(out, **CONFIGURATIONS[RANDOM])
    whole_save = training.Training._save

    def die_at(step):
        def save(self):
            if self.state.progress.step == step:
                raise KeyboardInterrupt
            whole_save(self)

        return save

    monkeypatch.setattr(training.Training, "_save", die_at(1))
    with pytest.raises(KeyboardInterrupt):
        train_here(options, ("--overwrite_output_dir",))
    assert outcome(out) == outcome(old)
    assert len(list(out.glob("checkpoint-*"))) == 18
    monkeypatch.setattr(training.Training, "_save", die_at(3))
    with pytest.raises(KeyboardInterrupt):
        train_here(options, ("--overwrite_output_dir",))
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    assert outcome(out) == outcome(old)  # the old model stays until the new one is finished
    monkeypatch.undo()
    assert train_here(options, ("--overwrite_output_dir", "--resume_from_checkpoint")) == (0, "")
    assert outcome(out) == outcome(uninterrupted(RANDOM))
