"""GLUE's metrics as `evaluate.Metric` classes that are part of the project: nothing is downloaded to compute them.

    Accuracy().compute(predictions=[0, 1], references=[0, 0])       # {"accuracy": 0.5}
    compute_metrics(task, predictions, references)                  # every metric of a task, in one dict

`evaluate.load("glue", "mnli")` fetches code from the Hub and fails without a network; the definitions here are those
of GLUE (Wang et al. 2019), computed by scikit-learn and scipy. Values are fractions, not percents.

Corner cases are finite, so that a run whose model predicts one class for everything can still be compared and logged:
a correlation of a constant is 0.0 (it is not defined), as scikit-learn already has it for Matthews; an F1 without any
predicted or true positive is 0.0. Predictions that are not finite are no corner case: they stop the run.
"""

import tempfile
from typing import TYPE_CHECKING, ClassVar

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from distilbart_mnli.errors import RunError

if TYPE_CHECKING:
    from distilbart_mnli.data.splits import Task


class _Metric(evaluate.Metric):
    """`description` and the type of one value are all that the classes below differ in, beside the computation."""

    description: ClassVar[str]
    value_type: ClassVar[str] = "int64"

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value(self.value_type)
        return evaluate.MetricInfo(
            description=self.description,
            citation="Wang et al. 2019, GLUE: A Multi-Task Benchmark and Analysis Platform for NLU",
            inputs_description="predictions and references: one value an example",
            # No format: "numpy" would hand out float32, and a correlation wants all digits.
            features=datasets.Features({"predictions": value, "references": value}),
        )


class Accuracy(_Metric):
    description = "Share of the examples whose prediction is the reference: {'accuracy': 0..1}."

    def _compute(self, predictions, references):
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(_Metric):
    description = "F1 of class 1 (equivalent, duplicate): {'f1': 0..1}."

    def _compute(self, predictions, references):
        return {"f1": float(f1_score(references, predictions, pos_label=1, zero_division=0.0))}


class MatthewsCorrelation(_Metric):
    description = "Matthews correlation of the classes: {'matthews_correlation': -1..1}, 0 for a constant."

    def _compute(self, predictions, references):
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


class PearsonCorrelation(_Metric):
    description = "Pearson correlation of the scores: {'pearson': -1..1}, 0 for a constant."
    value_type = "float64"

    def _compute(self, predictions, references):
        return {"pearson": _correlation(stats.pearsonr, predictions, references)}


class SpearmanCorrelation(_Metric):
    description = "Spearman rank correlation of the scores: {'spearmanr': -1..1}, 0 for a constant."
    value_type = "float64"

    def _compute(self, predictions, references):
        return {"spearmanr": _correlation(stats.spearmanr, predictions, references)}


def _correlation(function, predictions: np.ndarray, references: np.ndarray) -> float:
    if len(predictions) < 2 or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    value = float(function(predictions, references)[0])
    # Nearly constant values can underflow inside the formula: no correlation that can be measured either.
    return value if np.isfinite(value) else 0.0


METRICS: dict[str, type[_Metric]] = {
    "accuracy": Accuracy,
    "f1": F1,
    "matthews_correlation": MatthewsCorrelation,
    "pearson": PearsonCorrelation,
    "spearmanr": SpearmanCorrelation,
}
"""Key of the result -> class. `Task.metrics` holds the keys."""


def compute_metrics(task: "Task", predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Every metric of the task.

    Args:
        task: names the metrics, `task.metrics`.
        predictions: int64 [N] label ids in the task's order, or float [N] for regression. N is at least 1.
        references: the same of the data set.

    Returns:
        Key (accuracy, f1, matthews_correlation, pearson, spearmanr) -> finite value, in the order of the table.

    Raises:
        RunError: a prediction of a regression is not finite.
    """
    predictions, references = np.asarray(predictions), np.asarray(references)
    if task.is_regression and not np.isfinite(predictions).all():
        bad = int((~np.isfinite(predictions)).sum())
        raise RunError(f"{bad} of {len(predictions)} predictions are not finite numbers: the model has diverged")
    results: dict[str, float] = {}
    # In memory: no process waits for another one's file. evaluate makes a folder even so; it goes with the `with`.
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
        for name in task.metrics:
            metric = METRICS[name](keep_in_memory=True, cache_dir=folder)
            results.update(metric.compute(predictions=predictions, references=references))
    return results
