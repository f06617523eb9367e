"""What the value of one option must be: functions that return what to keep, or raise ValueError with the reason.

    bounded(0)(-1)      # ValueError: must be at least 0, not -1

They stand beside their options in fields.py, in Annotated[type, check]; read.py puts the option's name before the
reason.
"""

import importlib.util
import json
import math
import reprlib
import string
from collections.abc import Callable
from typing import Any

TRACKERS = ("tensorboard", "wandb", "trackio")


def bounded(low: int, end: float = math.inf) -> Callable[[float], float]:
    """The check of a number that is at least `low` and below `end`."""
    bounds = f"at least {low}" if end == math.inf else f"at least {low} and below {end}"

    def check(value: float) -> float:
        if not low <= value < end:
            raise ValueError(f"must be {bounds}, not {value}")
        return value

    return check


def between(low: float, high: float) -> Callable[[float], float]:
    """The check of a number from `low` to `high`, both included."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"must be at least {low} and at most {high}, not {value}")
        return value

    return check


def positive(value: float) -> float:
    """The check of a number above 0."""
    if not value > 0:
        raise ValueError(f"must be above 0, not {value}")
    return value


def steps_or_share(value: float) -> float:
    """The check of a number of optimizer steps: whole, or below 1 a share of all steps, as in transformers."""
    if value >= 1 and value % 1:
        raise ValueError(f"must be a whole number of steps, or below 1 a share of all steps, not {value}")
    return value


def in_steps(value: float, total_steps: int) -> int:
    """What passed steps_or_share as steps: a share rounded up, as in transformers' Trainer."""
    return math.ceil(value * total_steps) if value < 1 else int(value)


def interval(value: float) -> float:
    """The check of the optimizer steps between two events."""
    if value <= 0:
        raise ValueError(f"must be at least 1, or between 0 and 1 a share of all steps, not {value:g}")
    return steps_or_share(value)


def trackers(names: list) -> list[str] | None:
    """The check of report_to; its "none" is as good as no tracker, its "all" those that are installed."""
    if names == ["all"]:
        return [name for name in TRACKERS if importlib.util.find_spec(name)] or None
    for name in names:
        if name not in (*TRACKERS, "none"):
            raise ValueError(f"must name {', '.join(TRACKERS)} or none, not {shown(name)}")
    return [name for name in names if name != "none"] or None


def candidates(names: list) -> list[str]:
    """The check of candidate_labels: texts, each of them once."""
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"must be a list of texts, not {shown(names)}")
    names = [name.strip() for name in names]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"has {shown(name)} twice")
    return names


def template(text: str) -> str:
    """The check of a hypothesis that is made of a label: it has one place for it, {}."""
    try:
        places = [place for _, *place in string.Formatter().parse(text) if place[0] is not None]
    except ValueError:
        places = []
    if places != [["", "", None]]:
        raise ValueError(f"must have one {{}}, where the label goes, not {shown(text)}")
    return text


def shown(value: Any) -> str:
    """A value as a message quotes it: some 60 characters, however long or deep it is."""
    if isinstance(value, str):
        return f"'{value[:60]}'"
    return (reprlib.repr(value) if isinstance(value, list | dict) else json.dumps(value))[:60]
