"""Calibration error by hand, and the temperature that torch's own optimizer finds."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from distilbart_mnli.compare.calibration import BINS, best_temperature, calibration_error, calibration_figures


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 1, 1, 1])  # right, wrong, right, wrong
    # Of 15 intervals, 0.9 (13.5) and 0.95 (14.25) lie in two, 0.7 (10.5) and 0.6 (9) in two others.
    assert calibration_error(probabilities, labels) == pytest.approx((0.1 + 0.95 + 0.3 + 0.6) / 4)
    assert calibration_error(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1])) == 0
    assert calibration_error(np.eye(3), np.arange(3)) == 0


def test_calibration_error_is_that_of_scikit_learns_curve():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5] * 3, 2000)
    labels = np.where(rng.random(2000) < 0.6, probabilities.argmax(1), rng.integers(0, 3, 2000))
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    accuracy, mean = calibration_curve(right, confidence, n_bins=BINS)
    counts = np.histogram(confidence, bins=np.linspace(0, 1, BINS + 1))[0]
    expected = (np.abs(accuracy - mean) * counts[counts > 0]).sum() / 2000
    assert calibration_error(probabilities, labels) == pytest.approx(expected)


def test_the_temperature_is_the_one_that_torch_finds():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(3000, 3))
    labels = np.array([rng.choice(3, p=row) for row in np.exp(truth) / np.exp(truth).sum(1, keepdims=True)])
    logits = (2.5 * truth).astype(np.float32)  # too sure of itself by 2.5
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale], max_iter=100, tolerance_grad=1e-10)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double() / scale, torch.from_numpy(labels))
        loss.backward()
        return loss

    optimizer.step(closure)
    found = calibration_figures(logits, labels)
    assert found["temperature"] == pytest.approx(scale.item(), rel=1e-3) == pytest.approx(2.5, rel=0.15)
    assert found["calibration_error_at_temperature"] < 0.05 < found["calibration_error"]


def test_where_there_is_no_best_temperature_it_stays_in_bounds():
    assert 0.01 <= best_temperature(np.eye(3) * 5, np.arange(3)) < 1
    assert 1 < best_temperature(np.eye(3) * 5, np.array([1, 2, 0])) <= 100
