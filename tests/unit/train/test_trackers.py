"""Trackers get what the log says, from the first process; whatever one of them raises, the training is the same."""

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distilbart_mnli.errors import InputError
from distilbart_mnli.train import trackers
from distilbart_mnli.train.trackers import Trackers, check_installed
from tests.support.in_process import state, train, weights
from tests.support.tiny import tiny_bart, tiny_mnli


class Recorder:
    """A tracker of accelerate's kind that keeps what it is told, and fails at the calls it is told to."""

    fails_at: tuple[str, ...] = ()
    url: Any = None
    made: list["Recorder"]

    def __init__(self, run_name: str, **options: Any):
        self.calls: list[tuple] = []
        self.made.append(self)
        self._do("init", run_name, options)

    def _do(self, call: str, *what: Any) -> None:
        self.calls.append((call, *what))
        if call in self.fails_at:
            raise ConnectionError(f"{call} refused")

    def start(self) -> None:
        self._do("start")

    @property
    def tracker(self) -> Any:
        return type("Run", (), {"url": self.url})

    def store_init_configuration(self, values: dict) -> None:
        self._do("configuration", values)

    def log(self, values: dict, step: int) -> None:
        self._do("log", values, step)

    def finish(self) -> None:
        self._do("finish")


@pytest.fixture
def recorder(monkeypatch):
    kind = type("Kind", (Recorder,), {"made": []})
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(trackers.CLASSES, name, kind)
        monkeypatch.delenv(f"{name.upper()}_PROJECT", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return kind


@pytest.fixture
def options(tmp_path):
    tiny_bart(tmp_path / "student")
    tiny_mnli(tmp_path / "data", train=24)
    return {
        "model_name_or_path": tmp_path / "student",
        "data_dir": tmp_path / "data",
        "output_dir": tmp_path / "out",
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "no",
        "cache_encoder_outputs": "false",
    }


def test_tensorboard_holds_what_the_log_holds(options):
    training = train(**options, report_to=["tensorboard"], run_name="try one", hub_token="hf_secret")
    (folder,) = (path for path in (training.run.output_dir / "runs").rglob("*") if path.name == "try one")
    events = EventAccumulator(str(folder))
    events.Reload()
    log = state(training.run.output_dir)["log_history"]
    for tag in ("loss", "learning_rate", "grad_norm", "eval_accuracy", "eval_accuracy_mm", "eval_loss", "epoch"):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        expected = [(entry["step"], entry[tag]) for entry in log if tag in entry]
        assert [step for step, _ in found] == [step for step, _ in expected], tag
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6), tag
    assert "step" not in events.Tags()["scalars"]
    assert not any(b"hf_secret" in path.read_bytes() for path in training.run.output_dir.rglob("*") if path.is_file())


def test_a_tracker_s_run_has_its_name_and_a_project_that_the_environment_may_choose(tmp_path, recorder, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    Trackers(["wandb", "trackio"], "try one", tmp_path, {}, enabled=True)
    assert [made.calls[0] for made in recorder.made] == [
        ("init", "mine", {"name": "try one"}),
        ("init", "distilbart-mnli", {"name": "try one"}),
    ]


def test_trackers_get_plain_values_and_only_numbers(tmp_path, recorder):
    config = {"seed": 1, "fp16": None, "report_to": ["wandb"], "run_name": "x", "do_train": True}
    found = Trackers(["wandb"], "x", tmp_path, config, enabled=True)
    found.log({"loss": 0.5, "step": 7, "note": "text", "grad_norm": None}, 7)
    found.finish()
    (made,) = recorder.made
    assert made.calls[1:] == [
        ("start",),
        ("configuration", {"seed": 1, "fp16": "None", "report_to": "['wandb']", "run_name": "x", "do_train": True}),
        ("log", {"loss": 0.5}, 7),
        ("finish",),
    ]


@pytest.mark.parametrize("given", [["--hub_token", "hf_secret"], ["--hub-token=hf_secret"]])
def test_a_tracker_does_not_see_the_token_in_the_command_line(tmp_path, recorder, monkeypatch, given):
    command = ["run_glue.py", "args.json", *given, "--hub_force", "--run_name", "x"]
    monkeypatch.setattr(sys, "argv", command)
    seen: list[str] = []
    monkeypatch.setattr(recorder, "start", lambda self: seen.extend(sys.argv))
    Trackers(["wandb"], "x", tmp_path, {}, enabled=True)
    assert seen == ["run_glue.py", "args.json", "--hub_force", "--run_name", "x"]
    assert sys.argv is command


def test_the_link_of_a_run_is_kept_for_the_card_if_it_is_one(tmp_path, recorder):
    for url, kept in (("https://wandb.ai/me/p/runs/1", True), (None, False), ("file:///tmp/x", False)):
        recorder.url = url
        found = Trackers(["wandb"], "x", tmp_path, {}, enabled=True)
        assert found.urls == ({"wandb": url} if kept else {})


def test_only_the_first_process_reports(tmp_path, recorder):
    found = Trackers(["wandb", "tensorboard"], "x", tmp_path, {}, enabled=False)
    found.log({"loss": 1.0}, 1)
    found.finish()
    assert not recorder.made and not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["init", "start", "configuration", "log", "finish"])
def test_a_tracker_that_raises_is_left_out_with_one_warning_and_the_training_is_the_same(
    options, recorder, tmp_path, call, caplog
):
    plain = weights(train(**{**options, "output_dir": tmp_path / "plain"}).run.output_dir)
    recorder.fails_at = (call,)
    caplog.set_level(logging.WARNING, "distilbart_mnli.train.trackers")
    training = train(**options, report_to=["wandb"])
    warnings = [record.getMessage() for record in caplog.records if record.name == "distilbart_mnli.train.trackers"]
    assert warnings == [f"tracker wandb: ConnectionError: {call} refused; the run goes on without it"]
    assert [made[0] for made in recorder.made[0].calls].count(call) == 1
    found = weights(training.run.output_dir)
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())


def test_a_tracker_that_raises_does_not_stop_the_others(tmp_path, recorder, monkeypatch):
    other = type("Other", (Recorder,), {"made": []})
    monkeypatch.setitem(trackers.CLASSES, "trackio", other)
    recorder.fails_at = ("log",)
    found = Trackers(["wandb", "trackio"], "x", tmp_path, {}, enabled=True)
    for step in (1, 2):
        found.log({"loss": 1.0}, step)
    found.finish()
    assert [call[0] for call in other.made[0].calls[-3:]] == ["log", "log", "finish"]
    assert [call[0] for call in recorder.made[0].calls[-1:]] == ["log"]


def test_trackers_are_closed_when_the_training_fails(options, recorder, monkeypatch):
    def broken(self, batches, examples):
        raise ZeroDivisionError

    monkeypatch.setattr("distilbart_mnli.train.loop.Training._step", broken)
    with pytest.raises(ZeroDivisionError):
        train(**options, report_to=["wandb"])
    assert recorder.made[0].calls[-1] == ("finish",)


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read(options, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trackio" else find(name))
    with pytest.raises(
        InputError, match=r"report_to trackio: not installed; pip install -r requirements-trackers\.txt"
    ):
        train(**{**options, "model_name_or_path": "no-such-model"}, report_to=["trackio"])
    assert not Path(options["output_dir"]).exists()
    check_installed(None)
    check_installed(["tensorboard"])
