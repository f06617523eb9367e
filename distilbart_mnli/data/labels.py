"""Labels of the task and labels of the model, matched by name and never by position.

    names = label_names(values_of_config_json, "my-model")    # ("contradiction", "neutral", "entailment")
    match_labels(TASKS["mnli"], dict(enumerate(names)), "my-model")    # [2, 1, 0]

GLUE's data set on the Hub has entailment, neutral, contradiction; facebook/bart-large-mnli has them the other way
round. A wrong map shows as 4 to 10 % accuracy.
"""

import dataclasses
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import httpx2
import numpy as np
from transformers import PreTrainedConfig

from distilbart_mnli.data.tasks import Task, listed
from distilbart_mnli.errors import InputError
from distilbart_mnli.hub_client import bounded_client

logger = logging.getLogger(__name__)

# ---------------------------------------------------------------------------------------------------------------------
# The label map of a model


def label_names(config: Mapping[str, Any], source: str, otherwise: str = "") -> tuple[str, ...] | None:
    """The model's label names by id, from either half of the label map in config.json.

    The names stand there twice: stock transformers classifies by id2label, and its zero-shot pipeline finds
    entailment in label2id. A file may lack a half, have it damaged, or stale: LABEL_0, LABEL_1, ... are what
    transformers writes where nobody gave names. Then the other half says it all.

    Args:
        config: the values of config.json as they stand there.
        source: the model's name or folder, for messages.
        otherwise: what else the user can do about it, as the end of a message.

    Returns:
        None where there is no label map; such a head has generic names.

    Raises:
        InputError: no half is whole, the halves disagree, or a name cannot be written into a table (`check_names`).
    """
    present = [config[half] for half in ("id2label", "label2id") if config.get(half)]
    whole = [names for value in ("id2label", "label2id") if (names := _in_order(value, config.get(value)))]
    if not whole:
        if not present:
            return None
        raise InputError(
            f"{source}: config.json: the label map is damaged: expected id2label with another name for each of the "
            f"ids 0, 1, 2, ..., found {str(present[0])[:200]}{otherwise}"
        )
    telling = [names for names in whole if not _says_nothing(names)] or whole[:1]
    names = max(telling, key=len)  # the first of two equals, which is id2label
    for other in telling:
        if any(folded(a) != folded(b) for a, b in zip(names, other, strict=False)):
            raise InputError(
                f"{source}: config.json: id2label has the labels {listed(telling[0])}, label2id {listed(telling[1])}: "
                f"correct the wrong one, or delete it{otherwise}"
            )
    check_names(names, source, otherwise)
    return names


def read_label_names(model: str, **place: Any) -> tuple[str, ...]:
    """The names of a model's labels, nothing else read; none where it has none, or none that can be read.

    Args:
        model: its folder or its name on the Hub.
        place: further arguments of get_config_dict: revision, cache_dir, local_files_only.
    """
    try:
        with bounded_client():
            values, _ = PreTrainedConfig.get_config_dict(model, **place)
        return label_names(values, model) or ()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, httpx2.HTTPError, InputError) as error:
        logger.debug("%s", error)  # whoever loads the model says what is wrong with it
        return ()


def _in_order(half: str, value: Any) -> tuple[str, ...] | None:
    """The names by id; None unless every id from 0 has a name of its own."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return None
    pairs = value.items() if half == "id2label" else [(number, name) for name, number in value.items()]
    by_id = {_whole_number(number): name for number, name in pairs if isinstance(name, str)}
    names = tuple(by_id[number] for number in range(len(by_id)) if number in by_id)
    return names if len(value) == len(names) == len(set(names)) else None


def _whole_number(value: Any) -> int | None:
    """0, 0.0 and "0" as an id; True is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        return int(value)
    return value if type(value) is int else None


def _says_nothing(names: Iterable[str]) -> bool:
    """Whether every name is transformers' own, or a number: no match for names that were given."""
    return all(re.fullmatch("(label_)?[0-9]+", folded(name)) for name in names)


def check_names(names: Iterable[str], source: str, otherwise: str = "") -> None:
    """Raises InputError for a name that breaks the tables and the card that it is written into."""
    for name in names:
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
            raise InputError(
                f"{source}: the label {name!a} has a control character, a line break or half a character in it; "
                f"give it another name{otherwise}"
            )


def entailment_id(label2id: Mapping[str, int]) -> int | None:
    """The id of the label that means entailment, by its name as transformers' zero-shot pipeline looks for it."""
    return next((int(index) for name, index in label2id.items() if folded(name).startswith("entail")), None)


# ---------------------------------------------------------------------------------------------------------------------
# Task and model


def match_labels(task: Task, id2label: Mapping[int, str], source: str, otherwise: str = "") -> np.ndarray | None:
    """The model's label id of each of the task's labels, matched by name.

    Names match whatever their case; a label may also have the name it has in GLUE's files ("0", "1"). Generic names
    (LABEL_0, ...), which say nothing, are taken for the task's labels in the task's order.

    Args:
        task: for own data, as adopt_model_labels returned it.
        id2label: of the model's config.
        source: the model's name or folder, for the message.
        otherwise: what else the user can do about it, as the end of the message.

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
                f"({listed(names)}){otherwise}"
            )
        return None
    if len(names) == len(task.label_names) and is_generic(names):
        taken = ", ".join(f"{generic} for {name}" for generic, name in zip(names, task.label_names, strict=True))
        guessed = task.label_names != tuple(map(str, range(len(names))))
        logger.log(
            logging.WARNING if guessed else logging.INFO,
            "%s: its label names are generic; taken in order: %s",
            source,
            taken,
        )
        return np.arange(len(names), dtype=np.int64)
    for known in (task.label_names, task.file_labels):
        for key in (str, folded):
            ids = {key(name): number for number, name in enumerate(names)}
            wanted = [key(name) for name in known]
            # One name for two labels, or one model label too many, is no match.
            if len(ids) == len(names) == len(set(wanted)) and set(wanted) == set(ids):
                return np.array([ids[name] for name in wanted], dtype=np.int64)
    raise InputError(
        f"{source}: its labels ({listed(names)}) are not those of task {task.name} ({listed(task.label_names)})"
        f"{otherwise}"
    )


def adopt_model_labels(task: Task, id2label: Mapping[int, str]) -> Task:
    """For own data: the task with the model's label names, where these cover all that are in the data.

    So a file that lacks one of the model's labels, or a test file without any, still fits the model. Of a model with
    generic names the ids count, for labels that are numbers. GLUE's tasks, and own tasks whose labels the model does
    not have, are returned as they are (match_labels then says what is wrong).
    """
    names = [id2label[key] for key in sorted(id2label, key=int)]
    if not task.own_data:
        return task
    if task.label_names and is_generic(names):
        names = [str(number) for number in range(len(names))]
    of_model = {folded(name) for name in names}
    # A label keeps the spelling it has in the data, by which its rows are read.
    in_data = {folded(name): name for name in task.label_names}
    if len(of_model) != len(names) or len(in_data) != len(task.label_names) or not set(in_data) <= of_model:
        return task
    return dataclasses.replace(task, label_names=tuple(in_data.get(folded(name), name) for name in names))


def folded(name: str) -> str:
    """A label's name as it is compared."""
    return str(name).strip().casefold()


def is_generic(names: Iterable[str]) -> bool:
    """Whether the names say nothing: LABEL_0, LABEL_1, ..."""
    names = list(names)
    return [folded(name) for name in names] == [f"label_{number}" for number in range(len(names))]
