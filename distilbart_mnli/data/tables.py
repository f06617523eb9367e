"""Columns of text out of the files people keep data sets in: TSV as GLUE has it, CSV, JSON lines.

    columns = read_columns(Path("train.tsv"), {"sentence1": ("sentence1",), "label": ("gold_label", "label")})
    columns.values["sentence1"]     # one text a row

A TSV line ends at a line feed and nowhere else (a carriage return, U+2028 or U+0085 inside a text is text), its fields
end at tabs, and a quote is a character like any other. CSV has quotes as RFC 4180 writes them. JSON lines holds one
object a line. In all of them a byte-order mark, CRLF, a missing last line feed and blank lines are no fault.

A row with fewer fields than the header, or with text beyond it, is refused, or dropped and counted with
`skip_bad_rows`: a tab or a line feed stood inside a text, and nothing says which field moved. MNLI's `label1`, left of
`gold_label`, would pass for the label.

Not pandas: its C reader fills a short row with empty texts, its readers say no line number for a short row, a byte
that is not UTF-8 or a quote that is not closed, and its JSON turns 1 into 1.0 where another row has no number.
"""

import csv
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)


@dataclass
class Columns:
    """What was read: for each role its texts, and where each row stood."""

    values: dict[str, list[str]]
    """role -> one text a row; an optional role whose column is absent has no entry."""
    names: dict[str, str]
    """role -> the column's name in the file."""
    lines: list[int]
    """Line number of each row, from 1."""
    index: list[int]
    """Position of each row among the file's rows, from 0, dropped ones counted."""


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
    rows = _rows(path)
    if header is None:
        header = column_names(path)
        next(rows)
    names = find_columns(str(path), wanted, header, optional)
    places = {role: header.index(name) for role, name in names.items()}
    columns = Columns({role: [] for role in places}, names, [], [])
    bad: list[int] = []
    for index, (line, fields) in enumerate(rows):
        if len(columns.lines) == limit:
            break
        if len(fields) < len(header) or any(fields[len(header) :]):
            fault = f"{len(fields)} fields, expected {len(header)}"
        else:
            fault = next((f"no text in {names[role]}" for role, place in places.items() if fields[place] is None), "")
        if fault and not skip_bad_rows:
            raise InputError(f"{path}, line {line}: {fault}; correct the row, or give --skip_bad_rows true")
        if fault:
            bad.append(line)
            continue
        for role, place in places.items():
            columns.values[role].append(fields[place])
        columns.lines.append(line)
        columns.index.append(index)
    if bad:
        shown = ", ".join(f"line {line}" for line in bad[:3]) + ", ..." * (len(bad) > 3)
        logger.warning("%s: dropped %d bad rows (%s)", path, len(bad), shown)
    if not columns.lines:
        raise InputError(f"{path}: no rows" + (f" left, {len(bad)} bad ones dropped" if bad else " after the header"))
    return columns


def column_names(path: Path) -> list[str]:
    """The header of a file, or the keys of its first JSON object.

    Raises:
        InputError: the file is empty or cannot be read.
    """
    for _, fields in _rows(path):
        return [name.strip() for name in fields]
    raise InputError(f"{path}: empty; expected a header line and rows")


def find_columns(
    where: str, wanted: Mapping[str, Sequence[str]], header: Sequence[str], optional: Collection[str] = ()
) -> dict[str, str]:
    """role -> the name of its column, the first of `wanted`'s that the header has; arguments as for read_columns.

    Raises:
        InputError: there is none, or it stands twice; names `where` and what was found.
    """
    names = {role: next((name for name in choices if name in header), None) for role, choices in wanted.items()}
    for role, name in names.items():
        if name is None and role not in optional:
            found = ", ".join(header[:30]) + ", ..." * (len(header) > 30)
            raise InputError(f"{where}: no column {' or '.join(wanted[role])} (for {role}); found {found}")
        if name is not None and header.count(name) > 1:
            raise InputError(f"{where}: the column {name} stands twice in the header; keep one of them")
    return {role: name for role, name in names.items() if name is not None}


def exists(path: Path) -> bool:
    """Whether there is such a path, or no permission to look: then whoever opens it says so."""
    try:
        return path.exists()
    except OSError:
        return True


# ---------------------------------------------------------------------------------------------------------------------
# Rows: line number, from 1, and fields. The header or the JSON keys come first; None is a JSON value that is no text


def _rows(path: Path) -> Iterator[tuple[int, list]]:
    kind = path.suffix.lower()
    if kind in (".tsv", ".txt"):
        return ((number, line.split("\t")) for number, line in _filled_lines(path))
    if kind == ".csv":
        return _csv_rows(path)
    if kind in (".jsonl", ".ndjson", ".json"):
        return _json_rows(path)
    raise InputError(f"{path}: unknown kind of file; expected .tsv, .txt, .csv, .jsonl, .ndjson or .json")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file with their line feeds; a binary file's lines end there only, as GLUE's do."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    byte = f"byte {error.start + 1} of the line (0x{error.object[error.start]:02x})"
                    raise InputError(f"{path}, line {number}: {byte} is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_lines(path), start=1):
        if text := line.removesuffix("\n").removesuffix("\r"):
            yield number, text


def _csv_rows(path: Path) -> Iterator[tuple[int, list]]:
    # strict: a quote that is never closed would otherwise swallow the rest of the file into one text.
    reader = csv.reader(_lines(path), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {line}: not CSV: {error}") from None


def _json_rows(path: Path) -> Iterator[tuple[int, list]]:
    keys: list[str] = []
    for number, line in _filled_lines(path):
        # ValueError is also a number of too many digits, RecursionError too deep a nesting.
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"found {type(record).__name__}")
            texts = [_json_text(record.get(key)) for key in keys or record]
            "".join(filter(None, texts)).encode()  # half of a surrogate pair is not text
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: not a JSON object: {error}; expected one a line") from None
        if not keys:
            keys = list(record)
            yield number, keys
        yield number, texts


def _json_text(value: object) -> str | None:
    """Text of a JSON value; None where it has none (null, absent, a list, an object)."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None
