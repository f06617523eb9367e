"""A training over an earlier one's results never takes, or names, the earlier one's checkpoints for its own."""

import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch

from distilbart_mnli.train import loop, resume, saving
from tests.support.files import flip_bit
from tests.support.in_process import state, train_here
from tests.support.training_runs import Workshop

OVER = ("--overwrite_output_dir", "--seed", "7")


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("shop"), train=16)


@pytest.fixture(scope="module")
def old(shop) -> Path:
    """A finished training of two steps with two checkpoints."""
    options = shop.options("old", max_steps=2, eval_strategy="no")
    assert train_here(options) == (0, "")
    return Path(options["output_dir"])


@pytest.fixture
def options(shop, old, tmp_path):
    """Of a longer training into a copy of it."""
    shutil.copytree(old, tmp_path / "out")
    return shop.options(tmp_path / "out", max_steps=4, eval_strategy="no", save_steps=3)


def run_id(checkpoint: Path) -> str:
    return state(checkpoint)["resume"]["run_id"]


def in_call(monkeypatch, owner, name: str, number: int, what) -> None:
    """`what` happens at the so-manieth call of a function, which is done with what it returns."""
    function, calls = getattr(owner, name), iter(range(1, 1000))

    def called(*arguments, **options):
        result = function(*arguments, **options)
        return what(result) if next(calls) == number else result

    monkeypatch.setattr(owner, name, called)


def no_memory(result):
    torch.empty(1 << 55)  # the allocator's own error


def full_disk(result):
    raise OSError(28, "No space left on device")


FAULTS = {
    "a loss that is not finite": (loop, "row_losses", 2, lambda losses: losses * float("nan")),
    "out of memory": (loop, "row_losses", 2, no_memory),
    "no space for its first checkpoint": (resume, "save_model", 1, full_disk),
    "no space for the model, and no checkpoints": (saving, "save_model", 1, full_disk),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_before_its_first_checkpoint_has_none_to_go_on_from(options, monkeypatch, fault):
    in_call(monkeypatch, *FAULTS[fault])
    more = ("--save_strategy", "no") if "no checkpoints" in fault else ()
    code, error = train_here(options, (*OVER, *more))
    assert code == 1 and "checkpoint-2" not in error and "resume" not in error
    kept = [path.name for path in Path(options["output_dir"]).glob("checkpoint-*")]
    assert sorted(kept) == ["checkpoint-1", "checkpoint-2"]  # nothing of the earlier one is lost


def test_what_fails_after_it_has_its_own(options, monkeypatch):
    in_call(monkeypatch, loop, "row_losses", 7, lambda losses: losses * float("nan"))  # two micro-batches a step
    code, error = train_here(options, OVER)
    assert code == 1 and str(Path(options["output_dir"]) / "checkpoint-3") in error


def test_stopped_before_its_first_step_it_begins_again(options, monkeypatch):
    def stop(losses):
        os.kill(os.getpid(), signal.SIGTERM)
        return losses

    first = {"per_device_train_batch_size": 4, "effective_batch_size": 8}
    with monkeypatch.context() as patch:
        in_call(patch, loop, "row_losses", 1, stop)
        code, error = train_here({**options, **first}, OVER)
    assert code == 143
    words = shlex.split(error.partition("run_glue.py ")[2])
    before = run_id(Path(options["output_dir"]) / "checkpoint-2")
    assert words[1:] == list(OVER)
    assert train_here({**options, **first}, tuple(words[1:])) == (0, "")
    assert run_id(Path(options["output_dir"]) / "checkpoint-3") != before


def test_its_damaged_checkpoint_is_not_replaced_by_the_earlier_one_s(options, old):
    out = Path(options["output_dir"])
    options = {**options, "max_steps": 2, "save_steps": 2}
    assert train_here(options, ("--overwrite_output_dir",)) == (0, "")
    shutil.copytree(old / "checkpoint-1", out / "checkpoint-1")  # killed between its first save and the removal
    flip_bit(out / "checkpoint-2" / "optimizer.safetensors")
    code, error = train_here(options, ("--resume_from_checkpoint", "true"))
    assert code == 2 and str(out) in error
