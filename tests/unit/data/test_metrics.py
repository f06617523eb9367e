"""GLUE's metrics equal values worked out by hand; offline, without leaving files."""

import numpy as np
import pytest

from distilbart_mnli.data.metrics import METRICS, Metric, compute_metrics
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import RunError

KEYS = {
    "cola": ["matthews_correlation"],
    "sst2": ["accuracy"],
    "mrpc": ["f1", "accuracy"],
    "stsb": ["pearson", "spearmanr"],
    "qqp": ["f1", "accuracy"],
    "mnli": ["accuracy"],
    "mnli-mm": ["accuracy"],
    "qnli": ["accuracy"],
    "rte": ["accuracy"],
    "wnli": ["accuracy"],
    "ax": ["matthews_correlation", "accuracy"],
}


@pytest.mark.parametrize("name", KEYS)
def test_every_task_has_its_official_metrics_as_plain_floats(name):
    values = np.array([0.5, 1.0, 2.0], np.float32) if name == "stsb" else np.array([0, 1, 1])
    results = compute_metrics(TASKS[name], values, values)
    assert list(results) == KEYS[name]
    assert all(type(value) is float for value in results.values())
    assert results == pytest.approx(dict.fromkeys(KEYS[name], 1.0))


def test_values_worked_out_by_hand():
    predictions, references = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 0, 0, 1])
    # 2 true positives, 1 false positive, 1 false negative, 2 true negatives
    assert compute_metrics(TASKS["mrpc"], predictions, references) == pytest.approx({"f1": 4 / 6, "accuracy": 4 / 6})
    assert compute_metrics(TASKS["cola"], predictions, references) == pytest.approx(
        {"matthews_correlation": (2 * 2 - 1 * 1) / 9}
    )
    scores = compute_metrics(TASKS["stsb"], np.array([1.0, 2.0, 9.0]), np.array([0.0, 1.0, 2.0]))
    assert scores == pytest.approx({"pearson": 8 / np.sqrt(38 * 2), "spearmanr": 1.0})


@pytest.mark.parametrize(
    ("name", "predictions", "references", "expected"),
    [
        ("stsb", [2.5, 2.5, 2.5], [1.0, 2.0, 3.0], {"pearson": 0.0, "spearmanr": 0.0}),
        ("stsb", [2.5, 1.0, 0.5], [3.0, 3.0, 3.0], {"pearson": 0.0, "spearmanr": 0.0}),
        ("stsb", [2.5], [3.0], {"pearson": 0.0, "spearmanr": 0.0}),
        ("cola", [1, 1, 1], [0, 1, 1], {"matthews_correlation": 0.0}),
        ("mrpc", [0, 0, 0], [0, 0, 0], {"f1": 0.0, "accuracy": 1.0}),
        ("mnli", [2], [2], {"accuracy": 1.0}),
    ],
)
def test_constant_predictions_and_single_examples_give_finite_values(name, predictions, references, expected, recwarn):
    assert compute_metrics(TASKS[name], np.array(predictions), np.array(references)) == expected
    assert not [warning for warning in recwarn if "onstant" in str(warning.message)]


def test_predictions_that_are_not_finite_stop_the_run():
    with pytest.raises(RunError, match="1 of 3 predictions are not finite"):
        compute_metrics(TASKS["stsb"], np.array([1.0, np.nan, 2.0]), np.array([1.0, 2.0, 3.0]))


def test_each_metric_is_an_evaluate_metric_that_can_be_filled_in_batches(tmp_path):
    metric = Metric("accuracy", cache_dir=str(tmp_path))
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add_batch(predictions=[2], references=[2])
    assert metric.compute() == {"accuracy": pytest.approx(2 / 3)}
    assert set(METRICS) == {key for task in TASKS.values() for key in task.metrics}
