"""GLUE's data sets from the Hub as TSV files with the layout of gluebenchmark.com.

    for file in download(select_tasks(["MNLI"]), Path("glue_data")):
        print(file.path, file.rows)             # glue_data/MNLI/train.tsv 392702, ...

Columns that the Hub does not have (parses, ids of sentences) are there and empty, so that a reader by position works
as well as one by name. A file is written beside and renamed when it is whole, and its rows are counted against GLUE's
number before a byte is written: a file that has its name and its number of rows is finished, and a second call skips
it without asking the Hub. What was downloaded stays in the datasets library's cache (HF_HOME), also when it is killed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from distilbart_mnli.data.splits import HUB_DATASET, find_task, hub_split
from distilbart_mnli.data.tasks import TASKS, Source, Task
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import atomic_file

_BREAKS = re.compile("\r\n|[\t\n\r]")
_ROW_NUMBERS = ("index", "id")
_CHUNK = 10_000  # rows read and written at a time


@dataclass(frozen=True)
class Written:
    """One file."""

    path: Path
    rows: int
    breaks: int = 0
    """Tabs and line breaks inside texts that became spaces."""
    was_there: bool = False


def select_tasks(names: Iterable[str]) -> list[Task]:
    """The tasks of these names in any spelling, several to a word if separated by commas; "all" for all of GLUE.

    Raises:
        InputError: an unknown name, or none.
    """
    words = [word.strip() for name in names for word in name.split(",") if word.strip()]
    if not words:
        raise InputError("--tasks: expected the names of tasks, or all")
    everything = any(word.lower() == "all" for word in words)
    chosen = TASKS.values() if everything else [find_task(word, "--tasks") for word in words]
    # mnli-mm lies in MNLI's folder: each folder once, in the order given, and all of it.
    owners = {task.folder: task for task in reversed(TASKS.values())}
    return list({task.folder: owners[task.folder] for task in chosen}.values())


def download(
    tasks: Iterable[Task], data_dir: Path, cache_dir: str | None = None, overwrite: bool = False
) -> Iterable[Written]:
    """Make `data_dir/<TASK>/*.tsv`, yielding each file when it is there.

    Args:
        cache_dir: of the datasets library.
        overwrite: replace files that have another number of rows than GLUE's.

    Raises:
        InputError: data_dir cannot be used; a file with another number of rows is in the way.
        HubError: the data set cannot be had.
        RunError: the Hub's data set is not GLUE's; the disk is full.
    """
    for task in tasks:
        folder = data_dir / task.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror}; name another --data_dir") from None
        sources = [source for source in (task.train, *task.evaluation, *task.test) if source is not None]
        # MNLI also reads AX's file where it is, but does not own it.
        for source in (source for source in sources if source.hub is not None and not source.if_present):
            path = folder / source.files[0]
            rows = _rows_there(path, source)
            if rows == source.rows:
                yield Written(path, rows, was_there=True)
                continue
            if rows is not None and not overwrite:
                raise InputError(
                    f"{path}: is there with {rows:,} rows, GLUE's has {source.rows:,}; "
                    "move it away, or give --overwrite"
                )
            yield _download_one(task, source, path, cache_dir)


def _rows_there(path: Path, source: Source) -> int | None:
    """Rows of a file that is there already; None: no such file."""
    try:
        with path.open("rb") as file:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return lines - source.has_header


def _download_one(task: Task, source: Source, path: Path, cache_dir: str | None) -> Written:
    assert source.hub is not None
    data = hub_split(*source.hub, cache_dir)
    where = f"{HUB_DATASET} ({', '.join(source.hub)})"
    if len(data) != source.rows:
        raise RunError(f"{where}: has {len(data):,} rows, expected {source.rows:,}; {path} was not written")
    breaks = 0
    bar = tqdm(total=len(data), desc=f"{task.folder}/{path.name}", unit="row", disable=None)
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file, bar:
        if source.has_header:
            file.write("\t".join(source.columns) + "\n")
        for start in range(0, len(data), _CHUNK):
            columns, found = _columns(task, source, data, start, where)
            breaks += found
            file.writelines("\t".join(fields) + "\n" for fields in zip(*columns, strict=True))
            bar.update(len(columns[0]))
    return Written(path, len(data), breaks)


def _columns(
    task: Task, source: Source, data: datasets.Dataset, start: int, where: str
) -> tuple[list[list[str]], int]:
    """Some rows as GLUE's columns, and how many tabs and line breaks became spaces."""
    chunk = data[start : start + _CHUNK]
    count = len(next(iter(chunk.values())))
    breaks = 0
    columns: list[list[str]] = []
    for column in source.columns:
        names = next((names for names in task.columns.values() if column in names), None)
        if names is None:
            numbers = map(str, range(start, start + count)) if column in _ROW_NUMBERS else [""] * count
            columns.append(list(numbers))
            continue
        name = next((name for name in names if name in chunk), None)
        if name is None:
            raise RunError(f"{where}: no column {' or '.join(names)}; found {', '.join(chunk)}")
        if names is task.label:
            columns.append(_labels(task, data.features[name], chunk[name], where))
            continue
        found = [_BREAKS.subn(" ", text) for text in chunk[name]]
        columns.append([text for text, _ in found])
        breaks += sum(number for _, number in found)
    return columns, breaks


def _labels(task: Task, feature, values: list, where: str) -> list[str]:
    if task.is_regression:
        # float32 as GLUE writes it: 5.000, 3.800, and more digits only where there are more.
        return [np.format_float_positional(np.float32(value), min_digits=3) for value in values]
    written = dict(zip(task.label_names, task.written_labels, strict=True))
    names = getattr(feature, "names", None)
    if names is None or set(names) != set(written) or any(value is None or value < 0 for value in values):
        raise RunError(f"{where}: expected the labels {', '.join(task.label_names)} in every row, found {names}")
    return [written[names[value]] for value in values]
