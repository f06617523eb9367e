"""The sheet of trade-offs: tradeoffs.md, .csv, .json and .png, and the tables on the terminal.

    sheet = Sheet(conditions, rows)
    write_sheet(Path("tradeoffs"), sheet)
    print(terminal_tables(sheet))

A row is what candidates.py and speed.py measured of one model. A figure that was not measured is left out,
never guessed. `devices` in a row is a list, one entry a device.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distilbart_mnli.compare.speed import MEMORY_ROWS
from distilbart_mnli.publish.card_format import number, percent, table
from distilbart_mnli.publish.curves import BLUE, INK, ORANGE, style_axes

NOT_MEASURED = "-"


@dataclass(frozen=True)
class Sheet:
    """Figures of several models."""

    conditions: dict[str, Any]
    """What they were measured with: teacher, data, template, threads, versions, command."""
    rows: list[dict[str, Any]]
    failed: dict[str, str] = field(default_factory=dict)
    """Models that are left out, and why."""


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def quality_table(sheet: Sheet) -> tuple[list[str], list[list[str]]]:
    """Head and body: sizes, accuracy, agreement, zero-shot. A column that no model has is left out."""
    columns = {
        "model": lambda row: row["model"],
        "layers": lambda row: f"{row['encoder_layers']}-{row['decoder_layers']}",
        "parameters": lambda row: f"{row['parameters'] / 1e6:.1f} M",
        "MB on disk": lambda row: f"{row['mb_on_disk']:.1f}",
        "MB in float32": lambda row: f"{row['mb_float32']:.1f}",
        "matched": lambda row: percent(row["accuracy_matched"]),
        "mismatched": lambda row: percent(row["accuracy_mismatched"]),
        "agrees with teacher": lambda row: percent(row["agreement_with_teacher"]),
        "zero-shot": lambda row: percent(row["zero_shot"]["accuracy"]),
        "macro-F1": lambda row: percent(row["zero_shot"]["macro_f1"]),
    }
    return _filled(columns, sheet.rows)


def speed_table(sheet: Sheet, device: str) -> tuple[list[str], list[list[str]]]:
    """Head and body for one device: latency, throughput beside the teacher's, memory."""
    found = [
        (row["model"], entry) for row in sheet.rows for entry in row.get("devices", []) if entry["device"] == device
    ]
    teacher: dict[str, Any] = next((entry for name, entry in found if name == sheet.conditions.get("teacher")), {})
    columns = {
        "model": lambda pair: pair[0],
        "ms a pair, p50": lambda pair: _with_spread(pair[1], "latency_ms_p50"),
        "p95": lambda pair: f"{pair[1]['latency_ms_p95']:.1f}",
        "pairs/s": lambda pair: _with_spread(pair[1], "pairs_per_second"),
        "batch": lambda pair: str(pair[1]["batch_size"]),
        "of the teacher's": lambda pair: f"{pair[1]['pairs_per_second'] / teacher['pairs_per_second']:.2f} x",
        f"peak MB, {MEMORY_ROWS} rows": lambda pair: f"{pair[1]['peak_mb']:.0f}",
    }
    return _filled(columns, found)


def devices_of(sheet: Sheet) -> list[str]:
    """Devices with a figure, in the order they were measured."""
    return list(dict.fromkeys(entry["device"] for row in sheet.rows for entry in row.get("devices", [])))


def _with_spread(entry: dict[str, Any], key: str) -> str:
    return f"{entry[key]:.1f} ({entry[f'{key}_lowest']:.1f} .. {entry[f'{key}_highest']:.1f})"


def _filled(columns: dict[str, Any], items: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    def value(show: Any, item: Any) -> str:
        try:
            return show(item)
        except (KeyError, TypeError):  # not measured
            return NOT_MEASURED

    cells = {name: [value(show, item) for item in items] for name, show in columns.items()}
    shown = [name for name, values in cells.items() if any(text != NOT_MEASURED for text in values)]
    return shown, [list(line) for line in zip(*(cells[name] for name in shown), strict=True)]


def terminal_tables(sheet: Sheet) -> str:
    """Both tables in columns of equal width."""
    parts = [_aligned(*quality_table(sheet))]
    for device in devices_of(sheet):
        parts += [
            f"\nspeed on {_device_title(sheet, device)}, stock transformers",
            _aligned(*speed_table(sheet, device)),
        ]
    parts += [f"left out: {name}: {why}" for name, why in sheet.failed.items()]
    return "\n".join(parts)


def _aligned(head: list[str], body: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = []
    for line in [head, *body]:
        first, *rest = (
            text.ljust(w) if not i else text.rjust(w) for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _device_title(sheet: Sheet, device: str) -> str:
    return str(sheet.conditions.get("devices", {}).get(device, device))


# ---------------------------------------------------------------------------------------------------------------------
# Files


def write_sheet(folder: Path, sheet: Sheet) -> list[Path]:
    """tradeoffs.json, .csv, .md and, where something can be drawn, .png in `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"tradeoffs.{ending}" for ending in ("json", "csv", "md")]
    content = {"conditions": sheet.conditions, "models": sheet.rows, "left_out": sheet.failed}
    paths[0].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _write_csv(paths[1], sheet)
    picture = draw(folder / "tradeoffs.png", sheet)
    paths[2].write_text(_markdown(sheet, picture is not None), encoding="utf-8")
    return paths + ([picture] if picture else [])


def _write_csv(path: Path, sheet: Sheet) -> None:
    """One line a model and device; nested keys joined with dots."""
    lines = []
    for row in sheet.rows:
        common = {key: value for key, value in row.items() if key != "devices"}
        lines += [_flat({**common, **entry}) for entry in row.get("devices") or [{}]]
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(lines)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def _markdown(sheet: Sheet, picture: bool) -> str:
    parts = ["# Trade-offs", "", table(*quality_table(sheet), right=True), ""]
    for device in devices_of(sheet):
        head, body = speed_table(sheet, device)
        parts += [f"Speed on {_device_title(sheet, device)}, stock transformers, median (lowest .. highest):", ""]
        parts += [table(head, body, right=True), ""]
    if picture:
        parts += ["![accuracy against throughput](tradeoffs.png)", ""]
    for name, value in sheet.conditions.items():
        if name != "devices" and value is not None:
            shown = number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
            parts.append(f"- {name.replace('_', ' ')}: {f'`{shown}`' if name == 'command' else shown}")
    parts += [f"- left out: {name}: {why}" for name, why in sheet.failed.items()]
    return "\n".join(parts) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# The picture


def draw(path: Path, sheet: Sheet) -> Path | None:
    """Accuracy against throughput, one labelled point a model, one panel a device; None where nothing has both.

    Colours and background are those of publish/curves.py: legible on light and on dark pages.
    """
    panels = []
    for device in devices_of(sheet):
        points = [
            (entry["pairs_per_second"], row["accuracy_matched"], row["model"])
            for row in sheet.rows
            for entry in row.get("devices", [])
            if entry["device"] == device and "accuracy_matched" in row
        ]
        if points:
            panels.append((device, points))
    if not panels:
        return None
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=(6.4 * len(panels), 4.2), dpi=160, layout="constrained")
        figure.patch.set_alpha(0.0)
        canvas = FigureCanvasAgg(figure)
        for position, (device, points) in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), position)
            _draw_panel(axes, points, sheet.conditions.get("teacher"), _device_title(sheet, device))
        canvas.print_png(path, metadata={"Software": None})
    return path


def _draw_panel(axes: Axes, points: list[tuple[float, float, str]], teacher: str | None, title: str) -> None:
    speeds, scores = [p[0] for p in points], [100 * p[1] for p in points]
    axes.scatter(speeds, scores, s=46, color=[ORANGE if name == teacher else BLUE for *_, name in points], zorder=3)
    # Room to the right of the fastest point for its name, and above the highest.
    span, height = max(speeds) - min(speeds) or max(speeds), max(scores) - min(scores) or 1.0
    axes.set_xlim(min(speeds) - 0.08 * span, max(speeds) + 0.35 * span)
    axes.set_ylim(min(scores) - 0.15 * height, max(scores) + 0.15 * height)
    for (x, y), offset, (_, _, name) in zip(
        zip(speeds, scores, strict=True), label_offsets(axes, speeds, scores), points, strict=True
    ):
        axes.annotate(name, (x, y), xytext=(8, offset), textcoords="offset points", color=INK, fontsize=9, va="center")
    axes.set_title(f"MNLI matched against speed, {title}", color=INK, fontsize=11)
    axes.set_xlabel("pairs a second", color=INK)
    axes.set_ylabel("accuracy, %", color=INK)
    style_axes(axes)


def label_offsets(axes: Axes, x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Vertical offset in points of every label, so that labels of points close together do not cover each other."""
    line, reach = 12.0, 110.0  # points: height of a line, and how far to the right a name may run
    places = axes.transData.transform(list(zip(x, y, strict=True))) * 72.0 / axes.figure.dpi
    order = sorted(range(len(places)), key=lambda i: (places[i][1], places[i][0]))
    offsets = [0.0] * len(places)
    placed: list[tuple[float, float]] = []
    for i in order:
        height = float(places[i][1])
        for at, top in placed:
            if abs(at - places[i][0]) < reach and height - top < line:
                height = top + line
        offsets[i] = height - float(places[i][1])
        placed.append((float(places[i][0]), height))
    return offsets
