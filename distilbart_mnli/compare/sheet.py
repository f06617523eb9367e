"""The sheet of trade-offs: tradeoffs.md, .csv, .json and .png, and the tables on the terminal.

    sheet = Sheet(conditions, rows)
    write_sheet(Path("tradeoffs"), sheet)
    print(terminal_tables(sheet))

A row is what evaluate.py and speed.py measured of one model. A figure that was not measured is left out,
never guessed. `devices` in a row is a list, one entry a device.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distilbart_mnli.compare.picture import draw, standard_error
from distilbart_mnli.compare.speed import MEMORY_ROWS
from distilbart_mnli.files import atomic_file
from distilbart_mnli.publish.card_format import percent

NOT_MEASURED = "-"
Row = dict[str, Any]
Table = tuple[list[str], list[list[str]]]  # head and body


@dataclass(frozen=True)
class Sheet:
    """Figures of several models."""

    conditions: dict[str, Any]
    """What they were measured with: teacher, data, template, threads, versions, command."""
    rows: list[Row]
    left_out: dict[str, str] = field(default_factory=dict)
    """Models that could not be used, and why."""

    @property
    def by_device(self) -> dict[str, list[tuple[Row, Row]]]:
        """The rows that were measured on each device, with their entry for it; devices in the order of measuring."""
        found: dict[str, list[tuple[Row, Row]]] = {}
        for row in self.rows:
            for entry in row.get("devices", []):
                found.setdefault(entry["device"], []).append((row, entry))
        return found

    def device_title(self, device: str) -> str:
        """ "CPU, 2 threads, float32"."""
        return str(self.conditions.get("devices", {}).get(device, device))


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def quality_table(sheet: Sheet) -> Table:
    """Sizes, accuracy, agreement, zero-shot. A column that no model has is left out."""
    columns = {
        "model": lambda row: row["model"],
        "made by": lambda row: row["made_by"],
        "layers": lambda row: f"{row['encoder_layers']}-{row['decoder_layers']}",
        "parameters": lambda row: f"{row['parameters'] / 1e6:.1f} M",
        "MB on disk": lambda row: f"{row['mb_on_disk']:.1f}",
        "MB in float32": lambda row: f"{row['mb_float32']:.1f}",
        "matched": lambda row: percent(row["accuracy_matched"]),
        "mismatched": lambda row: percent(row["accuracy_mismatched"]),
        "agrees with teacher": lambda row: percent(row["agreement_with_teacher"]),
        "ECE": lambda row: percent(row["calibration_error"]),
        "best T": lambda row: f"{row['temperature']:.2f}",
        "zero-shot": lambda row: percent(row["zero_shot"]["accuracy"]),
        "macro-F1": lambda row: percent(row["zero_shot"]["macro_f1"]),
    }
    return _filled(columns, sheet.rows)


def speed_table(sheet: Sheet, device: str) -> Table:
    """For one device: latency, throughput beside the teacher's, memory."""
    entries = [{"model": row["model"], **entry} for row, entry in sheet.by_device.get(device, [])]
    teacher = next((entry for entry in entries if entry["model"] == sheet.conditions.get("teacher")), {})
    columns = {
        "model": lambda entry: entry["model"],
        "ms a pair, p50": lambda entry: _with_spread(entry, "latency_ms_p50"),
        "p95": lambda entry: f"{entry['latency_ms_p95']:.1f}",
        "pairs/s": lambda entry: _with_spread(entry, "pairs_per_second"),
        "batch": lambda entry: str(entry["batch_size"]),
        "of the teacher's": lambda entry: f"{entry['pairs_per_second'] / teacher['pairs_per_second']:.2f} x",
        f"peak MB, {MEMORY_ROWS} rows": lambda entry: f"{entry['peak_mb']:.0f}",
    }
    return _filled(columns, entries)


def backend_table(sheet: Sheet) -> Table:
    """A line a model and back end: accuracy on the matched rows, agreement with torch's float32, speed, size."""
    entries = [{"model": row["model"], **entry} for row in sheet.rows for entry in row.get("backends", ())]
    columns = {
        "model": lambda entry: entry["model"],
        "back end": lambda entry: entry["backend"],
        "matched": lambda entry: percent(entry["accuracy"]),
        "same label": lambda entry: percent(entry["agreement"]),
        "ms a pair": lambda entry: f"{entry['latency_ms']:.1f}",
        "pairs/s": lambda entry: f"{entry['pairs_per_second']:.1f}",
        "MB": lambda entry: f"{entry['mb']:.1f}",
    }
    return _filled(columns, entries)


def _with_spread(entry: dict[str, Any], key: str) -> str:
    return f"{entry[key]:.1f} ({entry[f'{key}_lowest']:.1f} .. {entry[f'{key}_highest']:.1f})"


def _filled(columns: dict[str, Callable[[Row], str]], rows: list[Row]) -> Table:
    def value(show: Callable[[Row], str], row: Row) -> str:
        try:
            return show(row)
        except KeyError:
            return NOT_MEASURED

    cells = {name: [value(show, row) for row in rows] for name, show in columns.items()}
    shown = [name for name, values in cells.items() if any(text != NOT_MEASURED for text in values)]
    return shown, [list(line) for line in zip(*(cells[name] for name in shown), strict=True)]


def terminal_tables(sheet: Sheet) -> str:
    """Both tables in columns of equal width."""
    parts = [_aligned(*quality_table(sheet))]
    for device in sheet.by_device:
        parts.append(f"\nspeed on {sheet.device_title(device)}, stock transformers")
        parts.append(_aligned(*speed_table(sheet, device)))
    if backend_table(sheet)[1]:
        parts += ["\nback ends of classify.py, on the CPU", _aligned(*backend_table(sheet))]
    parts += [f"left out: {name}: {why}" for name, why in sheet.left_out.items()]
    return "\n".join(parts)


def _aligned(head: list[str], body: list[list[str]]) -> str:
    first, *rest = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [[line[0].ljust(first), *map(str.rjust, line[1:], rest)] for line in [head, *body]]
    return "\n".join("  ".join(line).rstrip() for line in lines)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def write_sheet(folder: Path, sheet: Sheet) -> list[Path]:
    """tradeoffs.json, .csv, .md and, where something can be drawn, .png in `folder`; returns their paths.

    Raises:
        RunError: the disk is full.
    """
    paths = [folder / f"tradeoffs.{ending}" for ending in ("json", "csv", "md")]
    content = {"conditions": sheet.conditions, "models": sheet.rows, "left_out": sheet.left_out}
    with atomic_file(paths[0]) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _write_csv(paths[1], sheet)
    picture = draw(folder / "tradeoffs.png", sheet.by_device, sheet.conditions.get("teacher"), sheet.device_title)
    with atomic_file(paths[2]) as temporary:
        temporary.write_text(_markdown(sheet, picture is not None), encoding="utf-8")
    return paths + ([picture] if picture else [])


def _write_csv(path: Path, sheet: Sheet) -> None:
    """One line a model and device; nested keys joined with dots."""
    lines = []
    for row in sheet.rows:
        common = {key: value for key, value in row.items() if key != "devices"}
        lines += [_flat({**common, **entry}) for entry in row.get("devices") or [{}]]
    names = list(dict.fromkeys(name for line in lines for name in line))
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(lines)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def _markdown(sheet: Sheet, picture: bool) -> str:
    parts = ["# Trade-offs", "", _markdown_table(*quality_table(sheet)), ""]
    for device in sheet.by_device:
        parts += [f"Speed on {sheet.device_title(device)}, stock transformers, median (lowest .. highest):", ""]
        parts += [_markdown_table(*speed_table(sheet, device)), ""]
    if backend_table(sheet)[1]:
        parts += ["Back ends of classify.py, on the CPU, token ids to logits, medians:", ""]
        parts += [_markdown_table(*backend_table(sheet)), ""]
    if picture:
        parts += ["![accuracy against throughput](tradeoffs.png)", "", _about_bars(sheet), ""]
    for name, value in sheet.conditions.items():
        if name != "devices" and value is not None:
            shown = f"{value:,}" if isinstance(value, int) else f"`{value}`" if name == "command" else value
            parts.append(f"- {name.replace('_', ' ')}: {shown}")
    parts += [f"- left out: {name}: {why}" for name, why in sheet.left_out.items()]
    return "\n".join(parts) + "\n"


def _about_bars(sheet: Sheet) -> str:
    rows = [row for row in sheet.rows if "accuracy_matched" in row]
    largest = max(100 * standard_error(row["accuracy_matched"], row["rows_matched"]) for row in rows)
    return (
        f"Bars: one standard error of an accuracy on that many rows, at most {largest:.2f} points here. All models "
        "are measured on the same rows: the more often two agree, the more certain is their difference than the bars "
        "suggest."
    )


def _markdown_table(head: list[str], body: list[list[str]]) -> str:
    """Every column but the first is aligned to the right."""
    ruler = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ruler, *body])
