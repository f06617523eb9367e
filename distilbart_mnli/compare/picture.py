"""The picture of the sheet: accuracy against throughput, with what chance alone would move.

    draw(Path("tradeoffs.png"), sheet.by_device, teacher="bart-large-mnli", title=sheet.device_title)

Bars are one standard error of an accuracy p on n rows, a binomial's: sqrt(p (1 - p) / n). The axis is never narrower
than four of them, 1.8 points on 9,815 rows at 72 %, so that students 0.3 points apart look as alike as they are.
Models are measured on the same rows, so the more often two of them agree, the more certain is their difference than
the bars suggest. How often a model gives the teacher's label stands beside its name, in the legend.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from distilbart_mnli.publish.card_format import percent
from distilbart_mnli.publish.curves import BLUE, INK, ORANGE, drawn

Measured = list[tuple[dict[str, Any], dict[str, Any]]]
"""A model's row of the sheet, and its entry for one device."""
LINE, REACH = 12.0, 16.0  # points: height of a number, and how near two must be to cover each other


def standard_error(share: float, rows: int) -> float:
    """Of a share of `rows` independent rows: sqrt(p (1 - p) / n), the binomial's."""
    return math.sqrt(share * (1 - share) / rows)


def accuracy_limits(scores: Sequence[float], errors: Sequence[float]) -> tuple[float, float]:
    """The axis: all scores with their bars, a margin, and never less than four of the largest error."""
    low = min(score - error for score, error in zip(scores, errors, strict=True))
    high = max(score + error for score, error in zip(scores, errors, strict=True))
    width = max(1.2 * (high - low), 4 * max(errors)) or 1.0
    return (low + high - width) / 2, (low + high + width) / 2


def draw(path: Path, panels: dict[str, Measured], teacher: str | None, title: Callable[[str], str]) -> Path | None:
    """Accuracy against throughput, one point a model, one panel a device; None where there is nothing to draw.

    Args:
        panels: of every device; a model without an accuracy has no point.
        title: a device's.
    """
    found = {device: [pair for pair in pairs if "accuracy_matched" in pair[0]] for device, pairs in panels.items()}
    if not any(found.values()):
        return None
    height = 4.2 + 0.1 * max(map(len, found.values()))  # the legend's lines, of two models each
    with drawn(path, len(found), (6.4, height)) as all_axes:
        for axes, (device, measured) in zip(all_axes, found.items(), strict=True):
            draw_panel(axes, measured, teacher)
            axes.set_title(f"MNLI matched against speed, {title(device)}", color=INK, fontsize=11)
    return path


def draw_panel(axes: Axes, measured: Measured, teacher: str | None) -> None:
    """One device's; points are numbered, because names of points close together would cover each other."""
    speeds = [entry["pairs_per_second"] for _, entry in measured]
    scores = [100 * row["accuracy_matched"] for row, _ in measured]
    errors = [100 * standard_error(row["accuracy_matched"], row["rows_matched"]) for row, _ in measured]
    axes.margins(x=0.12)
    axes.set_ylim(accuracy_limits(scores, errors))
    for number, ((row, _), x, y, error) in enumerate(zip(measured, speeds, scores, errors, strict=True), start=1):
        text = f"{number}  {row['model']}".replace("$", r"\$")  # matplotlib's sign for a formula
        if "agreement_with_teacher" in row:
            text += f": {percent(row['agreement_with_teacher'])}"
        color = ORANGE if row["model"] == teacher else BLUE
        axes.errorbar(x, y, error, fmt="o", color=color, markersize=6.5, elinewidth=1.2, capsize=3, label=text)
    for number, offset in enumerate(label_offsets(axes, speeds, scores)):
        place = speeds[number], scores[number]
        axes.annotate(
            str(number + 1), place, (7, offset), textcoords="offset points", color=INK, fontsize=9, va="center"
        )
    axes.set_xlabel("pairs a second", color=INK)
    axes.set_ylabel("accuracy, % (bars: one standard error)", color=INK)
    title = "in percent: how often a model gives the teacher's label" if len(measured) > 1 else None
    # Below the axes, where no point can be under it.
    legend = axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=2,
        frameon=False,
        labelcolor=INK,
        fontsize=8,
        title=title,
    )
    legend.get_title().set(color=INK, fontsize=8)


def label_offsets(axes: Axes, x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Vertical offset in points of every number, so that those of points close together do not cover each other."""
    places = axes.transData.transform(list(zip(x, y, strict=True))) * 72.0 / axes.figure.dpi
    offsets = [0.0] * len(places)
    placed: list[tuple[float, float]] = []
    for i in sorted(range(len(places)), key=lambda i: (places[i][1], places[i][0])):
        place, height = map(float, places[i])
        for at, top in placed:
            if abs(at - place) < REACH and height - top < LINE:
                height = top + LINE
        offsets[i] = height - float(places[i][1])
        placed.append((place, height))
    return offsets
