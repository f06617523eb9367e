"""How far a classifier's probabilities can be believed: expected calibration error, and the temperature that mends it.

Guo et al., arXiv 1706.04599: logits are divided by one number, which changes no prediction.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15  # as in the paper


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error, from 0 to 1: |accuracy - confidence| in each of BINS equal intervals of the
    confidence, weighted by its rows.

    Args:
        probabilities: [rows, labels], each row of sum 1.
        labels: int64 [rows].
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # (0, 1/15], (1/15, 2/15], ...
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T > 0 for which softmax(logits / T) has the least cross-entropy on these rows.

    Between 0.01 and 100: where all rows are right, or none is better than chance, there is no least one.
    """
    rows = np.arange(len(labels))
    logits = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def calibration_figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`calibration_error` as the model is, `temperature`, and `calibration_error_at_temperature`.

    Args:
        logits: float32 [rows, labels], in the order of the labels' ids.
        labels: int64 [rows].
    """
    temperature = best_temperature(logits, labels)
    values = logits.astype(np.float64)
    return {
        "calibration_error": calibration_error(softmax(values, axis=1), labels),
        "temperature": temperature,
        "calibration_error_at_temperature": calibration_error(softmax(values / temperature, axis=1), labels),
    }
