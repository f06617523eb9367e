"""A task made for the user's own files: train_file, validation_file, test_file.

The columns are those of sentence1_key, sentence2_key and label_key, or have one of the usual names. Classes only: a
column of scores is refused. The labels are those in the data, sorted; or the model's, where it has names for all of
them (a file may lack one of the model's labels, and a test file has none) and its head is not to be replaced.
"""

import re
from pathlib import Path

from transformers import PreTrainedConfig

from distilbart_mnli.data.labels import adopt_model_labels
from distilbart_mnli.data.tables import column_names, exists, read_columns
from distilbart_mnli.data.tasks import Source, Task, listed
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments


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
    sentence2: tuple[str, ...] = (args.sentence2_key,) if args.sentence2_key else ()
    if not sentence2:  # The first file decides for all, so that no file loses its second text unnoticed.
        found = column_names(Path(next(iter(files.values()))))
        sentence2 = tuple(name for name in ("sentence2", "hypothesis") if name in found)[:1]
    label = args.label_key or "label"
    labels: set[str] = set()
    for file in (file for name, file in files.items() if name != "test"):
        columns = read_columns(Path(file), {"label": (label,)}, skip_bad_rows=args.skip_bad_rows)
        for line, word in zip(columns.lines, columns.values["label"], strict=True):
            if not word.strip() or re.fullmatch(r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?", word.strip()):
                raise InputError(f"{file}, line {line}: expected the name of a class in {label}, found {word[:60]!r}")
        labels.update(columns.values["label"])
    if args.do_train and len(labels) < 2:
        raise InputError(f"{args.train_file}: only one label, {listed(list(labels))}; nothing to learn")
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels)
    sources = {
        name: Source(name=name, files=(file,), submission="predictions" if name == "test" else "")
        for name, file in files.items()
    }
    task = Task(
        name="custom",
        label_names=tuple(sorted(labels, key=int if numbers else None)),
        sentence1=(args.sentence1_key,) if args.sentence1_key else ("sentence1", "premise", "text", "sentence"),
        sentence2=sentence2,
        label=(label,),
        train=sources.get("train"),
        evaluation=(sources["validation"],) if "validation" in sources else (),
        test=(sources["test"],) if "test" in sources else (),
        own_data=True,
    )
    id2label = _model_labels(args)
    return adopt_model_labels(task, id2label) if id2label else task


def _model_labels(args: Arguments) -> dict[int, str] | None:
    """id2label of the model whose head will be used; None where there is none, or none that can be read."""
    if args.model_name_or_path is None or args.reinit_classifier:
        return None
    try:
        values, _ = PreTrainedConfig.get_config_dict(
            args.model_name_or_path, revision=args.model_revision, cache_dir=args.cache_dir
        )
        return {int(number): str(name) for number, name in values["id2label"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return None  # whoever loads the model says what is wrong with it
