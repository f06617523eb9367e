"""GLUE's data sets from the Hub as TSV files with the layout of gluebenchmark.com.

    for file in download(select_tasks(["MNLI"]), Path("glue_data")):
        print(file.path, file.rows)             # glue_data/MNLI/train.tsv 392702, ...

Columns that the Hub does not have (parses, ids of sentences) are there and empty, so that a reader by position works
as well as one by name. A file appears whole or not at all: one that has its name and GLUE's rows is finished, and
a second call skips it without asking the Hub. What was downloaded stays in the datasets library's cache (HF_HOME).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from distilbart_mnli.data.splits import Split, find_task, load_hub
from distilbart_mnli.data.tasks import TASKS, Source, Task
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import atomic_file

_BREAKS = re.compile("\r\n|[\t\n\r]")
_ROW_NUMBERS = ("index", "id")


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
    folders = dict.fromkeys(task.folder for task in chosen)
    return [next(task for task in TASKS.values() if task.folder == folder) for folder in folders]


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
        for source in (task.train, *task.evaluation, *task.test):
            # MNLI also reads AX's file where it is, but does not own it.
            if source is None or source.hub is None or source.if_present:
                continue
            path = folder / source.files[0]
            rows = _rows_there(path, source)
            if rows == source.rows:
                yield Written(path, rows, was_there=True)
            elif rows is None or overwrite:
                yield _download_one(task, source, path, cache_dir)
            else:
                there = f"{path}: is there with {rows:,} rows, GLUE's has {source.rows:,}"
                raise InputError(f"{there}; move it away, or give --overwrite")


def _rows_there(path: Path, source: Source) -> int | None:
    """Rows of a file that is there already; None: no such file."""
    try:
        return path.read_bytes().count(b"\n") - source.has_header
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _download_one(task: Task, source: Source, path: Path, cache_dir: str | None) -> Written:
    try:
        split = load_hub(task, source, cache_dir)
    except InputError as error:  # no input of the user's
        raise RunError(str(error)) from None
    rows = len(split)
    if rows != source.rows:
        raise RunError(f"{split.source}: has {rows:,} rows, expected {source.rows:,}; {path} was not written")
    columns, breaks = _columns(task, source, split)
    lines = tqdm(zip(*columns, strict=True), f"{task.folder}/{path.name}", rows, unit="row", disable=None)
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if source.has_header:
            file.write("\t".join(source.columns) + "\n")
        file.writelines("\t".join(fields) + "\n" for fields in lines)
    return Written(path, rows, breaks)


def _columns(task: Task, source: Source, split: Split) -> tuple[list[Iterable[str]], int]:
    """GLUE's columns of the file, and how many tabs and line breaks became spaces."""
    roles = {name: role for role, names in task.columns.items() for name in names}
    columns: list[Iterable[str]] = []
    breaks = 0
    for column in source.columns:
        role = roles.get(column)
        if role == "label":
            columns.append(_labels(task, split))
        elif role is not None:
            found = [_BREAKS.subn(" ", text) for text in getattr(split, role)]
            columns.append([text for text, _ in found])
            breaks += sum(number for _, number in found)
        else:
            columns.append(map(str, range(len(split))) if column in _ROW_NUMBERS else [""] * len(split))
    return columns, breaks


def _labels(task: Task, split: Split) -> list[str]:
    assert (
        split.labels is not None
    )  # load_hub refuses a set without, but for test sets, whose files have no such column
    if task.is_regression:
        # float32 as GLUE writes it: 5.000, 3.800, and more digits only where there are more.
        return [np.format_float_positional(score, min_digits=3) for score in split.labels]
    return [task.written_labels[label] for label in split.labels]
