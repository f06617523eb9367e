"""What a value out of a JSON file may be: a question to it, and what was expected, for the message.

    fits, expected = whole(1, 12)
    fits(12), fits(True), fits("12")        # True, False, False: by type as well

Nothing is converted, and no value can make a question fail.
"""

from collections.abc import Callable
from typing import Any

Rule = tuple[Callable[[Any], bool], str]


def whole(low: int, high: int) -> Rule:
    """An integer from `low` to `high`."""
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high:,}"


def number(high: float) -> Rule:
    """An integer or a float from 0 to `high`."""

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and 0 <= value <= high  # NaN fits nowhere

    return fits, f"a number from 0 to {high:g}"


def one_of(*values: Any) -> Rule:
    """One of these."""
    # By type as well: 1 is no true, and a list cannot be looked up in a set.
    names = " or ".join("null" if value is None else str(value).lower() for value in values)
    return lambda value: any(type(value) is type(known) and value == known for known in values), names


def text(longest: int) -> Rule:
    """A string of at most `longest` characters."""
    return lambda value: isinstance(value, str) and len(value) <= longest, f"a text of at most {longest} characters"
