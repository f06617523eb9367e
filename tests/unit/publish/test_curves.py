"""The picture of the training: legible on light and on dark pages, and there exactly where there is a log."""

import json

import numpy as np
import pytest
from PIL import Image

from distilbart_mnli.publish.curves import plot_training_curves
from tests.support.card_reading import write
from tests.support.finished_run import finished_run, write_json

LIGHT, DARK = (255, 255, 255), (11, 15, 25)


def luminance(color: np.ndarray) -> np.ndarray:
    """Relative luminance of WCAG 2.1, of sRGB values 0..255 in the last dimension."""
    share = np.asarray(color, dtype=float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", [LIGHT, DARK], ids=["light page", "dark page"])
def test_everything_drawn_stands_out_from_the_page(student, page):
    pixels = np.asarray(Image.open(plot_training_curves(student)).convert("RGBA")).reshape(-1, 4)
    drawn = pixels[pixels[:, 3] == 255][:, :3]
    assert len(drawn) > 5000  # lines, text and axes
    assert np.mean(pixels[:, 3] == 0) > 0.7  # the rest lets the page through
    light, dark = luminance(drawn), luminance(np.array(page))
    contrast = (np.maximum(light, dark) + 0.05) / (np.minimum(light, dark) + 0.05)
    assert contrast.min() >= 3.0


def test_the_picture_is_in_the_card_exactly_where_there_is_a_log(student, tmp_path):
    _, text = write(student)
    assert "](training_curves.png)" in text
    assert (student / "training_curves.png").read_bytes()[:4] == b"\x89PNG"
    state = json.loads((student / "trainer_state.json").read_text())
    other = finished_run(tmp_path / "other")
    write_json(other / "trainer_state.json", {**state, "log_history": []})
    assert plot_training_curves(other) is None
    assert "training_curves.png" not in write(other)[1]
    assert not (other / "training_curves.png").exists()


@pytest.mark.parametrize(
    "history",
    [
        [{"step": 1, "loss": 1.0}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.5, "epoch": 1.0}],
        [{"step": 1, "eval_f1": 0.5, "eval_accuracy": 0.5, "eval_runtime": 3.0}],
        [{"step": 5, "eval_matthews_correlation": -0.1}, {"epoch": 1.0, "train_loss": 0.4}],
    ],
    ids=["one point", "a loss that is not finite", "two metrics", "a correlation"],
)
def test_unusual_logs_are_drawn(tmp_path, history):
    write_json(tmp_path / "trainer_state.json", {"log_history": history})
    assert Image.open(plot_training_curves(tmp_path)).size[1] > 300


def test_the_same_log_gives_the_same_bytes(student):
    first = plot_training_curves(student).read_bytes()
    assert plot_training_curves(student).read_bytes() == first
