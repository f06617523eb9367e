"""Columns of text out of a file of rows (formats.py says which files), and which of its rows can be used.

    columns = read_columns(Path("train.csv"), {"sentence1": ("sentence1",), "label": ("gold_label", "label")})
    columns.values["sentence1"]     # one text a row

A row is bad, and refused, or with `skip_bad_rows` dropped and counted, if

- it breaks the rules of its format, or has text beyond the header: a separator stood inside a text, and nothing says
  which field moved;
- a wanted column has nothing in it: the row ends before it, its field is empty (in GLUE's files that is a text), it is
  a null, NaN or a list in JSON, its key is absent. Words that look like nothing (nan, None, NA, null) are text.

A row may end before a column that nobody asked for. MNLI's `label1`, left of `gold_label`, cannot pass for the label.
"""

import dataclasses
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distilbart_mnli.data.formats import Row, Table, open_table, text_of
from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)

MANY_BAD_ROWS = 0.05  # of all; dropping more is a warning
TYPES = {str: "text", bool: "true or false", int: "a number", float: "a number"}


@dataclass
class Columns:
    """What was read: for each role its texts, and where each row stood."""

    path: Path
    unit: str
    """What `numbers` counts: "line", or "record" in a JSON array."""
    names: dict[str, str]
    """role -> the column's name in the file."""
    values: dict[str, list[str]]
    """role -> one text a row; an optional role whose column is absent has no entry."""
    numbers: list[int] = field(default_factory=list)
    """Line number of each row, from 1."""
    index: list[int] = field(default_factory=list)
    """Position of each row among the file's rows, from 0, those left out counted."""
    bad: list[Row] = field(default_factory=list)
    """The rows that were dropped."""
    ignored: list[int] = field(default_factory=list)
    """Line number of each row that was left out for its label."""

    def place(self, row: int) -> str:
        """ "train.csv, line 3": where a row stands, for a message."""
        return f"{self.path}, {self.unit} {self.numbers[row]}"

    @property
    def dropped(self) -> int:
        """Lines of the bad rows; each may have been a row."""
        return sum(row.lines for row in self.bad)

    def first(self, limit: int | None) -> "Columns":
        """The first so many rows; all of them for None."""
        if limit is None or limit >= len(self.numbers):
            return self
        last = self.numbers[limit - 1]
        return dataclasses.replace(
            self,
            values={role: texts[:limit] for role, texts in self.values.items()},
            numbers=self.numbers[:limit],
            index=self.index[:limit],
            bad=[row for row in self.bad if row.number < last],
            ignored=[number for number in self.ignored if number < last],
        )

    def log_left_out(self, ignore_label: str | None) -> None:
        """A line on bad rows, a warning if more than MANY_BAD_ROWS of all were dropped, and one on ignore_label."""
        if self.bad:
            share = self.dropped / (self.dropped + len(self.numbers))
            level = logging.WARNING if share > MANY_BAD_ROWS else logging.INFO
            where = listed_numbers(self.unit, [row.number for row in self.bad])
            logger.log(level, "%s: dropped %d bad rows (%s), %.1f %%", self.path, self.dropped, where, 100 * share)
        if ignore_label is not None:
            where = listed_numbers(self.unit, self.ignored) or "none has it"
            logger.info(
                "%s: left out %d rows with the label %r (%s)", self.path, len(self.ignored), ignore_label, where
            )


def read_columns(
    path: Path,
    wanted: Mapping[str, Sequence[str]],
    *,
    optional: Collection[str] = (),
    glue: bool = False,
    header: Sequence[str] | None = None,
    limit: int | None = None,
    skip_bad_rows: bool = False,
    ignore_label: str | None = None,
    blank_is_text: bool = True,
) -> Columns:
    """Read some columns of a file.

    Args:
        path, glue, header: as for formats.open_table.
        wanted: role -> the names its column may have, the first found wins.
        optional: roles whose column may be absent (twice is as good as absent), or have nothing in it: "" then.
        limit: read the first so many rows only.
        skip_bad_rows: drop bad rows.
        ignore_label: leave out the rows whose role "label" has this value ("": nothing).
        blank_is_text: False: a required field of nothing but spaces makes a row bad, whatever the format.

    Raises:
        InputError: the file cannot be read, is not UTF-8, has no row, lacks a column or has it twice, a column mixes
            types, or a row is bad; with file, line and what was expected.
    """
    table = open_table(path, glue, header)
    names = find_columns(str(path), wanted, table.header, optional)
    places = {role: table.header.index(name) for role, name in names.items()}
    required = {names[role]: place for role, place in places.items() if role not in optional}
    ignored = None if ignore_label is None else same(ignore_label)
    columns = Columns(path, table.unit, names, {role: [] for role in places})
    types: dict[tuple[str, str], int] = {}
    for index, row in enumerate(table.rows):
        if len(columns.numbers) == limit:
            break
        fields = row.fields
        if len(fields) < len(table.header):
            fields = fields + [None] * (len(table.header) - len(fields))
        if ignored is not None and not row.fault and same(text_of(fields[places["label"]]) or "") == ignored:
            columns.ignored.append(row.number)
            continue
        fault = row.fault or _fault(row, table, required, blank_is_text)
        if fault and not skip_bad_rows:
            raise _refused(path, table, row, fault)
        if fault:
            columns.bad.append(row)
            continue
        for role, place in places.items():
            columns.values[role].append(text_of(fields[place]) or "")
        if table.is_typed:
            for name, place in required.items():
                types.setdefault((name, TYPES[type(fields[place])]), row.number)
        columns.numbers.append(row.number)
        columns.index.append(index)
    _check_types(path, table.unit, types)
    if not columns.numbers:
        counts = ((columns.dropped, "bad ones dropped"), (len(columns.ignored), "without a label"))
        why = ", ".join(f"{count} {what}" for count, what in counts if count)
        raise InputError(f"{path}: no rows" + (f" left, {why}" if why else " after the header"))
    return columns


def stream_texts(path: Path, kind: str, column: str, skip_bad_rows: bool = False) -> Iterator[tuple[int, str]]:
    """(line number, text) of one column's rows, in constant memory (but of a .json file: all its records).

    Args:
        kind: as for formats.open_table.
        skip_bad_rows: leave bad rows out.

    Raises:
        InputError: as for read_columns; a text is empty.
    """
    table = open_table(path, kind=kind)
    name = find_columns(str(path), {"--text_key": (column,)}, table.header)["--text_key"]
    place = table.header.index(name)
    for row in table.rows:
        fields = row.fields + [None] * (len(table.header) - len(row.fields))
        fault = row.fault or _fault(row._replace(fields=fields), table, {name: place}, blank_is_text=False)
        if fault and not skip_bad_rows:
            raise _refused(path, table, row, fault)
        if not fault:
            yield row.number, text_of(fields[place]) or ""


def _refused(path: Path, table: Table, row: Row, fault: str) -> InputError:
    return InputError(f"{path}, {table.unit} {row.number}: {fault}; correct the row, or give --skip_bad_rows")


def _fault(row: Row, table: Table, required: Mapping[str, int], blank_is_text: bool) -> str:
    """Why a row cannot be used; "" if it can. `required`: column -> its place."""
    fields, width = row.fields, len(table.header)
    if len(fields) != width and (any(fields[width:]) or any(place >= len(fields) for place in required.values())):
        return f"{len(row.fields)} fields, expected {width}"
    for name, place in required.items():
        value = fields[place]
        if isinstance(value, list | dict):
            return f"{'several values' if isinstance(value, list) else 'an object'} in {name}, expected one text"
        text = text_of(value)
        if text is None or (text == "" and not table.empty_is_text) or not (blank_is_text or text.strip()):
            return f"no text in {name}"
    return ""


def _check_types(path: Path, unit: str, types: Mapping[tuple[str, str], int]) -> None:
    """Raises InputError where a JSON column mixes types. `types`: (column, type) -> the first row that has it."""
    for name in dict.fromkeys(name for name, _ in types):
        found = [f"{kind} in {unit} {number}" for (column, kind), number in types.items() if column == name]
        if len(found) > 1:
            raise InputError(f"{path}: the column {name} mixes types: {', '.join(found)}; give it one")


def column_names(path: Path) -> list[str]:
    """The header of one's own file, or the keys of all its JSON objects.

    Raises:
        InputError: the file is empty or cannot be read.
    """
    return open_table(path).header


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
            hint = "; CSV has commas, TSV tabs" if len(header) == 1 and re.search(r"[,;|\t]", header[0]) else ""
            raise InputError(f"{where}: no column {' or '.join(wanted[role])} (for {role}); found {found}{hint}")
        if name is not None and role not in optional and header.count(name) > 1:
            raise InputError(f"{where}: the column {name} stands twice in the header; keep one of them")
    return {role: name for role, name in names.items() if name is not None and header.count(name) == 1}


def exists(path: Path) -> bool:
    """Whether there is such a path, or no permission to look: then whoever opens it says so."""
    try:
        return path.exists()
    except OSError:
        return True


def listed_numbers(unit: str, numbers: Sequence[int]) -> str:
    """ "line 3, line 8, line 9, ...", for a message."""
    return ", ".join(f"{unit} {number}" for number in numbers[:3]) + ", ..." * (len(numbers) > 3)


def same(word: str) -> str:
    """A label as it is compared in one's own files: without spaces around it, a whole number by its value ("1", "1.0",
    "01")."""
    word = word.strip()
    number = re.fullmatch(r"([-+]?[0-9]{1,18})(\.0*)?", word)
    return str(int(number[1])) if number else word
