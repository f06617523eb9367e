"""Loss and accuracy over the optimizer steps of a training, as a picture for the model card.

    plot_training_curves(Path("distilbart-mnli-12-1"))      # reads trainer_state.json, writes training_curves.png

The background is transparent, and every opaque colour has a contrast of at least 3:1 (WCAG 2.1, graphical objects)
against white and against the dark pages of the Hub, so one file serves both. Drawn on a Figure of its own: no display,
no pyplot state, the same bytes for the same log.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from distilbart_mnli.files import atomic_file
from distilbart_mnli.publish.card_facts import METRIC_NAMES
from distilbart_mnli.publish.run_files import is_number, read_json

FILE_NAME = "training_curves.png"

# Contrast against #ffffff / #0b0f19: ink 4.3 / 4.5, blue 3.7 / 5.2, orange 3.6 / 5.3, green 3.2 / 6.1.
INK, BLUE, ORANGE, GREEN = "#7a7a7a", "#3b82f6", "#e8590c", "#0f9f6e"

Series = dict[str, list[tuple[int, float]]]
"""Key of a curve, "loss", "eval_loss_mm" or "eval_accuracy" -> its points (optimizer step, value)."""


def read_curves(log_history: list[dict[str, Any]]) -> dict[str, Series]:
    """The curves of a Trainer's log under the title of their panel, without values that are not finite."""
    panels: dict[str, Series] = {"Loss": {}, "Score": {}}
    for entry in log_history:
        for key, value in entry.items():
            name = _name(key)
            if is_number(value) and is_number(entry.get("step")) and (name == "loss" or name in METRIC_NAMES):
                panels["Loss" if name == "loss" else "Score"].setdefault(key, []).append((entry["step"], value))
    return {title: curves for title, curves in panels.items() if curves}


def plot_training_curves(output_dir: Path) -> Path | None:
    """Draw output_dir/training_curves.png from output_dir/trainer_state.json.

    Returns:
        The picture's path, or None where there is no log to draw; then nothing is written.

    Raises:
        InputError: trainer_state.json is not JSON.
    """
    panels = read_curves(read_json(output_dir / "trainer_state.json")["log_history"] or [])
    if not panels:
        return None
    path = output_dir / FILE_NAME
    with drawn(path, len(panels), (4.8, 3.4)) as all_axes:
        for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
            _draw(axes, title, curves)
    return path


@contextlib.contextmanager
def drawn(path: Path, panels: int, inches: tuple[float, float]) -> Iterator[list[Axes]]:
    """A row of axes to draw in, each `inches` wide and high; at the end they are styled and written to `path`.

    Ticks, grid and the left and bottom spines are in INK, on no background.
    """
    # The defaults, not the user's matplotlibrc: the picture looks the same wherever it is made.
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=(inches[0] * panels, inches[1]), dpi=160, layout="constrained")
        figure.patch.set_alpha(0.0)
        all_axes = list(figure.subplots(1, panels, squeeze=False)[0])
        yield all_axes
        for axes in all_axes:
            axes.tick_params(colors=INK, labelsize=9)
            axes.patch.set_alpha(0.0)
            axes.grid(color=INK, alpha=0.25, linewidth=0.6)
            for side, spine in axes.spines.items():
                spine.set_color(INK)
                spine.set_visible(side in ("left", "bottom"))
        with atomic_file(path) as temporary:
            # Without the Software entry the bytes do not depend on matplotlib's version string.
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw(axes: Axes, title: str, curves: Series) -> None:
    names = list(dict.fromkeys(_name(key) for key in curves))
    both_sets = any(key.endswith("_mm") for key in curves)
    if title == "Score" and len(names) == 1:
        title = names[0].replace("_", " ").capitalize()
    for key, points in curves.items():
        # The set has the color, in both panels the same; a second and third metric have lines of their own.
        color = BLUE if key == "loss" else GREEN if key.endswith("_mm") else ORANGE
        line = ("-", "--", ":")[names.index(_name(key)) % 3]
        where = "training" if key == "loss" else "mismatched" if key.endswith("_mm") else "matched"
        if where == "matched" and not both_sets:
            where = "evaluation"
        label = where if len(names) == 1 else f"{_name(key).replace('_', ' ')}, {where}"
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) <= 60 else None
        axes.plot(
            steps, values, color=color, linestyle=line, linewidth=1.8, marker=marker, markersize=3.5, label=label
        )
    axes.set_title(title, color=INK, fontsize=11)
    axes.set_xlabel("optimizer step", color=INK)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    if all(name in METRIC_NAMES and METRIC_NAMES[name][2] for name in names):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))
    # Below the axes, where no curve can run through it.
    columns = 3 if len(names) == 1 else 2
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False, labelcolor=INK, fontsize=9
    )


def _name(key: str) -> str:
    """ "eval_accuracy_mm" -> "accuracy"."""
    return key.removeprefix("eval_").removesuffix("_mm")
