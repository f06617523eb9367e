"""Rows out of the files people keep data sets in: CSV and TSV as pandas writes them, TSV as GLUE has it, JSON.

    table = open_table(Path("train.csv"))
    for row in table.rows: ...                  # Row(number=2, fields=["a text", "a label"], ...)

CSV and TSV are read as pandas writes and reads them: a field that holds the separator, a quote or a line feed stands
in quotes, and a quote inside is doubled. GLUE's own TSV (`glue`) is older: its fields end at tabs, its lines at line
feeds and nowhere else (a carriage return, U+2028 or U+0085 inside a text is text), and a quote is a character like any
other. JSON lines holds one object a line; a JSON file that begins with [ is one array of such objects. In all of them
a byte-order mark, CRLF, a missing last line feed and blank lines are no fault.

Not pandas: its C reader fills a short row with empty texts, its readers say no line number for a short row, a byte
that is not UTF-8 or a quote that is not closed, and its JSON turns 1 into 1.0 where another row has no number.
"""

import csv
import itertools
import json
import math
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from distilbart_mnli.errors import InputError

# The csv module stops at fields of 131,072 characters, in the whole process; a text of that length is a text.
csv.field_size_limit(sys.maxsize)
# Stands for a carriage return inside a line while the csv module, which would end the row there, reads it: half a
# character, so it is in no file.
CARRIAGE_RETURN = "\udc0d"
QUOTES = "write a quote inside a text twice, and the text in quotes, as pandas does"
# NaN and Infinity, which JSON does not have, are how Python writes "nothing".
JSON = json.JSONDecoder(parse_constant=lambda _: None)
OBJECTS = "expected one object a line, or one array of objects"


class Row(NamedTuple):
    """One row, good or bad."""

    number: int
    """Of its first line in the file, or of the record in a JSON array; from 1."""
    fields: list
    """Texts; in JSON any value, None where a key is absent."""
    fault: str = ""
    """Why it could not be read; its fields are empty then."""
    lines: int = 1
    """How many lines it takes: a bad one may have swallowed rows."""


class Table(NamedTuple):
    """An open file."""

    header: list[str]
    rows: Iterator[Row]
    unit: str = "line"
    """What Row.number counts: "line" or "record"."""
    empty_is_text: bool = False
    """Whether an empty field is a text; else it is how the format says "nothing"."""
    is_typed: bool = False
    """Whether fields are JSON's values; else all are text."""


def open_table(path: Path, glue: bool = False, header: Sequence[str] | None = None, kind: str | None = None) -> Table:
    """The header (of JSON: the keys of all objects) and the rows after it.

    Args:
        path: ends in .tsv or .txt, .csv, .jsonl, .ndjson or .json.
        glue: TSV as GLUE has it.
        header: the columns' names, for a file whose first line is data already.
        kind: one of these endings where the file's own is another, or "" for plain lines, a text each (column "text").

    Raises:
        InputError: the file cannot be read, is empty or is not UTF-8. So do the rows.
    """
    kind = path.suffix.lower() if kind is None else kind
    if kind == "":
        return Table(
            ["text"], (Row(number, [line.rstrip("\r\n")]) for number, line in enumerate(_lines(path), start=1))
        )
    if kind in (".jsonl", ".ndjson", ".json"):
        return _json_table(path)
    if kind not in (".tsv", ".txt", ".csv"):
        raise InputError(f"{path}: unknown kind of file; expected .tsv, .txt, .csv, .jsonl, .ndjson or .json")
    rows: Iterator[Row]
    if glue:
        rows = (Row(number, line.split("\t")) for number, line in _filled_lines(path))
    else:
        rows = _csv_rows(path, "," if kind == ".csv" else "\t")
    if header is None:
        first = next(rows, None)
        if first is None:
            raise InputError(f"{path}: empty; expected a header line and rows")
        if first.fault:
            raise InputError(f"{path}, line {first.number}: {first.fault}")
        header = [name.strip() for name in first.fields]
        if any("\r" in name for name in header):
            raise InputError(f"{path}: its lines end at carriage returns alone; save it with line feeds")
        if not glue and len(header) > 1:  # a line of spaces is blank, as for pandas
            rows = (row for row in rows if len(row.fields) != 1 or not row.fields[0].isspace())
    return Table(list(header), rows, empty_is_text=glue)


# ---------------------------------------------------------------------------------------------------------------------
# Lines


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


# ---------------------------------------------------------------------------------------------------------------------
# CSV


def _csv_rows(path: Path, separator: str) -> Iterator[Row]:
    """Rows with CSV's rules of quoting. What breaks them is a bad row, and the next line begins a new one."""
    before: int | None = 0  # lines before the reader's first
    while before is not None:
        lines = _marked(itertools.islice(_lines(path), before, None))
        reader = csv.reader(lines, delimiter=separator, strict=True)
        before = yield from _csv_part(reader, before)


def _csv_part(reader, before: int) -> Generator[Row, None, int | None]:
    """Rows up to the end: None; or up to a quote that is never closed: its line, after which it goes on."""
    while True:
        number = before + reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return None
        except csv.Error as error:
            if "unexpected end" in str(error):  # nothing after it is in quotes, so only its own line is lost
                yield Row(number, [], f"not CSV: a quote is opened and never closed; {QUOTES}")
                return number
            fault = f"text after a closing quote; {QUOTES}" if "expected after" in str(error) else str(error)
            yield Row(number, [], f"not CSV: {fault}", before + reader.line_num + 1 - number)
            continue
        if fields:
            yield Row(number, [text.replace(CARRIAGE_RETURN, "\r") for text in fields])


def _marked(lines: Iterable[str]) -> Iterator[str]:
    """The lines, with CARRIAGE_RETURN for every carriage return that is not the line's end."""
    for line in lines:
        if "\r" in line:
            text = line.removesuffix("\n").removesuffix("\r")
            line = text.replace("\r", CARRIAGE_RETURN) + line[len(text) :]
        yield line


# ---------------------------------------------------------------------------------------------------------------------
# JSON


def _json_table(path: Path) -> Table:
    """JSON lines, read twice: no record stands for the others, so the header is the keys of all of them."""
    first = next(_json_lines(path), None)
    if first is None:
        raise InputError(f"{path}: empty; expected JSON objects")
    is_array = first[1].lstrip().startswith("[")
    records = list(_array(path)) if is_array else None
    header: dict[str, None] = {}
    for record in records or map(_object, _json_lines(path)):
        header.update(dict.fromkeys(record.fields[0] if record.fields else ()))
    rows = (
        row if row.fault else row._replace(fields=[row.fields[0].get(name) for name in header])
        for row in records or map(_object, _json_lines(path))
    )
    unit = "record" if is_array else "line"
    if not header:
        row = next(rows, Row(1, [], "no object"))
        raise InputError(f"{path}, {unit} {row.number}: {row.fault or 'an object without keys'}")
    return Table([name.strip() for name in header], rows, unit, empty_is_text=True, is_typed=True)


def _json_lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in _filled_lines(path) if not line.isspace())


def _array(path: Path) -> Iterator[Row]:
    """The records of a file that is one array, each as the single field of a row."""
    text = "".join(_lines(path))
    try:
        values = JSON.decode(text)
        if "\\u" in text:
            json.dumps(values, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise InputError(f"{path}, line {line}: not JSON: {error}; {OBJECTS}") from None
    for number, value in enumerate(values, start=1):
        yield _record(number, value)


def _object(line: tuple[int, str]) -> Row:
    """The record of a line, as the single field of a row."""
    number, text = line
    # ValueError is also a number of too many digits, RecursionError too deep a nesting.
    try:
        value = JSON.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return Row(number, [], f"not a JSON object: {error}; {OBJECTS}")
    return _record(number, value)


def _record(number: int, value: object) -> Row:
    if isinstance(value, dict):
        return Row(number, [value])
    return Row(number, [], f"not a JSON object: found {type(value).__name__}; {OBJECTS}")


def text_of(value: object) -> str | None:
    """Text of a field; None where it has none (null, absent, NaN, a list, an object)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):  # 1e999 is Infinity
        return None
    return str(value) if isinstance(value, int | float) else None
