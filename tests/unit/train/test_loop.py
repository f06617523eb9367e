"""The loop computes what a plain loop over the stock model does; what is frozen, chosen or stopped is as documented.

The reference is written out in `by_hand`: stock BartForSequenceClassification, one batch a step, torch's AdamW,
transformers' schedule, dropout 0.
"""

import contextlib
import functools
import json
import logging
import math
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BartForSequenceClassification, get_scheduler

from distilbart_mnli.data.batches import epoch_order
from distilbart_mnli.data.splits import load_train
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.model.bart import ShortCutBart, freeze
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.evaluation import EvaluationResult
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.objective import label_losses
from distilbart_mnli.train.optimizer import group_parameters, make_schedule
from tests.support.in_process import arguments, results, run, state, train, weights
from tests.support.tiny import tiny_bart, tiny_config, tiny_mnli, tiny_tokenizer

EXAMPLES, BATCH = 30, 12  # two whole steps an epoch, and one of 6 examples
TEACHER_IDS = {"contradiction": 0, "neutral": 1, "entailment": 2}
# Adam divides by the gradient's size; a large epsilon keeps it from blowing up the rounding of gradients that are 0.
ADAM = {"learning_rate": 5e-3, "adam_epsilon": 1e-3, "adam_beta2": 0.98, "weight_decay": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny_bart(folder / "student")
    tiny_bart(folder / "dropout", dropout=0.1)
    tiny_mnli(folder / "data", train=EXAMPLES)
    return folder


@pytest.fixture
def options(made, tmp_path):
    """Options of a training of 2 x 3 steps of 12 examples into a folder of its own."""
    return {
        "model_name_or_path": made / "student",
        "data_dir": made / "data",
        "output_dir": tmp_path / "out",
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 2.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "encoder_cache_dir": tmp_path / "cache",
        **ADAM,
    }


def by_hand(made: Path, steps: int = 6, smoothing: float = 0.0, frozen=True, warmup=0, schedule="linear", clip=1.0):
    """(weights, loss of every step, learning rate after it) of the plain loop."""
    model = BartForSequenceClassification.from_pretrained(made / "student", dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(made / "student")
    split = load_train(Arguments(data_dir=str(made / "data")), TASKS["mnli"])
    names = TASKS["mnli"].label_names
    labels = torch.tensor([TEACHER_IDS[names[label]] for label in split.labels])
    if frozen:
        model.model.encoder.requires_grad_(False)
        model.model.decoder.embed_positions.requires_grad_(False)
    undecayed = [p for n, p in model.named_parameters() if n.endswith("bias") or "layer_norm" in n or "layernorm" in n]
    kept = {id(parameter) for parameter in undecayed}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in kept]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": undecayed, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.98), eps=1e-3, foreach=False)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    lengths = np.array([len(ids) for ids in tokenizer(split.sentence1, split.sentence2)["input_ids"]])
    losses, rates = [], []
    for epoch in range(math.ceil(steps / 3)):
        for rows in epoch_order(lengths, 42, epoch, BATCH, "group_by_length")[: steps - len(losses)]:
            texts = ([column[row] for row in rows] for column in (split.sentence1, split.sentence2))
            batch = tokenizer(*texts, padding=True, return_tensors="pt")
            logits = model(**batch).logits
            loss = torch.nn.functional.cross_entropy(logits, labels[rows], label_smoothing=smoothing)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            rates.append(scheduler.get_last_lr()[0])
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}, losses, rates


def assert_equal_training(training: Training, reference, tolerance=1e-5) -> None:
    expected, losses, rates = reference
    logged = [entry for entry in training.state.progress.log_history if "loss" in entry]
    np.testing.assert_allclose([entry["loss"] for entry in logged], losses, rtol=tolerance)
    np.testing.assert_allclose([entry["learning_rate"] for entry in logged], rates, rtol=1e-6, atol=1e-15)
    saved = weights(training.run.output_dir)
    for name, tensor in saved.items():
        # The floor is for k_proj.bias, whose gradient is 0 but for rounding, and which stays 0.
        assert (tensor - expected[name]).abs().max() <= tolerance * max(float(expected[name].abs().max()), 0.01), name
    untrained = tiny_bart().state_dict()
    moved = [name for name in saved if not torch.equal(saved[name], untrained[name])]
    assert len(moved) > 20


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


def test_the_row_losses_are_those_of_the_definition():
    logits, labels = torch.randn(7, 3), torch.randint(0, 3, (7,))
    logs = logits.log_softmax(1)
    exact = -(0.9 * logs[range(7), labels] + 0.1 * logs.mean(1))
    assert torch.allclose(label_losses(logits, labels, 0.1), exact, atol=1e-6)
    values = torch.randn(7)
    assert torch.allclose(label_losses(logits[:, :1], values, 0.0), (logits[:, 0] - values) ** 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [({}, 1e-5), ({"bf16": True}, 2e-2)], ids=["float32", "bfloat16"])
def test_a_training_with_the_encoder_cache_is_the_one_without(options, tmp_path, dtype, tolerance):
    """Losses, and the update (not only the weights, which a training of a few steps hardly moves)."""
    frozen = {**options, **dtype, "freeze_encoder": True, "freeze_embeds": True}
    cached = train(**{**frozen, "output_dir": tmp_path / "cached", "cache_encoder_outputs": "true"})
    plain = train(**{**frozen, "output_dir": tmp_path / "plain", "cache_encoder_outputs": "false"})
    assert cached.states is not None and plain.states is None
    losses = [[entry["loss"] for entry in t.state.progress.log_history] for t in (cached, plain)]
    np.testing.assert_allclose(*losses, rtol=tolerance)
    before = weights(Path(str(options["model_name_or_path"])))
    found, expected = weights(cached.run.output_dir), weights(plain.run.output_dir)
    change = torch.cat([(expected[name] - before[name]).flatten() for name in before])
    difference = torch.cat([(found[name] - expected[name]).flatten() for name in before])
    assert difference.norm() <= tolerance * change.norm() and change.norm() > 0


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


def test_the_second_student_of_a_teacher_does_not_run_the_encoder_at_all(options, made, tmp_path, monkeypatch):
    frozen = {**options, "freeze_encoder": True, "freeze_embeds": True}
    train(**frozen)
    other = tiny_bart(seed=3, decoder_layers=1)
    other.model.encoder.load_state_dict(tiny_bart().model.encoder.state_dict())
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer(tmp_path / "other")
    monkeypatch.setattr(ShortCutBart, "encode", lambda *_: pytest.fail("the encoder ran"))
    train(**{**frozen, "model_name_or_path": tmp_path / "other", "output_dir": tmp_path / "second"})


def test_auto_declines_where_it_pays_nothing_and_says_why(options, caplog):
    caplog.set_level(logging.INFO)
    frozen = {**options, "freeze_encoder": True, "freeze_embeds": True}
    once = train(**{**frozen, "num_train_epochs": 1})
    assert once.states is None
    assert sum("none for train: the run reads every example at most once" in line for line in caplog.messages) == 1
    small = train(**{**frozen, "overwrite_output_dir": True, "encoder_cache_max_gb": 0})
    assert small.states is None and "encoder_cache_max_gb is 0" in caplog.text
    trained = train(**{**options, "overwrite_output_dir": True})
    assert trained.states is None and not list(Path(options["encoder_cache_dir"]).glob("*/states.bin"))


def test_a_cache_that_is_wanted_and_does_not_fit_stops_the_run(options):
    frozen = {**options, "freeze_encoder": True, "cache_encoder_outputs": "true", "encoder_cache_max_gb": 0.0}
    with pytest.raises(
        InputError, match=r"cache_encoder_outputs is true, but it needs 0\.00 GB, encoder_cache_max_gb"
    ):
        train(**frozen)
    assert not Path(options["output_dir"]).exists()


def test_the_evaluation_sets_are_cached_when_they_are_read_more_than_once(options):
    frozen = {**options, "freeze_encoder": True, "freeze_embeds": True, "do_eval": True}
    train(**frozen)
    caches = list(Path(options["encoder_cache_dir"]).glob("*/meta.json"))
    assert {json.loads(path.read_text())["split"] for path in caches} == {"train"}
    train(**{**frozen, "eval_strategy": "epoch", "overwrite_output_dir": True})
    caches = list(Path(options["encoder_cache_dir"]).glob("*/meta.json"))
    assert {json.loads(path.read_text())["split"] for path in caches} == {"train", "mnli", "mnli-mm"}


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
        assert (training.states is not None) == (name == "off")
    assert losses["off"] != losses["on"]


def test_weight_decay_is_on_everything_but_biases_and_layer_norms():
    model = ShortCutBart(tiny_config())
    groups, names = group_parameters(model, 0.01)
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    flat = [parameter for group in groups for parameter in group["params"]]
    assert [id(dict(model.named_parameters())[name]) for name in names] == [id(parameter) for parameter in flat]
    decayed, free = names[: len(groups[0]["params"])], names[len(groups[0]["params"]) :]
    assert all(name.endswith(".weight") and "norm" not in name for name in decayed)
    assert all(name.endswith(".bias") or "layer_norm." in name or "layernorm" in name for name in free)
    assert len(names) == len(set(names)) == len(list(model.parameters()))
    assert (
        sum("norm" in name and name.endswith("weight") for name in free) == 2 * 2 + 2 * 3 + 2
    )  # and both embeddings'
    freeze(model, encoder=True, embeddings=True)
    assert not [name for name in group_parameters(model, 0.01)[1] if "encoder.layers" in name.replace("decoder", "")]


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


# ---------------------------------------------------------------------------------------------------------------------
# Schedules


def rates(steps: int, **changes) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    args = arguments(model_name_or_path="m", do_train=True, output_dir="o", learning_rate=1.0, **changes)
    schedule = make_schedule(args, optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, lambda t: 1 - t / 10),
        ({"warmup_steps": 4}, lambda t: t / 4 if t < 4 else (10 - t) / 6),
        ({"warmup_steps": 0.25}, lambda t: t / 3 if t < 3 else (10 - t) / 7),  # ceil(0.25 x 10)
        ({"warmup_steps": 1.0}, lambda t: t / 1 if t < 1 else (10 - t) / 9),  # one step, not all of them
        ({"lr_scheduler_type": "constant"}, lambda t: 1),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}, lambda t: min(1, t / 5)),
        ({"lr_scheduler_type": "cosine"}, lambda t: (1 + math.cos(math.pi * t / 10)) / 2),
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 1}},
            lambda t: (1 + math.cos(2 * math.pi * t / 10)) / 2,
        ),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.0, "power": 2}},
            lambda t: (1 - t / 10) ** 2,
        ),
    ],
)
def test_schedules_are_what_their_names_say(changes, expected):
    np.testing.assert_allclose(rates(10, **changes), [expected(t) for t in range(10)], atol=1e-12)


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


# ---------------------------------------------------------------------------------------------------------------------
# Evaluations, the best model, early stopping


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


BEST = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
VALUES = {"losses": [0.9, 0.5, 0.7, 0.4, 0.6, 0.8], "accuracies": [0.1, 0.2, 0.9, 0.3, 0.9, 0.4]}


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


def test_a_metric_that_no_evaluation_gives_is_refused_before_training(options):
    with pytest.raises(InputError, match=r"metric_for_best_model f1: .* gives loss, accuracy, loss_mm, accuracy_mm"):
        train(**options | BEST, load_best_model_at_end=True, metric_for_best_model="f1")
    assert not Path(options["output_dir"]).exists()


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
