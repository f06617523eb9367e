"""Every row once, whatever the batch and the number of processes; and the logits and metrics of stock, row by row."""

import copy

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from transformers import BartForSequenceClassification

from distilbart_mnli.data.batches import Collator, Padding
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.errors import RunError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.predict import (
    Inference,
    evaluate_logits,
    mean_loss,
    predict_logits,
    to_task_predictions,
    write_predictions,
)
from tests.support.tiny import tiny_bart

LENGTHS = np.random.default_rng(1).integers(7, 60, 53)
MNLI, STSB = TASKS["mnli"], TASKS["stsb"]
TEACHER_MAP = np.array([2, 1, 0])  # entailment, neutral, contradiction -> the teacher's ids


def rows(lengths=LENGTHS) -> TokenizedSplit:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, 400, offsets[-1]).astype(np.int32)
    ids[offsets[:-1]] = 0
    ids[offsets[1:] - 1] = 2
    return TokenizedSplit("mnli", ids, offsets, rng.integers(0, 3, len(lengths)), digest_of(ids, offsets))


def models() -> tuple[BartForSequenceClassification, ShortCutBart]:
    stock = tiny_bart(dropout=0.1)
    ours = ShortCutBart(copy.deepcopy(stock.config))
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def logits_of(model, split, batch_size=8, **more) -> np.ndarray:
    collate = Collator(split, 1, Padding(128, multiple_of=8))
    return predict_logits(model, collate, Inference(batch_size=batch_size, **more))


def of_many_processes(model, split, count, batch_size=8, **more) -> np.ndarray:
    """What `count` processes would make together: each one's share, and the sums they would agree on."""
    contributions: list[list[torch.Tensor]] = []
    for index in range(count):
        mine: list[torch.Tensor] = []

        def keep(tensor, mine=mine):
            mine.append(tensor.clone())
            return torch.ones_like(tensor)  # counts of 1, so that the share is not refused

        logits_of(model, split, batch_size, num_processes=count, process_index=index, reduce_sum=keep, **more)
        contributions.append(mine)
    sums = [sum(share[which] for share in contributions) for which in (0, 1)]
    # A last process sees the real sums.
    answers = iter(sums)
    found = logits_of(model, split, batch_size, num_processes=count, reduce_sum=lambda _: next(answers), **more)
    assert (sums[1] == 1).all()
    return found


def test_logits_are_those_of_stock_row_by_row():
    stock, ours = models()
    split = rows()
    found = logits_of(ours, split)
    assert found.dtype == np.float32 and found.shape == (53, 3)
    for row in range(len(split)):
        ids = torch.from_numpy(split.ids[None, split.offsets[row] : split.offsets[row + 1]].astype(np.int64))
        with torch.no_grad():
            expected = stock(ids, attention_mask=torch.ones_like(ids)).logits[0].numpy()
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("count", [2, 3, 7, 10])
def test_the_logits_of_many_processes_are_bit_for_bit_those_of_one(count):
    _, ours = models()
    split = rows()
    np.testing.assert_array_equal(of_many_processes(ours, split, count), logits_of(ours, split))


@pytest.mark.parametrize("lengths", [[9], [9, 12, 7]])
def test_fewer_rows_than_processes_are_no_fault(lengths):
    _, ours = models()
    split = rows(np.array(lengths))
    np.testing.assert_array_equal(of_many_processes(ours, split, 5, batch_size=1), logits_of(ours, split, 1))


@pytest.mark.parametrize(
    "more", [{"workers": 0}, {"workers": 3}, {"static_shapes": True}, {"batch_size": 53}, {"batch_size": 1}]
)
def test_neither_threads_nor_filled_batches_nor_the_batch_size_change_the_logits(more):
    _, ours = models()
    split = rows()
    expected = logits_of(ours, split)
    np.testing.assert_allclose(logits_of(ours, split, **more), expected, rtol=1e-5, atol=1e-6)


def test_filled_batches_have_one_size():
    _, ours = models()
    split, sizes = rows(), set()
    forward = ours.forward

    def watched(input_ids, attention_mask):
        sizes.add(len(input_ids))
        return forward(input_ids, attention_mask)

    ours.forward = watched
    logits_of(ours, split, 8, static_shapes=True)
    assert sizes == {8}


def test_a_row_that_is_computed_twice_or_never_stops_the_run():
    _, ours = models()
    split = rows()
    for change, wrong in ((0, 8), (2, 53)):
        # The counts come second: as if one process had lost its first batch, or another had done everything too.
        calls = []

        def broken(tensor, change=change, calls=calls):
            calls.append(tensor)
            if len(calls) == 1:
                return tensor
            if change:
                return tensor * change
            tensor = tensor.clone()
            tensor[:8] = 0
            return tensor

        with pytest.raises(RunError, match=f"mnli: {wrong} of 53 rows were not computed exactly once"):
            logits_of(ours, split, reduce_sum=broken)


def test_evaluation_has_neither_dropout_nor_gradients_and_leaves_the_mode_as_it_was():
    _, ours = models()
    split = rows()
    ours.train()
    first = logits_of(ours, split)
    assert ours.training and ours.model.decoder.training
    np.testing.assert_array_equal(first, logits_of(ours, split))
    ours.eval()
    np.testing.assert_array_equal(first, logits_of(ours, split))
    assert not ours.training
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_loss_and_accuracy_are_those_of_torch_and_scikit_learn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)).astype(np.float32)
    task_labels = rng.integers(0, 3, 200)
    found = evaluate_logits(logits, TEACHER_MAP[task_labels], MNLI, TEACHER_MAP)
    # Names, not numbers: what the model calls its argmax against what the task calls the label.
    model_names = np.array(["contradiction", "neutral", "entailment"])
    predicted, expected = model_names[logits.argmax(1)], np.array(MNLI.label_names)[task_labels]
    assert found["accuracy"] == pytest.approx(accuracy_score(expected, predicted))
    reference = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).double(), torch.from_numpy(TEACHER_MAP[task_labels])
    )
    assert found["loss"] == pytest.approx(float(reference), rel=1e-12)
    np.testing.assert_array_equal(
        np.array(MNLI.label_names)[to_task_predictions(logits, MNLI, TEACHER_MAP)], predicted
    )


def test_the_loss_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5000, 3)).astype(np.float32), rng.integers(0, 3, 5000)
    order = rng.permutation(5000)
    assert mean_loss(logits, labels, False) == pytest.approx(mean_loss(logits[order], labels[order], False), rel=1e-14)


def test_regression_is_measured_by_squared_error_and_correlation():
    values = np.array([[0.0], [1.5], [2.0], [4.0]], np.float32)
    references = np.array([0.5, 1.0, 2.5, 5.0], np.float32)
    found = evaluate_logits(values, references, STSB, None)
    assert found["loss"] == pytest.approx((0.25 + 0.25 + 0.25 + 1) / 4)
    assert found["pearson"] == pytest.approx(np.corrcoef(values[:, 0], references)[0, 1])


def test_a_model_label_that_is_no_task_label_is_never_predicted():
    logits = np.array([[0.0, 1.0, 9.0, 2.0]], np.float32)
    assert to_task_predictions(logits, MNLI, np.array([3, 1, 0])).tolist() == [0]


def test_the_predictions_file_holds_names_and_logits_that_read_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    labels = np.array([2, 0, 1, 1])
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    predictions = to_task_predictions(logits, MNLI, TEACHER_MAP)
    write_predictions(tmp_path / "p.tsv", logits, labels, predictions, names, MNLI)
    head, *lines = (line.split("\t") for line in (tmp_path / "p.tsv").read_text().splitlines())
    assert head == ["index", "label", "prediction", "logit_contradiction", "logit_neutral", "logit_entailment"]
    assert [line[0] for line in lines] == ["0", "1", "2", "3"]
    assert [line[1] for line in lines] == ["entailment", "contradiction", "neutral", "neutral"]
    assert [line[2] for line in lines] == [names[i] for i in logits.argmax(1)]
    np.testing.assert_array_equal(np.array([line[3:] for line in lines]).astype(np.float32), logits)
