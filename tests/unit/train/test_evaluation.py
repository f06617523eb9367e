"""Evaluations come when they are due; the best model is chosen and kept, and training stops where none gets better."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.errors import InputError
from distilbart_mnli.train.evaluation import EvaluationResult
from tests.support.in_process import results, run, state, train, weights

BEST = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
VALUES = {"losses": [0.9, 0.5, 0.7, 0.4, 0.6, 0.8], "accuracies": [0.1, 0.2, 0.9, 0.3, 0.9, 0.4]}


def scripted(monkeypatch, losses, accuracies=None) -> None:
    """Evaluations give these values, one after the other, whatever the model is."""
    scripts = iter(zip(losses, accuracies or [0.5] * len(losses), strict=True))

    def evaluate(run, sets, signals):
        loss, accuracy = next(scripts)
        metrics = ({"loss": loss, "accuracy": accuracy}, {"loss": -loss, "accuracy": 0.1})
        return [
            EvaluationResult(part.tokens.name, part.suffix, np.zeros((len(part.tokens), 3), np.float32), values, 0.1)
            for part, values in zip(sets, metrics, strict=True)
        ]

    monkeypatch.setattr("distilbart_mnli.train.loop.evaluate", evaluate)
    monkeypatch.setattr("distilbart_mnli.train.stages.evaluate_sets", evaluate)


@pytest.mark.parametrize(
    ("chosen", "best"),
    [
        ({}, 4),
        ({"metric_for_best_model": "loss"}, 4),
        ({"metric_for_best_model": "eval_loss", "greater_is_better": True}, 1),
        ({"metric_for_best_model": "accuracy"}, 3),  # the first of two equal ones
        ({"metric_for_best_model": "eval_accuracy", "greater_is_better": False}, 1),
        ({"metric_for_best_model": "loss_mm"}, 1),
    ],
)
def test_the_best_model_is_what_ends_in_the_folder(options, monkeypatch, chosen, best):
    scripted(monkeypatch, **VALUES)
    training = train(**options | BEST, load_best_model_at_end=True, **chosen)
    final = weights(training.run.output_dir)
    same = [
        step
        for step in range(1, 7)
        if all(torch.equal(final[n], t) for n, t in weights(training.run.output_dir / f"checkpoint-{step}").items())
    ]
    assert same == [best]
    found = state(training.run.output_dir)
    assert (found["best_global_step"], found["best_model_checkpoint"]) == (best, f"checkpoint-{best}")
    assert found["global_step"] == 6


def test_without_load_best_the_last_model_ends_in_the_folder(options, monkeypatch):
    scripted(monkeypatch, **VALUES)
    training = train(**options | BEST)
    final, last = weights(training.run.output_dir), weights(training.run.output_dir / "checkpoint-6")
    assert all(torch.equal(final[name], tensor) for name, tensor in last.items())


def test_the_best_checkpoint_survives_the_limit(options, monkeypatch):
    scripted(monkeypatch, [0.9, 0.1, 0.7, 0.4, 0.6, 0.8])
    training = train(**options | BEST, load_best_model_at_end=True, save_total_limit=1)
    assert {path.name for path in training.run.output_dir.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-6"}


def test_the_final_evaluation_is_of_the_best_model(options, monkeypatch):
    scripted(monkeypatch, [*VALUES["losses"], 0.123], [*VALUES["accuracies"], 0.456])
    folder = run(**options | BEST, do_train=True, do_eval=True, load_best_model_at_end=True)
    assert results(folder)["eval_accuracy"] == 0.456  # evaluated again: the last step's model is not the best one


@pytest.mark.parametrize(
    ("patience", "threshold", "stops"),
    [(1, 0.0, 3), (2, 0.0, 6), (3, 0.0, 6), (1, 0.3, 3), (1, 0.45, 2), (2, 0.45, 3)],
)
def test_early_stopping_counts_evaluations_without_enough_improvement(
    options, monkeypatch, patience, threshold, stops
):
    # Gains on the best so far: first, 0.4, none, 0.1, none, none
    scripted(monkeypatch, [0.9, 0.5, 0.7, 0.4, 0.6, 0.8])
    training = train(**options | BEST, early_stopping_patience=patience, early_stopping_threshold=threshold)
    assert training.state.progress.step == stops
    assert (training.run.output_dir / f"checkpoint-{stops}").is_dir()


@pytest.mark.parametrize("steps", [{"eval_steps": 2, "save_steps": 4}, {"eval_steps": 0.3, "save_steps": 0.6}])
def test_evaluations_and_checkpoints_come_every_so_many_steps_or_shares(options, steps):
    """0.3 and 0.6 of 6 steps are 1.8 and 3.6, rounded up."""
    training = train(**{**options, "eval_strategy": "steps", "save_strategy": "steps", **steps})
    evaluated = [entry["step"] for entry in training.state.progress.log_history if "eval_loss" in entry]
    assert evaluated == [2, 4, 6]
    assert {path.name for path in training.run.output_dir.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}


def test_evaluations_and_checkpoints_come_after_every_epoch(options):
    training = train(
        **{
            **options,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "logging_steps": 4,
        },
        logging_first_step=True,
    )
    evaluated = [entry["step"] for entry in training.state.progress.log_history if "eval_loss" in entry]
    logged = [entry["step"] for entry in training.state.progress.log_history if "loss" in entry]
    assert (evaluated, logged) == ([3, 6], [1, 4, 6])
    assert {path.name for path in training.run.output_dir.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6"}


def test_a_metric_that_no_evaluation_gives_is_refused_before_training(options):
    with pytest.raises(InputError, match=r"metric_for_best_model f1: .* gives loss, accuracy, loss_mm, accuracy_mm"):
        train(**options | BEST, load_best_model_at_end=True, metric_for_best_model="f1")
    assert not Path(options["output_dir"]).exists()


def test_a_schedule_that_follows_evaluations_is_stepped_by_them(options, monkeypatch):
    scripted(monkeypatch, [3.0, 2.0, 2.5, 2.6, 1.0, 1.5])
    training = train(
        **{**options, "learning_rate": 1e-3},
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "factor": 0.5},
        eval_strategy="steps",
        eval_steps=1,
    )
    # The rate that is logged at a step is the one before that step's evaluation.
    logged = [entry["learning_rate"] for entry in training.state.progress.log_history if "loss" in entry]
    assert logged == [1e-3, 1e-3, 1e-3, 5e-4, 2.5e-4, 2.5e-4]
    assert training.state.optimizer.param_groups[0]["lr"] == 1.25e-4
