"""GLUE's metrics as one `evaluate.Metric` that is part of the project: nothing is downloaded to compute them.

    Metric("accuracy").compute(predictions=[0, 1], references=[0, 0])       # {"accuracy": 0.5}
    compute_metrics(task, predictions, references)                          # every metric of a task, in one dict

`evaluate.load("glue", "mnli")` fetches code from the Hub and fails without a network; the definitions here are those
of GLUE (Wang et al. 2019), computed by scikit-learn and scipy. Values are fractions, not percents.

Corner cases are finite, so that a run whose model predicts one class for everything can still be compared and logged:
a correlation of a constant is 0.0 (it is not defined), as scikit-learn already has it for Matthews; an F1 without any
predicted or true positive is 0.0. Predictions that are not finite are no corner case: they stop the run.
"""

import tempfile
from collections.abc import Callable
from functools import partial

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from distilbart_mnli.data.tasks import Task
from distilbart_mnli.errors import RunError

ENCODER_MSE = "encoder_mse"
"""No task's metric, but a fit's (train/objective.py): mean squared distance from the teacher's encoder states."""


def _correlation(function: Callable, references: np.ndarray, predictions: np.ndarray) -> float:
    if len(predictions) < 2 or np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    value = float(function(predictions, references)[0])
    # Nearly constant values can underflow inside the formula: no correlation that can be measured either.
    return value if np.isfinite(value) else 0.0


METRICS: dict[str, Callable] = {
    "accuracy": accuracy_score,
    "f1": partial(f1_score, pos_label=1, zero_division=0.0),  # class 1: equivalent, duplicate
    "matthews_correlation": matthews_corrcoef,
    "pearson": partial(_correlation, stats.pearsonr),
    "spearmanr": partial(_correlation, stats.spearmanr),
}
"""Key of the result -> function of (references, predictions). `Task.metrics` holds the keys."""


class Metric(evaluate.Metric):
    """The metric of METRICS that `config_name`, its first argument, names."""

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("float64" if self.config_name in ("pearson", "spearmanr") else "int64")
        return evaluate.MetricInfo(
            description=f"GLUE's {self.config_name}: a fraction, 0 for the correlation of a constant",
            citation="Wang et al. 2019, GLUE: A Multi-Task Benchmark and Analysis Platform for NLU",
            # No format: "numpy" would hand out float32, and a correlation wants all digits.
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return {self.config_name: float(METRICS[self.config_name](references, predictions))}


def compute_metrics(task: Task, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
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
    if task.is_regression and not np.isfinite(predictions).all():
        bad = int((~np.isfinite(predictions)).sum())
        raise RunError(f"{bad} of {len(predictions)} predictions are not finite numbers: the model has diverged")
    results: dict[str, float] = {}
    # In memory: no process waits for another one's file. evaluate makes a folder even so; it goes with the `with`.
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
        for name in task.metrics:
            metric = Metric(name, keep_in_memory=True, cache_dir=folder)
            results.update(metric.compute(predictions=predictions, references=references))
    return results
