"""A task made for the user's own files: train_file, validation_file, test_file.

The columns are those of sentence1_key, sentence2_key and label_key, or have one of the usual names. The labels are the
classes in the data (own_labels.py), sorted; or the model's, where it has names for all of them (a file may lack one of
the model's labels, and a test file needs none) and its head is not to be replaced.
"""

import dataclasses
from pathlib import Path

from distilbart_mnli.data.labels import adopt_model_labels, is_generic, read_label_names
from distilbart_mnli.data.own_labels import are_numbers, class_names, refuse_other_labels
from distilbart_mnli.data.tables import column_names, exists, read_columns
from distilbart_mnli.data.tasks import Source, Task, listed
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments

FIRST_TEXT = ("sentence1", "premise", "text", "sentence")
SECOND_TEXT = ("sentence2", "hypothesis")


def own_task(args: Arguments) -> Task:
    """The task; its label names are sorted, whole numbers by value.

    Raises:
        InputError: a file is missing, cannot be read, or lacks a column; its labels are no classes.
    """
    files = {name: file for name in ("train", "validation", "test") if (file := getattr(args, f"{name}_file"))}
    for file in files.values():
        if not exists(Path(file)):
            raise InputError(f"{file}: no such file")
    if args.sentence1_key and args.sentence1_key == args.sentence2_key:
        raise InputError(f"sentence1_key and sentence2_key are both {args.sentence1_key}; leave out sentence2_key")
    sources = {
        name: Source(name=name, files=(file,), submission="predictions" if name == "test" else "")
        for name, file in files.items()
    }
    headers = [column_names(Path(file)) for file in files.values()]
    task = Task(
        name="custom",
        label_names=(),
        sentence1=(args.sentence1_key,) if args.sentence1_key else _column(FIRST_TEXT, headers) or FIRST_TEXT,
        sentence2=(args.sentence2_key,) if args.sentence2_key else _column(SECOND_TEXT, headers),
        label=(args.label_key or "label",),
        train=sources.get("train"),
        evaluation=(sources["validation"],) if "validation" in sources else (),
        test=(sources["test"],) if "test" in sources else (),
        own_data=True,
    )
    labelled = {  # whole, whatever max_train_samples: a class is one wherever its rows stand
        name: read_columns(Path(file), task.columns, skip_bad_rows=args.skip_bad_rows, ignore_label=args.ignore_label)
        for name, file in files.items()
        if name != "test"
    }
    of_model: tuple[str, ...] = ()
    if args.model_name_or_path is not None and not args.reinit_classifier:
        of_model = read_label_names(args.model_name_or_path, revision=args.model_revision, cache_dir=args.cache_dir)
    labels = class_names(labelled, of_model)
    if args.do_train and len(labels) < 2:
        raise InputError(f"{args.train_file}: only one label, {listed(labels)}; nothing to learn")
    names = tuple(sorted(labels, key=int if are_numbers(labels) else None))
    task = dataclasses.replace(task, label_names=names, columns_read=labelled)
    if not of_model:
        return task
    adopted = adopt_model_labels(task, dict(enumerate(of_model)))
    if adopted is task and not is_generic(of_model):
        refuse_other_labels(next(iter(files.values())), task.label_names, of_model)
    return adopted


def _column(usual: tuple[str, ...], headers: list[list[str]]) -> tuple[str, ...]:
    """The first of the usual names that all files have, or else those that any has: a file without one is refused."""
    shared = [name for name in usual if all(name in header for header in headers)]
    return tuple(shared[:1] or [name for name in usual if any(name in header for header in headers)])
