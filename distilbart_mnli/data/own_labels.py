"""The classes in the label columns of the user's own files.

    names = class_names({"train": columns, "validation": columns}, of_model=["entailment", ...])

A label is compared without the spaces around it, a whole number by its value: 1, 1.0 and 01 are one class. Scores,
several labels a text, and two labels that differ only in how they look are refused. Marks for "no label" (-1 among 0,
1 and 2, or -) are a class like any other, so there is a warning; ignore_label leaves their rows out.
"""

import logging
import re
import shlex
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from distilbart_mnli.data.labels import folded
from distilbart_mnli.data.tables import Columns, listed_numbers, same
from distilbart_mnli.data.tasks import is_no_label, listed
from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"[-+]?[0-9]{1,18}")
SCORE = re.compile(r"[-+]?[0-9]*\.[0-9]+([eE][-+]?[0-9]+)?")
LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)
BETWEEN_LABELS = re.compile(r"[,;|]")
MNLI_NUMBERS = ("entailment", "neutral", "contradiction")  # 0, 1 and 2 of MNLI and SNLI on the Hub


@dataclass
class FoundLabel:
    """A label, and where it stands."""

    first: str
    """ "train.csv, line 2" """
    spellings: set[str] = field(default_factory=set)
    rows: dict[str, list[int]] = field(default_factory=dict)
    """Set -> positions of its rows."""


def class_names(sets: Mapping[str, Columns], of_model: Collection[str]) -> list[str]:
    """The names of the classes, each as it is written; of a number's spellings the model's, else the shortest without
    decimals.

    Args:
        sets: "train", "validation" -> what was read, with the role "label".
        of_model: the names of the labels that the model has: none of these looks like a mark, or is new.

    Raises:
        InputError: these are no classes; with file, line and what was expected.
    """
    found: dict[str, FoundLabel] = {}
    for name, columns in sets.items():
        for row, word in enumerate(columns.values["label"]):
            label = found.get(key := same(word))
            if label is None:
                _check_class(columns, row, key)
                label = found[key] = FoundLabel(columns.place(row))
            label.spellings.add(word.strip())
            label.rows.setdefault(name, []).append(row)
    _check_apart(found)
    known = {folded(same(name)): name for name in of_model}
    names = []
    for key, label in found.items():
        if folded(key) not in known:
            _warn(key, label, found, sets)
        name = key
        if NUMBER.fullmatch(key):
            whole = sorted(word for word in label.spellings if "." not in word)
            name = known.get(key) or min(whole, key=len, default=key)
        names.append(name)
    return names


def are_numbers(names: Collection[str]) -> bool:
    """Whether all labels, of which there are some, are whole numbers."""
    return bool(names) and all(NUMBER.fullmatch(name) for name in names)


def refuse_other_labels(where: str, labels: Sequence[str], names: Sequence[str]) -> None:
    """Raises InputError for labels that are not the model's, where more can be said of it than that.

    Args:
        labels: of the data, as class_names has them.
        names: of the model.
    """
    folded_names = {folded(name) for name in names}
    strange = [label for label in labels if folded(label) not in folded_names]
    if strange and len(strange) < len(labels) and all(map(is_no_label, strange)):
        raise InputError(
            f"{where}: the label {strange[0]!r} is none of the model's ({listed(names)}); if it means that a row has "
            f"none, --ignore_label {shlex.quote(strange[0])} leaves such rows out"
        )
    if are_numbers(labels) and not are_numbers(names):
        _refuse_numbers(where, labels, names)


def _refuse_numbers(where: str, numbers: Sequence[str], names: Sequence[str]) -> None:
    """Only the user knows which number stands for which name."""
    known = MNLI_NUMBERS if {folded(name) for name in names} == set(MNLI_NUMBERS) else names
    pairs = ", ".join(f"{number}: {name!r}" for number, name in zip(numbers, known, strict=False))
    whose = "the numbers of MNLI and SNLI on the Hub" if known is MNLI_NUMBERS else "say"
    raise InputError(
        f"{where}: its labels are the numbers {listed(numbers)}, the model's are {listed(names)}; write the names "
        f"into the file, in pandas with .map({{{pairs}}}), {whose}; or give --reinit_classifier true for a new head"
    )


def _check_class(columns: Columns, row: int, word: str) -> None:
    place, column = columns.place(row), columns.names["label"]
    if not word or SCORE.fullmatch(word):
        hint = "; --ignore_label '' leaves such rows out" if not word else ""
        raise InputError(f"{place}: expected the name of a class in {column}, found {word[:60]!r}{hint}")
    if LIST.fullmatch(word):
        raise _several(place, column, word)


def _several(place: str, column: str, word: str) -> InputError:
    return InputError(f"{place}: several labels in {column}, {word[:60]!r}; a text can have only one here")


def _check_apart(found: Mapping[str, FoundLabel]) -> None:
    """Refuse labels that are made of others, or that only look different."""
    alike: dict[str, str] = {}
    for key, label in found.items():
        parts = [same(part) for part in BETWEEN_LABELS.split(key)]
        if len(parts) > 1 and all(part in found for part in parts):
            raise _several(label.first, "the label", key)
        looks = " ".join(unicodedata.normalize("NFKC", key).casefold().split())
        other = alike.setdefault(looks, key)
        if other != key:
            raise InputError(
                f"{label.first}: the label {key!r} and {other!r} ({found[other].first}) differ only in case or "
                "spaces; write them one way"
            )


def _warn(key: str, label: FoundLabel, found: Mapping[str, FoundLabel], sets: Mapping[str, Columns]) -> None:
    """Log a class that looks like a mark for "no label", or that training will never see."""
    for name, rows in label.rows.items():
        columns = sets[name]
        where = listed_numbers(columns.unit, [columns.numbers[row] for row in rows])
        where = f"{len(rows)} rows ({where})"
        if is_no_label(key) and set(found) != {"-1", "1"}:
            logger.warning(
                "%s: the label %r looks like a mark for no label; it is a class here, of %s; --ignore_label %s leaves "
                "them out",
                *(columns.path, key, where, shlex.quote(key)),
            )
        elif "train" in sets and "train" not in label.rows:
            logger.warning("%s: the label %r of %s is in no training row", columns.path, key, where)
