"""Columns of text out of the files people keep data sets in: TSV as GLUE has it, CSV, JSON lines.

    columns = read_columns(Path("train.tsv"), {"sentence1": ("sentence1",), "label": ("gold_label", "label")})
    columns.values["sentence1"]     # one text a row

The reader follows GLUE's files, not the csv module: a TSV line ends at a line feed and nowhere else (a carriage
return, U+2028 or U+0085 inside a text is text), its fields end at tabs, and a quote is a character like any other. CSV
has quotes as RFC 4180 writes them. JSON lines holds one object a line. In all of them a byte-order mark, CRLF, a
missing last line feed and blank lines are no fault.

A row must have as many fields as the header. One too few or one too many means that a tab or a line feed stood inside
a text, and nothing says which field moved: MNLI's `label1`, left of `gold_label`, would then pass for the label, with
the wrong second sentence. Such a row is refused, or with `skip_bad_rows` dropped and counted. Only empty fields beyond
the header's (trailing tabs) are let pass.
"""

import csv
import io
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)

_BOM = b"\xef\xbb\xbf"
Row = tuple[int, Sequence[str | None]]


@dataclass
class Columns:
    """What was read: for each role its texts, and where each row stood."""

    values: dict[str, list[str]]
    """role -> one text a row; an optional role whose column is absent has no entry."""
    names: dict[str, str]
    """role -> the column's name in the file."""
    lines: list[int]
    """Line number of each row, from 1."""
    index: np.ndarray
    """int64 [rows]: position of each row among the file's rows, from 0, dropped ones counted."""


def read_columns(
    path: Path,
    wanted: Mapping[str, Sequence[str]],
    *,
    optional: Collection[str] = (),
    header: Sequence[str] | None = None,
    limit: int | None = None,
    skip_bad_rows: bool = False,
) -> Columns:
    """Read some columns of a file.

    Args:
        path: ends in .tsv or .txt (tabs, no quoting), .csv, .jsonl, .ndjson or .json (one object a line).
        wanted: role -> the names its column may have, the first found wins.
        optional: roles whose column may be absent.
        header: the columns' names, for a file whose first line is data already.
        limit: read the first so many rows only.
        skip_bad_rows: drop rows with too few or too many fields, and log how many.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has no row, lacks a column or has it twice, or a row has too
            few or too many fields; with file, line and what was expected.
    """
    rows = _reader(path)(path)
    if header is None:
        first = next(rows, None)
        if first is None:
            raise InputError(f"{path}: empty; expected a header line and rows")
        header = [(name or "").strip() for name in first[1]]
    names = _find_columns(path, wanted, optional, header)
    picks: list[tuple[list[str], int]] = []
    values: dict[str, list[str]] = {}
    for role, name in names.items():
        values[role] = []
        picks.append((values[role], header.index(name)))
    lines: list[int] = []
    index: list[int] = []
    bad: list[str] = []
    width = len(header)
    for position, (line, fields) in enumerate(rows):
        if limit is not None and len(lines) >= limit:
            break
        fault = None
        if len(fields) < width:
            fault = f"{len(fields)} fields, expected {width}"
        elif len(fields) > width and any(fields[width:]):
            fault = f"{len(fields)} fields, expected {width}: a tab or comma too many inside a text?"
        else:
            for name in names.values():
                if fields[header.index(name)] is None:
                    fault = f"no text in {name}"
        if fault is not None:
            if not skip_bad_rows:
                raise InputError(f"{path}, line {line}: {fault}; correct the row, or give --skip_bad_rows true")
            bad.append(f"line {line}")
            continue
        for column, place in picks:
            column.append(fields[place])
        lines.append(line)
        index.append(position)
    if bad:
        logger.warning(
            "%s: dropped %d bad rows (%s%s)", path, len(bad), ", ".join(bad[:3]), ", ..." if bad[3:] else ""
        )
    if not lines:
        raise InputError(f"{path}: no rows" + (f" left, {len(bad)} bad ones dropped" if bad else " after the header"))
    return Columns(values, names, lines, np.array(index, dtype=np.int64))


def column_names(path: Path) -> list[str]:
    """The header of a file, or the keys of its first JSON object.

    Raises:
        InputError: the file is empty or cannot be read.
    """
    first = next(_reader(path)(path), None)
    if first is None:
        raise InputError(f"{path}: empty; expected a header line and rows")
    return [(name or "").strip() for name in first[1]]


def exists(path: Path) -> bool:
    """Whether there is such a path, or no permission to look: then whoever opens it says so."""
    try:
        return path.exists()
    except OSError:
        return True


def _find_columns(path, wanted, optional, header) -> dict[str, str]:
    names: dict[str, str] = {}
    for role, choices in wanted.items():
        name = next((choice for choice in choices if choice in header), None)
        if name is None:
            if role in optional:
                continue
            found = ", ".join(name or "(no name)" for name in header[:30])
            raise InputError(
                f"{path}: no column {' or '.join(choices)} (for {role}); found {found}{', ...' if header[30:] else ''}"
            )
        if list(header).count(name) > 1:
            raise InputError(f"{path}: the column {name} stands twice in the header; keep one of them")
        names[role] = name
    return names


# ---------------------------------------------------------------------------------------------------------------------
# One iterator of (line number, fields) a format; the header or the JSON keys come first


def _reader(path: Path):
    readers = {".tsv": _tsv_rows, ".txt": _tsv_rows, ".csv": _csv_rows}
    readers.update(dict.fromkeys((".jsonl", ".ndjson", ".json"), _json_rows))
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of file; expected {', '.join(readers)}")
    return reader


def _decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank. A binary file's lines end at line feeds only, as GLUE's do."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                mark = len(_BOM) if number == 1 and raw.startswith(_BOM) else 0
                raw = raw[mark:].removesuffix(b"\n").removesuffix(b"\r")
                if not raw:
                    continue
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, number, mark + error.start, raw[error.start]) from None
                yield number, text
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _not_utf8(path: Path, line: int, place: int, byte: int) -> InputError:
    return InputError(
        f"{path}, line {line}: byte {place + 1} of the line (0x{byte:02x}) is not UTF-8; save it as UTF-8"
    )


def _tsv_rows(path: Path) -> Iterator[Row]:
    for number, text in _decoded_lines(path):
        yield number, text.split("\t")


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        start = data.rfind(b"\n", 0, error.start) + 1
        line = data.count(b"\n", 0, error.start) + 1
        raise _not_utf8(path, line, error.start - start, data[error.start]) from None
    # strict: a quote that is never closed would otherwise swallow the rest of the file into one text.
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {line}: not CSV: {error}") from None


def _json_rows(path: Path) -> Iterator[Row]:
    keys: list[str] | None = None
    for number, line in _decoded_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of too many digits, and nesting too deep
            raise InputError(f"{path}, line {number}: not JSON: {error}; expected one object a line") from None
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: expected one JSON object a line, found {type(record).__name__}")
        if keys is None:
            keys = list(record)
            yield number, keys
        yield number, [_json_text(path, number, record.get(key)) for key in keys]


def _json_text(path: Path, line: int, value: object) -> str | None:
    """Text of a JSON value; None where it has none (null, absent, a list, an object)."""
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(
                    f"{path}, line {line}: half of a surrogate pair is not text: {value[:40]!r}"
                ) from None
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else None
