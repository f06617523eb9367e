"""A student learns the teacher's answers: the losses are the papers', and a training on them is a plain loop's.

The reference is torch's kl_div over whole batches and stock BartForSequenceClassification, teacher and student, in a
loop that is written out here.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BartForSequenceClassification

from distilbart_mnli.data.batches import epoch_order
from distilbart_mnli.data.splits import load_train
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.objective import NO_LABEL, Distillation, label_losses, state_losses, teacher_losses
from tests.support.in_process import arguments, results, run, state, train, train_here, weights
from tests.support.students import student_of
from tests.support.tiny import tiny_bart, tiny_config, tiny_mnli, tiny_wordpiece
from tests.support.training_runs import Workshop, outcome, run_list

TRANSFER = [("a cat sees the dog", f"the dog is {word}") for word in "big small red old not".split()]
LABELS = ("neutral", "contradiction", "entailment")  # the teacher's own order, which is not the student's


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny_bart(folder / "student")
    tiny_bart(folder / "teacher", seed=1, encoder_layers=3, decoder_layers=3, labels=LABELS)
    student_of(folder / "teacher", folder / "cut", encoder_layers=2, decoder_layers=1)
    tiny_mnli(folder / "data", train=30)
    pd.DataFrame(TRANSFER, columns=["premise", "hypothesis"]).to_csv(folder / "transfer.csv", index=False)
    return folder


@pytest.fixture
def options(made, tmp_path):
    return {
        "model_name_or_path": made / "student",
        "teacher_model_name_or_path": made / "teacher",
        "data_dir": made / "data",
        "output_dir": tmp_path / "out",
        "per_device_train_batch_size": 12,
        "num_train_epochs": 2.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": 5e-3,
        "adam_epsilon": 1e-3,
        "encoder_cache_dir": tmp_path / "cache",
    }


# ---------------------------------------------------------------------------------------------------------------------
# The losses


def test_the_distance_from_the_teacher_is_t_squared_kl():
    torch.manual_seed(0)
    logits, teacher = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3)
    for temperature in (0.5, 1.0, 4.0):
        p = torch.softmax(teacher / temperature, -1)
        expected = kl_div(torch.log_softmax(logits / temperature, -1), p, reduction="none").sum(-1) * temperature**2
        found = teacher_losses(logits, teacher, temperature)
        torch.testing.assert_close(found, expected)
        # d/dz T^2 KL = T (softmax(z / T) - p)
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        torch.testing.assert_close(gradient, temperature * (torch.softmax(logits.detach() / temperature, -1) - p))


def test_a_regression_learns_the_teachers_value():
    assert teacher_losses(torch.tensor([[2.0]]), torch.tensor([[5.0]]), 3.0).tolist() == [9.0]


def test_a_row_without_a_label_has_no_loss_of_labels():
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    losses = label_losses(logits, torch.tensor([NO_LABEL, 2]), 0.1)
    assert losses[0] == 0
    torch.testing.assert_close(losses[1], cross_entropy(logits[1], torch.tensor(2), label_smoothing=0.1))


def test_a_row_without_a_label_counts_its_distance_from_the_teacher_alone():
    """Three rows, the second without a label, at weight 1/2 and temperature 2."""
    torch.manual_seed(0)
    logits, teacher = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3)
    options = Arguments(distillation_weight=0.5, distillation_temperature=2.0)
    objective = Distillation(tiny_bart(), options, teacher.numpy())  # type: ignore[arg-type]
    losses = objective.losses(logits, {"labels": torch.tensor([2, NO_LABEL, 0]), "teacher_logits": teacher})
    p, q = torch.softmax(teacher / 2, -1), torch.softmax(logits / 2, -1)
    distances = 4 * (p * (p / q).log()).sum(-1)
    of_labels = -torch.log_softmax(logits, -1)[[0, 1, 2], [2, 0, 0]] * torch.tensor([1.0, 0.0, 1.0])
    torch.testing.assert_close(losses, 0.5 * of_labels + 0.5 * distances)
    (gradient,) = torch.autograd.grad(losses[1], logits)
    torch.testing.assert_close(gradient[1], 0.5 * 2 * (q[1] - p[1]).detach())


def test_a_score_that_is_missing_has_no_loss_of_labels():
    objective = Distillation(tiny_bart(), Arguments(distillation_weight=0.25), np.zeros((2, 1), np.float32))  # type: ignore[arg-type]
    batch = {"labels": torch.tensor([3.0, NO_LABEL]), "teacher_logits": torch.tensor([[1.0], [1.0]])}
    assert objective.losses(torch.tensor([[5.0], [5.0]]), batch).tolist() == [0.75 * 4 + 0.25 * 16, 0.25 * 16]


def test_the_distance_of_states_is_a_mean_over_real_tokens():
    states, teacher = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0]])
    by_hand = [((states[0] - teacher[0]) ** 2).mean(), ((states[1, 1:3] - teacher[1, 1:3]) ** 2).mean()]
    torch.testing.assert_close(state_losses(states, teacher, mask), torch.stack(by_hand))


# ---------------------------------------------------------------------------------------------------------------------
# Trainings on them


def by_hand(made: Path, weight: float, temperature: float, transfer: list[tuple[str, str]]):
    """(weights, loss of every step): stock student and stock teacher, one batch a step.

    Args:
        transfer: pairs without labels, after the others.
    """
    model, teacher = (BartForSequenceClassification.from_pretrained(made / name) for name in ("student", "teacher"))
    tokenizer = AutoTokenizer.from_pretrained(made / "student")
    split, names = load_train(Arguments(data_dir=str(made / "data")), TASKS["mnli"]), TASKS["mnli"].label_names
    ids = {name: number for number, name in model.config.id2label.items()}
    labels = torch.tensor([*(ids[names[label]] for label in split.labels), *[-100] * len(transfer)])
    first, second = (split.sentence1 + [a for a, _ in transfer], split.sentence2 + [b for _, b in transfer])
    order = [teacher.config.label2id[model.config.id2label[number]] for number in range(3)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, eps=1e-3, weight_decay=0.0, foreach=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 6)
    lengths = np.array([len(row) for row in tokenizer(first, second)["input_ids"]])
    losses = []
    for rows in (rows for epoch in range(2) for rows in epoch_order(lengths, 42, epoch, 12, "group_by_length")):
        texts = ([column[row] for row in rows] for column in (first, second))
        batch = tokenizer(*texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            wanted = torch.softmax(teacher(**batch).logits[:, order] / temperature, -1)
        logits = model.train()(**batch).logits
        distance = kl_div(torch.log_softmax(logits / temperature, -1), wanted, reduction="batchmean")
        of_labels = cross_entropy(logits, labels[rows], reduction="sum", ignore_index=-100) / len(rows)
        loss = (1 - weight) * of_labels + weight * temperature**2 * distance
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        losses.append(loss.item())
    return model.state_dict(), losses


@pytest.mark.parametrize(
    "weight, temperature, micro, transfer", [(1.0, 1.0, 12, []), (0.4, 2.0, 3, []), (0.4, 2.0, 3, TRANSFER)]
)
def test_the_training_is_the_plain_loops(made, options, weight, temperature, micro, transfer):
    more = {"per_device_train_batch_size": micro, "effective_batch_size": 12}
    more |= {"distillation_weight": weight, "distillation_temperature": temperature}
    more |= {"transfer_file": made / "transfer.csv"} if transfer else {}
    train(**{**options, **more})
    expected, losses = by_hand(made, weight, temperature, transfer)
    logged = [entry["loss"] for entry in state(options["output_dir"])["log_history"] if "loss" in entry]
    np.testing.assert_allclose(logged, losses, rtol=1e-5)
    for name, tensor in weights(options["output_dir"]).items():
        assert (tensor - expected[name]).abs().max() <= 1e-5 * max(float(expected[name].abs().max()), 0.01), name


def test_a_teacher_equal_to_its_student_teaches_nothing(made, options):
    train(**{**options, "teacher_model_name_or_path": made / "student", "adam_epsilon": 1.0})  # no rounding blown up
    before = BartForSequenceClassification.from_pretrained(made / "student").state_dict()
    for name, tensor in weights(options["output_dir"]).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)


def test_kept_logits_are_those_of_a_fresh_folder_and_damage_is_made_good(made, options, tmp_path):
    train(**options)
    (kept,) = tmp_path.glob("cache/*/logits.bin")
    first = kept.read_bytes()
    kept.write_bytes(bytes([first[0] ^ 1]) + first[1:])
    train(**{**options, "output_dir": tmp_path / "again"})
    assert kept.read_bytes() == first
    assert all(torch.equal(t, weights(tmp_path / "out")[name]) for name, t in weights(tmp_path / "again").items())


def test_logits_of_a_set_with_transfer_rows_are_kept_beside_those_of_the_set_alone(made, options, tmp_path):
    sizes, rows = [], {}
    for name, more in (("alone", {}), ("more", {"transfer_file": made / "transfer.csv"}), ("again", {})):
        run(**{**options, **more, "do_train": True, "max_steps": 1, "output_dir": tmp_path / name})
        kept = sorted(path.stat().st_size for path in tmp_path.glob("cache/*/logits.bin"))
        sizes.append([size // (3 * 4) for size in kept])
        rows[name] = [results(tmp_path / name).get(f"{kind}_samples") for kind in ("train", "transfer")]
    assert sizes == [[30], [30, 35], [30, 35]]
    assert rows == {"alone": [30, None], "more": [30, 5], "again": [30, None]}


def test_a_shared_encoders_states_give_the_teachers_logits(made, tmp_path, options):
    """Teacher and student have one encoder: from its cache the teacher's decoder alone is run."""
    student_of(made / "teacher", tmp_path / "cut", decoder_layers=1)
    shared = {**options, "model_name_or_path": tmp_path / "cut", "freeze_encoder": True}
    results = []
    for cached in ("true", "false"):
        folder = tmp_path / f"cache_{cached}"
        train(**{**shared, "cache_encoder_outputs": cached, "encoder_cache_dir": folder, "overwrite_output_dir": True})
        (kept,) = folder.glob("*/logits.bin")
        results.append(np.fromfile(kept, np.float32))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Fitting an encoder


def mean_squared_error(
    made: Path, folder: Path, name: str = "train", transfer: Sequence[tuple[str, str]] = ()
) -> float:
    """Between the encoder states of two stock models, over all rows of a set one by one, and more pairs after them."""
    models = [BartForSequenceClassification.from_pretrained(path).eval() for path in (made / "teacher", folder)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = (made / "data" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    errors, columns = [], [lines[0].split("\t").index(column) for column in ("sentence1", "sentence2")]
    for pair in (*([line.split("\t")[column] for column in columns] for line in lines[1:]), *transfer):
        batch = tokenizer(*pair, return_tensors="pt")
        with torch.no_grad():
            mine, its = (model.model.encoder(**batch).last_hidden_state for model in models)
        errors.append(float(((mine - its) ** 2).mean()))
    return float(np.mean(errors))


def test_an_encoder_is_fitted_to_states_of_transfer_rows_too(made, options):
    """In one step of all rows the first loss is their mean: 30 of the set and 5 beside it."""
    fit = {"model_name_or_path": made / "cut", "fit_encoder": True, "transfer_file": made / "transfer.csv"}
    train(**{**options, **fit, "effective_batch_size": 36, "num_train_epochs": 1.0, "distillation_weight": 0.0})
    (first,) = (entry["loss"] for entry in state(options["output_dir"])["log_history"] if "loss" in entry)
    assert first == pytest.approx(mean_squared_error(made, made / "cut", transfer=TRANSFER), rel=1e-4)


@pytest.mark.parametrize("cached", ["auto", "false"])
def test_a_fitted_encoder_is_nearer_to_the_teachers_and_the_rest_is_as_it_was(made, options, cached):
    fit = {**options, "model_name_or_path": made / "cut", "fit_encoder": True, "cache_encoder_outputs": cached}
    train(**{**fit, "num_train_epochs": 4.0, "eval_strategy": "epoch"})
    folder = options["output_dir"]
    first = next(entry["loss"] for entry in state(folder)["log_history"])
    assert first == pytest.approx(mean_squared_error(made, made / "cut"), rel=0.3)  # of 12 rows of 30
    assert mean_squared_error(made, folder) < 0.5 * mean_squared_error(made, made / "cut")
    before = BartForSequenceClassification.from_pretrained(made / "cut", dtype=torch.float32).state_dict()
    measured = state(folder)["log_history"][-1]["eval_encoder_mse"]
    assert measured == pytest.approx(mean_squared_error(made, folder, "dev_matched"), rel=1e-5)
    moved = {name for name, tensor in weights(folder).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("model.encoder.") for name in moved)
    assert type(AutoModelForSequenceClassification.from_pretrained(folder)) is BartForSequenceClassification


def test_cached_teacher_states_train_as_computed_ones_do(made, options, tmp_path):
    for cached in ("auto", "false"):
        out = tmp_path / cached
        train(
            **{
                **options,
                "model_name_or_path": made / "cut",
                "fit_encoder": True,
                "cache_encoder_outputs": cached,
                "output_dir": out,
            }
        )
    computed = weights(tmp_path / "false")
    for name, tensor in weights(tmp_path / "auto").items():
        torch.testing.assert_close(tensor, computed[name], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# Resume, refusals


@pytest.mark.parametrize("stage", [{"fit_encoder": True, "freeze_encoder": False}, {"distillation_weight": 0.5}])
def test_a_resumed_distillation_is_the_uninterrupted_one(made, tmp_path, stage):
    """Bit for bit, with dropout, with transfer rows, and with the teacher's answers computed anew."""
    shop = Workshop(tmp_path, train=39)
    tiny_bart(tmp_path / "teacher", seed=1, encoder_layers=3)
    options = {**stage, "teacher_model_name_or_path": str(tmp_path / "teacher")}
    options["transfer_file"] = str(made / "transfer.csv")
    assert train_here(shop.options("whole", **options)) == (0, "")
    assert train_here(shop.options("part", **options)) == (0, "")
    for path in (tmp_path / "part").iterdir():
        if path.name != "checkpoint-7":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(tmp_path / "cache")
    assert train_here(shop.options("part", **options), ("--resume_from_checkpoint", "true")) == (0, "")
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")


def test_other_transfer_rows_are_another_recipe(made, tmp_path):
    shop = Workshop(tmp_path, train=39)
    tiny_bart(tmp_path / "teacher", seed=1)
    common = {"max_steps": 2, "teacher_model_name_or_path": str(tmp_path / "teacher")}
    first = shop.options("out", **common, transfer_file=str(made / "transfer.csv"))
    assert train_here(first) == (0, "")
    pd.DataFrame(TRANSFER[::-1], columns=["premise", "hypothesis"]).to_csv(tmp_path / "other.csv", index=False)
    code, line = train_here({**first, "transfer_file": str(tmp_path / "other.csv"), "resume_from_checkpoint": "true"})
    assert code == 2
    assert "train_data" in line


@pytest.mark.slow
def test_two_processes_learn_from_transfer_rows_what_one_does(made, tmp_path):
    shop = Workshop(tmp_path, train=39, dropout=0.0)
    tiny_bart(tmp_path / "teacher", seed=1, encoder_layers=3)
    more = {"teacher_model_name_or_path": str(tmp_path / "teacher"), "transfer_file": str(made / "transfer.csv")}
    more |= {"distillation_weight": 0.5, "freeze_encoder": False, "save_strategy": "no", "adam_epsilon": 1e-3}
    more |= {"max_steps": 6, "do_eval": False, "eval_strategy": "no"}
    assert train_here(shop.options("one", **more)) == (0, "")
    assert run_list(tmp_path, [shop.options("two", **more)], processes=2) == [[0, ""]]
    one, two = (
        [entry["loss"] for entry in state(tmp_path / name)["log_history"] if "loss" in entry]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(two, one, rtol=1e-5)
    expected = weights(tmp_path / "one")
    for name, tensor in weights(tmp_path / "two").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def test_another_teacher_is_another_recipe(tmp_path):
    shop = Workshop(tmp_path)
    for seed in (1, 2):
        tiny_bart(tmp_path / f"teacher{seed}", seed=seed)
    first = shop.options("out", max_steps=2, teacher_model_name_or_path=str(tmp_path / "teacher1"))
    assert train_here(first) == (0, "")
    second = {**first, "teacher_model_name_or_path": str(tmp_path / "teacher2"), "resume_from_checkpoint": "true"}
    code, line = train_here(second)
    assert code == 2
    assert "teacher" in line


@pytest.mark.parametrize(
    "teacher, changes, told",
    [
        ({"labels": ("yes", "no", "maybe")}, {}, "labels"),
        ({"labels": ("entailment", "not_entailment")}, {}, "labels"),
        ({"d_model": 32}, {"fit_encoder": True}, "d_model"),
        ({"max_position_embeddings": 64}, {}, "64"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_before_the_training(made, options, tmp_path, teacher, changes, told):
    tiny_bart(tmp_path / "bad", **teacher)
    with pytest.raises(InputError, match=told):
        train(**{**options, "teacher_model_name_or_path": tmp_path / "bad", **changes})
    assert not (tmp_path / "out").exists()


def test_encoder_states_need_the_same_tokens_and_logits_do_not(made, options, tmp_path):
    config = tiny_config(pad_token_id=4, bos_token_id=3, eos_token_id=2, decoder_start_token_id=2)
    torch.manual_seed(1)
    BartForSequenceClassification(config).save_pretrained(tmp_path / "other")
    tiny_wordpiece(tmp_path / "other")
    other = {**options, "teacher_model_name_or_path": tmp_path / "other"}
    with pytest.raises(InputError, match="tokenizer"):
        train(**other, fit_encoder=True)
    train(**other)


@pytest.mark.parametrize(
    "changes",
    [
        {"fit_encoder": True, "teacher_model_name_or_path": None},
        {"fit_encoder": True, "freeze_encoder": True},
        {"transfer_file": "x.csv", "teacher_model_name_or_path": None},
        {"transfer_file": "x.csv", "distillation_weight": 0.0},
        {"transfer_texts": "x.csv"},
        {"candidate_labels": ["x"]},
        {"candidate_labels": ["x"], "transfer_file": "x.csv"},
    ],
)
def test_options_that_exclude_each_other(options, changes):
    with pytest.raises(InputError):
        arguments(**{"do_train": True, **options, **changes})
    arguments(**{**options, **changes, "do_eval": True})  # the command's own end, done again without the training
