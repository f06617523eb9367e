"""Rows without labels that join a training set, for a teacher's answers alone.

    train = with_transfer_rows(args, task, load_train(args, task))

transfer_file has pairs, or for a task of single texts those; a label column is not read. transfer_texts has texts, of
which each makes a pair with every candidate label, as for zero-shot classification (Yin et al., arXiv 1909.00161). A
column is called as in the task's own files, or has one of the usual names of own data.

The rows stand after the set's own, all with NO_LABEL. So the order of the examples is what it always is, a function of
(seed, epoch, effective batch) and the set's lengths.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distilbart_mnli.data.own_data import FIRST_TEXT, SECOND_TEXT
from distilbart_mnli.data.splits import NO_LABEL, Split
from distilbart_mnli.data.tables import Columns, read_columns
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments

logger = logging.getLogger(__name__)


def with_transfer_rows(args: Arguments, task: Task, train: Split) -> Split:
    """A training set and after it the rows of transfer_file, then the pairs of transfer_texts; itself without either.

    Raises:
        InputError: a file cannot be read, has no rows or not the columns, or an empty text; texts for a task that
            has no pairs.
    """
    if not (args.transfer_file or args.transfer_texts):
        return train
    assert train.labels is not None
    first, second = list(train.sentence1), list(train.sentence2 or ())
    second_names = _names(args.sentence2_key, task.sentence2, SECOND_TEXT) if task.sentence2 else []
    first_names = _names(args.sentence1_key, task.sentence1, FIRST_TEXT)
    first_names = [name for name in first_names if name not in second_names]  # QNLI's second text is its "sentence"
    if args.transfer_file:
        wanted = {"sentence1": first_names, "sentence2": second_names} if second_names else {"sentence1": first_names}
        columns = _read(args, args.transfer_file, wanted)
        first += columns.values["sentence1"]
        second += columns.values.get("sentence2", [])
    if args.transfer_texts:
        if not second_names:
            raise InputError(
                f"transfer_texts makes pairs, and task {task.name} has single texts: give them as transfer_file"
            )
        columns = _read(args, args.transfer_texts, {"sentence1": first_names})
        texts, labels = columns.values["sentence1"], args.candidate_labels or []
        premises, hypotheses = zero_shot_pairs(texts, labels, args.hypothesis_template)
        logger.info("%s: %d pairs, of each text with %d labels", columns.path, len(premises), len(labels))
        first, second = first + premises, second + hypotheses
    unlabelled = np.full(len(first) - len(train), NO_LABEL, train.labels.dtype)
    return dataclasses.replace(
        train,
        sentence1=first,
        sentence2=second if second_names else None,
        labels=np.concatenate([train.labels, unlabelled]),
        index=(),
    )


def zero_shot_pairs(texts: Sequence[str], labels: Sequence[str], template: str) -> tuple[list[str], list[str]]:
    """Premises and hypotheses: text 0 with each label, text 1 with each label, and so on."""
    hypotheses = [template.format(label) for label in labels]
    return [text for text in texts for _ in hypotheses], hypotheses * len(texts)


def _names(key: str | None, of_task: Sequence[str], usual: Sequence[str]) -> list[str]:
    """What a column may be called, the likeliest first."""
    return list(dict.fromkeys((*([key] if key else []), *of_task, *usual)))


def _read(args: Arguments, file: str, wanted: dict[str, list[str]]) -> Columns:
    columns = read_columns(Path(file), wanted, blank_is_text=False, skip_bad_rows=args.skip_bad_rows)
    columns.log_left_out(None)
    shown = ", ".join(columns.names.values())
    logger.info("%s: %d rows without labels join the training set (%s)", file, len(columns.numbers), shown)
    return columns
