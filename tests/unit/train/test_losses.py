"""Losses are what they are called, are read where they are logged alone, and end the run where they are not finite."""

import functools
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.errors import RunError
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.objective import label_losses
from tests.support.in_process import results, train, weights
from tests.support.plain_loop import by_hand


def test_the_row_losses_are_those_of_the_definition():
    logits, labels = torch.randn(7, 3), torch.randint(0, 3, (7,))
    logs = logits.log_softmax(1)
    exact = -(0.9 * logs[range(7), labels] + 0.1 * logs.mean(1))
    assert torch.allclose(label_losses(logits, labels, 0.1), exact, atol=1e-6)
    values = torch.randn(7)
    assert torch.allclose(label_losses(logits[:, :1], values, 0.0), (logits[:, 0] - values) ** 2)


def test_the_logged_loss_is_the_mean_over_the_examples_since_the_last_line(made, options):
    _, losses, _ = by_hand(made)
    sizes = [12, 12, 6, 12, 12, 6]
    training = train(**{**options, "logging_steps": 4}, freeze_encoder=True, freeze_embeds=True)
    found = [entry["loss"] for entry in training.state.progress.log_history]
    expected = [np.average(losses[:4], weights=sizes[:4]), np.average(losses[4:], weights=sizes[4:])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    values = results(training.run.output_dir)
    assert values["train_loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)
    assert (values["epoch"], values["train_samples"]) == (2.0, 30)
    assert 0 <= values["train_data_time_share"] <= 1


# ---------------------------------------------------------------------------------------------------------------------
# A loss that is not finite


def poisoned(monkeypatch, at: int) -> None:
    """The gradient of step `at` is huge, so that the loss of the next one is not finite."""
    step = Training._step

    def harmful(self, batches, examples):
        step(self, batches, examples)
        if self.state.progress.step == at:
            with torch.no_grad():
                self.parameters[0].fill_(float("nan"))

    monkeypatch.setattr(Training, "_step", harmful)


@pytest.mark.parametrize("logging_steps", [1, 2, 100])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_step(options, monkeypatch, logging_steps):
    poisoned(monkeypatch, at=3)
    with pytest.raises(
        RunError, match="the loss at step 4 is nan; there is no checkpoint yet; lower learning_rate"
    ) as stop:
        train(**{**options, "logging_steps": logging_steps, "num_train_epochs": 4})
    assert stop.value.exit_code == 1
    assert not (Path(options["output_dir"]) / "model.safetensors").exists()


def test_no_checkpoint_holds_weights_that_are_not_finite_and_the_last_good_one_is_named(options, monkeypatch):
    poisoned(monkeypatch, at=4)
    with pytest.raises(RunError, match=r"weights are not finite after step 4; .*out/checkpoint-2; "):
        train(**{**options, "save_strategy": "steps", "save_steps": 2})
    left = list(Path(options["output_dir"]).glob("checkpoint-*"))
    assert [path.name for path in left] == ["checkpoint-2"]
    assert all(torch.isfinite(tensor).all() for tensor in weights(left[0]).values())


def test_nothing_is_read_in_every_step(options, monkeypatch):
    """Between two log lines nothing waits for the device: no tensor is turned into a number (as on a GPU)."""
    monkeypatch.setattr("distilbart_mnli.model.bart.HOST_READS_ARE_FREE", ())
    reads = []
    item, tolist = torch.Tensor.item, torch.Tensor.tolist
    inside = [False]
    step = Training._step

    def watched(self, batches, examples):
        inside[0] = True
        step(self, batches, examples)
        inside[0] = False

    def counting(function):
        @functools.wraps(function)
        def wrapper(tensor, *rest):
            if inside[0]:
                reads.append("".join(traceback.format_stack(limit=4)))
            return function(tensor, *rest)

        return wrapper

    monkeypatch.setattr(Training, "_step", watched)
    for name, function in {
        "item": item,
        "tolist": tolist,
        "__bool__": torch.Tensor.__bool__,
        "__float__": torch.Tensor.__float__,
        "cpu": torch.Tensor.cpu,
        "numpy": torch.Tensor.numpy,
    }.items():
        monkeypatch.setattr(torch.Tensor, name, counting(function))
    train(**{**options, "logging_steps": 3}, freeze_encoder=True, freeze_embeds=True, cache_encoder_outputs="false")
    assert reads == []
