"""Labels of the task and labels of the model, matched by name and never by position.

    match_labels(TASKS["mnli"], {0: "contradiction", 1: "neutral", 2: "entailment"}, "my-model")    # [2, 1, 0]

GLUE's data set on the Hub has entailment, neutral, contradiction; facebook/bart-large-mnli has them the other way
round. A wrong map shows as 4 to 10 % accuracy.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping

import numpy as np

from distilbart_mnli.data.tasks import Task, listed
from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)


def match_labels(task: Task, id2label: dict[int, str], source: str) -> np.ndarray | None:
    """The model's label id of each of the task's labels, matched by name.

    Names match whatever their case; a label may also have the name it has in GLUE's files ("0", "1"). Generic names
    (LABEL_0, ...), which say nothing, are taken for the task's labels in the task's order.

    Args:
        task: for own data, as adopt_model_labels returned it.
        id2label: of the model's config.
        source: the model's name or folder, for the message.

    Returns:
        int64 [len(task.label_names)]: task label id -> model label id. None for regression.

    Raises:
        InputError: the names differ, or their number; a regression task and a model with several outputs.
    """
    names = [id2label[key] for key in sorted(id2label, key=int)]
    if task.is_regression:
        if len(names) != 1:
            raise InputError(
                f"{source}: task {task.name} needs a head with one output, this one has {len(names)} "
                f"({listed(names)}); give --reinit_classifier true to put a new one in its place"
            )
        return None
    if len(names) == len(task.label_names) and is_generic(names):
        logger.info("%s: label names are generic; taken for %s", source, listed(task.label_names))
        return np.arange(len(names), dtype=np.int64)
    for known in (task.label_names, task.file_labels):
        for key in (str, folded):
            ids = {key(name): number for number, name in enumerate(names)}
            wanted = [key(name) for name in known]
            # One name for two labels, or one model label too many, is no match.
            if len(ids) == len(names) == len(set(wanted)) and set(wanted) == set(ids):
                return np.array([ids[name] for name in wanted], dtype=np.int64)
    raise InputError(
        f"{source}: its labels ({listed(names)}) are not those of task {task.name} ({listed(task.label_names)}); "
        "give --reinit_classifier true to put a new classification head in place of its own"
    )


def adopt_model_labels(task: Task, id2label: dict[int, str]) -> Task:
    """For own data: the task with the model's label names, where these cover all that are in the data.

    So a file that lacks one of the model's labels, or a test file without any, still fits the model. GLUE's tasks, and
    own tasks whose labels the model does not have, are returned as they are (match_labels then says what is wrong).
    """
    names = [id2label[key] for key in sorted(id2label, key=int)]
    if not task.own_data or (task.label_names and is_generic(names)):
        return task
    of_model = {folded(name) for name in names}
    # A label keeps the spelling it has in the data, by which its rows are read.
    in_data = {folded(name): name for name in task.label_names}
    if len(of_model) != len(names) or len(in_data) != len(task.label_names) or not set(in_data) <= of_model:
        return task
    return dataclasses.replace(task, label_names=tuple(in_data.get(folded(name), name) for name in names))


def entailment_id(label2id: Mapping[str, int]) -> int | None:
    """The id of the label that means entailment, by its name as transformers' zero-shot pipeline looks for it."""
    return next((int(index) for name, index in label2id.items() if folded(name).startswith("entail")), None)


def folded(name: str) -> str:
    """A label's name as it is compared."""
    return str(name).strip().casefold()


def is_generic(names: Iterable[str]) -> bool:
    """Whether the names say nothing: LABEL_0, LABEL_1, ..."""
    names = list(names)
    return [folded(name) for name in names] == [f"label_{number}" for number in range(len(names))]
