"""How the model card writes numbers, names and commands in Markdown."""

import shlex
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from distilbart_mnli.public_text import public_command, without_paths
from distilbart_mnli.publish.card_facts import is_hub_id, is_number


def percent(fraction: float) -> str:
    """A fraction in percent with two decimals, rounded half up on the decimal digits that the file shows.

    0.87125 is "87.13 %"; formatting the binary float would round it to even, "87.12".
    """
    return f"{(Decimal(repr(float(fraction))) * 100).quantize(Decimal('0.01'), ROUND_HALF_UP)} %"


def number(value: float, decimals: int = 4) -> str:
    """A measured number: thousands separators, and at most `decimals` decimals; below those as it is, 3e-05."""
    if float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) < 10**-decimals:
        return option(value)
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded.normalize():,f}"


def option(value: float) -> str:
    """A number that somebody chose, as it was written: 500, 3e-05, 0.98."""
    return f"{value:.12g}"


def cell(value: Any) -> str:
    """Text that stays inside its table cell, without local paths."""
    text = without_paths(" ".join(str(value).split()))
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def link(name: str) -> str:
    """A model's name: a link if it is on the Hub."""
    return f"[{name}](https://huggingface.co/{name})" if is_hub_id(name) else f"`{name}`"


def layer_list(ids: Sequence[int]) -> str:
    """ "0 to 11", or "0, 6, 11"."""
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]} to {ids[-1]}"
    return ", ".join(map(str, ids))


def command_lines(command: str) -> str:
    """A shell command to publish; a long one has each --option on a line of its own."""
    command = public_command(command)
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:  # an unclosed quote
        words = []
    if words and len(command) >= 90:
        command = "".join((" \\\n    " if word.startswith("--") else " ") + word for word in words).lstrip()
    return command.replace("```", "")


_SHARES = ("accuracy", "f1", "agreement")  # words in keys of tradeoffs.json whose fractions are shown in percent


def figure(value: Any, key: str) -> str:
    """A value of tradeoffs.json for a table cell; empty if there is nothing to show."""
    if is_number(value):
        is_share = any(word in key for word in _SHARES) and isinstance(value, float) and 0 <= value <= 1
        return percent(value) if is_share else number(value)
    return cell(value) if isinstance(value, str) else ""
