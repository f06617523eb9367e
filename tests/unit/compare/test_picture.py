"""The picture of the sheet: its bars are a binomial's standard errors, its axis is never narrower than four of them,
and every model is in it once, under its own name."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from distilbart_mnli.compare.picture import accuracy_limits, draw, draw_panel, label_offsets


def measured(name: str, accuracy: float, speed: float, rows: int = 400, **more) -> tuple[dict, dict]:
    return {"model": name, "accuracy_matched": accuracy, "rows_matched": rows, **more}, {"pairs_per_second": speed}


def panel(*models: tuple[dict, dict]):
    axes = Figure(figsize=(6.4, 4.2), dpi=160).add_subplot()
    draw_panel(axes, list(models), "teacher")
    return axes


def test_bars_are_one_standard_error_on_either_side():
    axes = panel(measured("teacher", 0.8, 50.0), measured("student", 0.5, 100.0, rows=100, agreement_with_teacher=0.9))
    ends = [container.lines[2][0].get_segments()[0] for container in axes.containers]
    # sqrt(0.8 x 0.2 / 400) is 0.02, sqrt(0.5 x 0.5 / 100) is 0.05; in percent.
    assert np.allclose(ends[0], [(50, 78), (50, 82)]) and np.allclose(ends[1], [(100, 45), (100, 55)])


@pytest.mark.parametrize("accuracies", [(0.7179,), (0.7179, 0.7173, 0.7166, 0.7152), (0.7179, 0.5), (1.0, 1.0)])
def test_the_axis_holds_every_bar_and_at_least_four_standard_errors(accuracies):
    axes = panel(*(measured(f"model {speed}", share, 10.0 + speed, 9815) for speed, share in enumerate(accuracies)))
    low, high = axes.get_ylim()
    error = 100 * max(np.sqrt(share * (1 - share) / 9815) for share in accuracies)
    assert high - low >= max(4 * error, 0.1) * (1 - 1e-9)
    for container in axes.containers:
        (_, bottom), (_, top) = container.lines[2][0].get_segments()[0]
        assert low <= bottom <= top <= high
    if accuracies == (0.7179,):  # by hand: 71.79 -+ two of 0.4542
        assert (low, high) == pytest.approx((70.8815, 72.6985), abs=1e-3)


def test_scores_far_apart_have_a_margin():
    assert accuracy_limits([50.0, 70.0], [0.5, 0.5]) == pytest.approx((47.4, 72.6))


def test_the_legend_names_every_model_and_how_often_it_gives_the_teachers_label(tmp_path):
    models = [
        measured("teacher", 0.8, 50.0),
        measured("a_$b$_{c", 0.7, 60.0, agreement_with_teacher=0.8125),  # no formula, whatever is in a name
        ({"model": "topics alone"}, {"pairs_per_second": 70.0}),
    ]
    path = draw(tmp_path / "picture.png", {"cpu": models}, "teacher", str)
    assert path is not None and path.read_bytes().startswith(b"\x89PNG")
    legend = panel(*models[:2]).get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["1  teacher", r"2  a_\$b\$_{c: 81.25 %"]
    assert draw(tmp_path / "none.png", {"cpu": models[2:]}, "teacher", str) is None


def test_numbers_of_points_close_together_do_not_cover_each_other():
    axes = Figure(figsize=(6.4, 4.2), dpi=160).add_subplot()
    x, y = [100.0, 101.0, 102.0, 300.0], [71.5, 71.6, 71.5, 71.5]
    axes.set_xlim(80, 400)
    axes.set_ylim(70, 73)
    heights = axes.transData.transform(list(zip(x, y, strict=True)))[:, 1] * 72 / 160 + label_offsets(axes, x, y)
    assert np.diff(np.sort(heights[:3])).min() >= 11.99
    assert label_offsets(axes, x, y)[3] == 0  # far to the right: it stays where it is
