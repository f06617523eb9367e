"""The loop computes what a plain loop over the stock model does; what is frozen or chosen is as documented.

The reference is written out in tests/support/plain_loop.py.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from distilbart_mnli.errors import InputError
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.loop import Training
from tests.support.in_process import train, weights
from tests.support.plain_loop import assert_equal_training, by_hand

# ---------------------------------------------------------------------------------------------------------------------
# The loop against the plain one


@pytest.mark.parametrize(
    "batches",
    [
        {"per_device_train_batch_size": 12},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 12},
        {"per_device_train_batch_size": 6, "effective_batch_size": 12, "gradient_accumulation_steps": 7},
        {"per_device_train_batch_size": 12, "pad_to_max_length": True, "max_seq_length": 64},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "attn_implementation": "eager"},
        {"per_device_train_batch_size": 12, "dataloader_num_workers": 0, "gradient_checkpointing": True},
    ],
)
def test_a_training_is_the_plain_loop_over_the_stock_model_however_its_batches_are_cut(made, options, batches):
    """A step of 12 examples gives one update, the last step's 6 are weighted by 6, whatever the micro-batch."""
    training = train(**{**options, **batches}, freeze_encoder=True, freeze_embeds=True)
    assert_equal_training(training, by_hand(made))


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({"label_smoothing_factor": 0.1}, {"smoothing": 0.1}),
        ({"warmup_steps": 2}, {"warmup": 2}),
        ({"warmup_steps": 0.4}, {"warmup": 3}),  # ceil(0.4 x 6)
        ({"lr_scheduler_type": "cosine", "warmup_steps": 1}, {"schedule": "cosine", "warmup": 1}),
        ({"lr_scheduler_type": "constant"}, {"schedule": "constant"}),
        ({"max_grad_norm": 0.1}, {"clip": 0.1}),
        ({"max_grad_norm": 0}, {"clip": 1e9}),
        ({"max_steps": 4}, {"steps": 4}),
        ({"num_train_epochs": 1.5}, {"steps": 5}),  # ceil(1.5 x 3)
        ({"max_steps": 7, "num_train_epochs": 1}, {"steps": 7}),
    ],
)
def test_smoothing_warm_up_schedules_clipping_and_steps_are_those_of_the_plain_loop(made, options, changes, reference):
    training = train(**{**options, **changes}, freeze_encoder=True, freeze_embeds=True)
    assert_equal_training(training, by_hand(made, **reference))
    assert training.state.progress.step == reference.get("steps", 6)


def test_a_training_of_everything_is_the_plain_loop_too(made, options):
    assert_equal_training(train(**options), by_hand(made, frozen=False))


def test_rows_that_only_fill_a_batch_up_count_nowhere(made, options, monkeypatch):
    """As on XLA, where the last step's 6 examples are followed by fillers."""
    shapes = set()
    prepare = Training.prepare

    def filling(self, digest):
        prepare(self, digest)
        forward = self.run.model.forward
        self.run.model.forward = lambda **batch: shapes.add(len(batch["input_ids"])) or forward(**batch)

    monkeypatch.setattr(Training, "prepare", filling)
    monkeypatch.setattr(Device, "static_shapes", True)
    training = train(
        **{**options, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},
        freeze_encoder=True,
        freeze_embeds=True,
    )
    assert shapes == {4}
    assert_equal_training(training, by_hand(made))


@pytest.mark.parametrize("more", [{}, {"gradient_checkpointing": True}], ids=["plain", "recomputed"])
def test_bf16_on_a_cpu_trains_as_with_the_fused_attention_kernel(options, tmp_path, monkeypatch, more):
    """attention_kernels keeps that kernel out of the step; the update is the same within bf16."""
    ours = train(**{**options, **more, "bf16": True, "output_dir": tmp_path / "ours"})
    monkeypatch.setattr("distilbart_mnli.train.loop.attention_kernels", lambda *_: contextlib.nullcontext())
    fused = train(**{**options, "bf16": True, "output_dir": tmp_path / "fused"})
    losses = [[entry["loss"] for entry in t.state.progress.log_history] for t in (ours, fused)]
    np.testing.assert_allclose(*losses, rtol=2e-2)
    before = weights(Path(str(options["model_name_or_path"])))
    found, expected = weights(ours.run.output_dir), weights(fused.run.output_dir)
    change = torch.cat([(expected[name] - before[name]).flatten() for name in before])
    difference = torch.cat([(found[name] - expected[name]).flatten() for name in before])
    assert 0 < difference.norm() <= 2e-2 * change.norm()


@pytest.mark.slow
def test_a_compiled_training_is_the_same_and_compiles_nothing_for_another_length(made, options, monkeypatch):
    graphs, seen = [], []

    def count(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    # Whatever of the model is compiled, without inductor, which would take a minute; and refused if it breaks.
    torch._dynamo.reset()
    compile_, after = torch.nn.Module.compile, Training._after_step
    counted = {"backend": count, "fullgraph": True}
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_(self, **{**how, **counted}))
    monkeypatch.setattr(Training, "_after_step", lambda self: (after(self), seen.append(len(graphs))))
    training = train(
        **{**options, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},
        torch_compile=True,
        freeze_encoder=True,
        freeze_embeds=True,
        eval_strategy="epoch",
    )
    assert_equal_training(training, by_hand(made))
    assert 1 <= seen[2] <= 6  # encoder layer, decoder layer, last decoder layer; in training and in evaluation
    assert seen[2:] == [seen[2]] * 4  # the second epoch's batches have other lengths
    torch._dynamo.reset()


# ---------------------------------------------------------------------------------------------------------------------
# What is trained


def test_nothing_of_a_frozen_encoder_is_trained_or_remembered(made, options):
    frozen = {**options, "model_name_or_path": made / "dropout"}
    training = train(**frozen, freeze_encoder=True, freeze_embeds=True)
    before, after = weights(made / "dropout"), weights(training.run.output_dir)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name
        for name in before
        if ".decoder.layers." in name or "decoder.layernorm" in name or "classification_head" in name
    }
    held = {id(parameter) for parameter in training.state.optimizer.state}
    named = dict(training.run.model.named_parameters())
    assert {name for name, parameter in named.items() if id(parameter) in held} == changed
    assert all(parameter.grad is None for name, parameter in named.items() if name not in changed)


def test_the_encoder_has_dropout_in_training_only_if_asked(made, options, monkeypatch):
    modes = []
    step = Training._step

    def watched(self, batches, examples):
        modes.append((self.run.model.model.encoder.training, self.run.model.model.decoder.training))
        step(self, batches, examples)

    monkeypatch.setattr(Training, "_step", watched)
    dropout = {**options, "model_name_or_path": made / "dropout", "eval_strategy": "steps", "eval_steps": 1}
    losses = {}
    for name, changes in {
        "off": {"freeze_encoder": True},
        "on": {"freeze_encoder": True, "frozen_encoder_dropout": True, "overwrite_output_dir": True},
        "trained": {"overwrite_output_dir": True},
    }.items():
        modes.clear()
        training = train(**dropout, **changes)
        losses[name] = [entry["loss"] for entry in training.state.progress.log_history if "loss" in entry]
        assert modes == [(name != "off", True)] * 6, name
        assert (training.objective.gathered["states"] is not None) == (name == "off")
    assert losses["off"] != losses["on"]


def test_a_training_runs_in_a_thread_which_is_where_the_tpu_launcher_starts_it(options):
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, **options).result()
    assert training.state.progress.step == training.steps.total > 0


def test_nothing_left_to_train_is_refused(options, monkeypatch):
    def all_frozen(model, *_):
        model.requires_grad_(False)

    monkeypatch.setattr("distilbart_mnli.train.stages.freeze", all_frozen)
    with pytest.raises(InputError, match="nothing is left to train"):
        train(**options)


def test_dropout_and_new_weights_are_the_seed_s(made, options, tmp_path):
    dropout = {**options, "model_name_or_path": made / "dropout"}
    found = [
        weights(
            train(**{**dropout, "output_dir": tmp_path / str(number), "seed": seed, "data_seed": 1}).run.output_dir
        )
        for number, seed in enumerate((1, 1, 2))
    ]
    equal = [all(torch.equal(found[0][name], other[name]) for name in other) for other in found]
    assert equal == [True, True, False]
