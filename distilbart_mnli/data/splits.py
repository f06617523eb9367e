"""The splits of a GLUE task, or of the user's own files, as lists of texts and label ids.

    task = get_task(args)                   # --task_name MNLI, mnli, sst2, SST-2, STS-B, mnli-mm, ...
    train = load_train(args, task)          # Split: sentence1, sentence2 (None: single texts), labels
    for split in load_evaluation(args, task): ...

The texts come from `data_dir`, a folder with the task's TSV files as GLUE published them (download_glue_data.py makes
it), or without it from nyu-mll/glue on the Hub, or from train_file, validation_file and test_file. The label ids of a
Split are positions in `task.label_names`, the order of the data set on the Hub; labels.py maps them to a model's.

A label that is none of the task's is refused; rows with a mark for "no label" (SNLI's "-") are left out with
ignore_label. MRPC is also read as Microsoft published it: msr_paraphrase_train.txt, and msr_paraphrase_test.txt where
there is no dev.tsv. A test set needs no labels: it has them if every row of it has one of the task's.

"mnli-mm" trains on MNLI's train.tsv and evaluates and predicts the mismatched set alone. MNLI also predicts the
diagnostic set AX where its file is found. AX itself has no training set; it can be evaluated if diagnostic-full.tsv,
which holds its labels, is in data_dir.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import httpx2
import numpy as np

from distilbart_mnli.command_line import did_you_mean
from distilbart_mnli.data.labels import folded
from distilbart_mnli.data.own_data import own_task
from distilbart_mnli.data.tables import Columns, exists, find_columns, read_columns
from distilbart_mnli.data.tasks import TASKS, Source, Task, is_no_label, listed
from distilbart_mnli.errors import HubError, InputError
from distilbart_mnli.hub_client import bounded_client
from distilbart_mnli.options.fields import Arguments

HUB_DATASET = "nyu-mll/glue"
ID_COLUMNS = ("id", "idx", "guid")


@dataclass
class Split:
    """One set of examples, in the file's order."""

    name: str
    """"train", or the set's name in the names of result files: "mnli", "mnli-mm", "cola", ..."""
    sentence1: list[str]
    sentence2: list[str] | None
    """None: single texts."""
    labels: np.ndarray | None
    """int64 ids into task.label_names; float32 scores for regression; None for test rows without labels."""
    source: str
    """The file or the Hub's data set, for messages."""
    index: Sequence[int] = ()
    """Each example's row in its file, from 0; rows that were left out are counted. Empty: 0, 1, 2, ..."""
    ids: list[str] | None = None
    """Test sets: each example's name for itself, where the file has a column for that (ID_COLUMNS)."""
    submission: str = ""
    """Test sets: name of the submission file, without .tsv."""

    def __len__(self) -> int:
        return len(self.sentence1)


def get_task(args: Arguments) -> Task:
    """The task that `task_name` names in any case and spelling, or one made for train_file and its like (own_data.py).

    Raises:
        InputError: an unknown task; own files that cannot be read, lack a column or have no classes.
    """
    return own_task(args) if args.task_name is None else find_task(args.task_name, "task_name")


def find_task(name: str, option: str) -> Task:
    """The GLUE task of this name, in any case and spelling.

    Raises:
        InputError: there is none; names `option` and the nearest task.
    """
    known = {spelling: task for task in TASKS.values() for spelling in (task.name, *task.aliases)}
    plain = {re.sub("[^a-z0-9]", "", spelling): task for spelling, task in known.items()}
    if task := plain.get(re.sub("[^a-z0-9]", "", name.lower())):
        return task
    hint = did_you_mean(name.lower(), known) or "any other is own data: train_file, validation_file"
    raise InputError(f"{option}: unknown task {name}; known: {', '.join(TASKS)}; {hint}")


def load_train(args: Arguments, task: Task) -> Split:
    """The training set, or the first max_train_samples of it.

    Raises:
        InputError: the task has none; a file is missing, empty or faulty (file, line, what was expected).
        HubError: the Hub's data set cannot be had.
    """
    if task.train is None:
        raise InputError(f"task {task.name} has no training set; train on MNLI, then evaluate or predict {task.name}")
    return _load(args, task, task.train, args.max_train_samples)


def load_evaluation(args: Arguments, task: Task) -> list[Split]:
    """The evaluation sets: two for MNLI (mnli, mnli-mm), one for the rest; the first max_eval_samples of each.

    Raises:
        InputError, HubError: as load_train.
    """
    return [_load(args, task, source, args.max_eval_samples) for source in task.evaluation]


def load_test(args: Arguments, task: Task) -> list[Split]:
    """The test sets, the first max_predict_samples of each; MNLI's with AX where its file is found.

    Raises:
        InputError, HubError: as load_train.
    """
    return [
        _load(args, task, source, args.max_predict_samples)
        for source in task.test
        if not (source.if_present and args.data_dir) or _find(Path(args.data_dir), source)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def _load(args: Arguments, task: Task, source: Source, limit: int | None) -> Split:
    if task.own_data:
        return _load_file(args, task, source, Path(source.files[0]), limit)
    if args.data_dir:
        return _load_file(args, task, source, _glue_file(Path(args.data_dir), task, source), limit)
    if source.hub is None:
        raise InputError(
            f"{HUB_DATASET} has no labels for {task.name}; put GLUE's {source.files[0]} into a folder and name it "
            "with --data_dir"
        )
    return load_hub(task, source, args.cache_dir, limit)


def _find(folder: Path, source: Source) -> Path | None:
    return next((folder / file for file in source.files if exists(folder / file)), None)


def _glue_file(folder: Path, task: Task, source: Source) -> Path:
    if path := _find(folder, source):
        return path
    what = f"{folder / source.files[0]}: no such file"
    below = folder / task.folder
    if exists(below / source.files[0]):
        raise InputError(f"{what}; {below} has it: give --data_dir {shlex.quote(str(below))}")
    if source.hub is None:
        raise InputError(f"{what}; it comes with GLUE's diagnostic set and holds the labels of {task.name}")
    parent = folder.parent if folder.name == task.folder else Path("glue_data")
    raise InputError(
        f"{what}; make it with: python download_glue_data.py --data_dir {shlex.quote(str(parent))} "
        f"--tasks {task.folder}, then give --data_dir {shlex.quote(str(parent / task.folder))}"
    )


def _load_file(args: Arguments, task: Task, source: Source, path: Path, limit: int | None) -> Split:
    test = bool(source.submission)
    if source.name in task.columns_read:
        columns = task.columns_read[source.name].first(limit)
    else:
        columns = read_columns(
            path,
            {**task.columns, "id": ID_COLUMNS} if test else task.columns,
            optional=("label", "id") if test else (),
            glue=not task.own_data,
            header=None if source.has_header else source.columns,
            limit=limit,
            skip_bad_rows=args.skip_bad_rows,
            ignore_label=None if test else args.ignore_label,
        )
    columns.log_left_out(None if test else args.ignore_label)
    return Split(
        name=source.name,
        sentence1=columns.values["sentence1"],
        sentence2=columns.values.get("sentence2"),
        labels=_file_labels(task, columns, required=not test),
        source=str(path),
        index=columns.index,
        ids=columns.values.get("id"),
        submission=source.submission,
    )


def _file_labels(task: Task, columns: Columns, required: bool) -> np.ndarray | None:
    """The rows' labels; None where they are not `required` and a row has none of the task's: predicting needs none."""
    labels = [task.read_label(word) for word in columns.values.get("label", ())]
    if not required and (None in labels or not labels):
        return None
    if None in labels:
        row = labels.index(None)
        word = columns.values["label"][row]
        hint = f"; --ignore_label {shlex.quote(word.strip())} leaves such rows out" if is_no_label(word) else ""
        raise InputError(
            f"{columns.place(row)}: expected {task.expected_label}, found {word[:60]!r} in "
            f"{columns.names['label']}{hint}"
        )
    return np.array(labels, dtype=np.float32 if task.is_regression else np.int64)


def load_hub(task: Task, source: Source, cache_dir: str | None, limit: int | None = None) -> Split:
    """A split of nyu-mll/glue, downloaded once and then read from the cache; the first `limit` rows of it.

    Raises:
        HubError: it cannot be had: no network and not in the cache, or the Hub refused.
        InputError: it has no rows, not the task's columns or label names, or a row without a label.
    """
    assert source.hub is not None
    where = f"{HUB_DATASET} ({', '.join(source.hub)})"
    config, split = source.hub
    try:
        with bounded_client():
            data = datasets.load_dataset(HUB_DATASET, config, split=split, cache_dir=cache_dir)
    # ValueError: offline, with other configurations in the cache.
    except (OSError, ValueError, httpx2.HTTPError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).partition("\n")[0]
        raise HubError(
            f"{where} cannot be loaded: {type(error).__name__}: {reason}; "
            "to work without the Hub, give --data_dir a folder with GLUE's TSV files"
        ) from error
    names = find_columns(where, task.columns, data.column_names, optional=("label",) if source.submission else ())
    rows = data[:limit]
    if not len(data):
        raise InputError(f"{where}: no rows")
    labels = rows[names["label"]] if "label" in names else [None]
    unlabelled = sum(value is None or value == -1 for value in labels)
    if unlabelled and not source.submission:
        raise InputError(f"{where}: {unlabelled} of {len(labels)} rows have no label")
    return Split(
        name=source.name,
        sentence1=rows[names["sentence1"]],
        sentence2=rows[names["sentence2"]] if "sentence2" in names else None,
        labels=None if unlabelled else _hub_labels(where, task, data.features[names["label"]], labels),
        source=where,
        submission=source.submission,
    )


def _hub_labels(where: str, task: Task, feature, labels: list) -> np.ndarray:
    if task.is_regression:
        return np.array(labels, dtype=np.float32)
    names = getattr(feature, "names", None)
    ids = {folded(name): number for number, name in enumerate(task.label_names)}
    if names is None or {folded(name) for name in names} != set(ids):
        raise InputError(f"{where}: expected the label names {listed(task.label_names)}, found {names}")
    return np.array([ids[folded(name)] for name in names], dtype=np.int64)[np.array(labels)]
