"""How the model card writes numbers, names and commands in Markdown.

Whatever comes out of a file may be anybody's: a teacher's name, its labels, a folder. It goes through `escaped`, or
through `named` and `quoted`, which use it.
"""

import itertools
import json
import re
import shlex
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from distilbart_mnli.public_text import public_command, visible, without_paths
from distilbart_mnli.publish.card_facts import is_hub_id
from distilbart_mnli.publish.run_files import is_number


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


# Markdown's characters (CommonMark 0.31, and GitHub's tables and strikethrough; $ for formulas). An underscore inside
# a word, as in LABEL_0, and a sharp that begins no heading mean nothing; bare addresses become links by themselves.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|(?<!\S)#")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_ADDRESS = re.compile(r"(?<=[:])//|(?<=\b[wW]{3})\.|(?<=\w)@(?=\w)")


def escaped(value: Any) -> str:
    """Text of others as one line of Markdown that shows it as it is, in a table too: no markup, no HTML, no link.

    Local paths are reduced to their last parts, characters that do not print are shown by their numbers.
    """
    text = visible(without_paths(" ".join(str(value).split())))
    text = _ENTITY.sub("&amp;", text).replace("<", "&lt;")
    text = _ADDRESS.sub(lambda found: "".join(f"&#{ord(character)};" for character in found[0]), text)
    return _MARKDOWN.sub(lambda found: "\\" + found[0], text)


def named(name: Any) -> str:
    """A name in the type of code, where it holds nothing that could end that; else as `escaped`."""
    plain = without_paths(str(name))
    return f"`{plain}`" if re.fullmatch(r"[\w.,+=@/-]+", plain) else escaped(name)


def quoted(value: Any) -> str:
    """A text, or texts, as a literal of Python that holds no HTML comment."""
    return json.dumps(value).replace("<", "\\u003c")


def in_code(text: str) -> str:
    """Text for a line of a block of code, which it cannot end, and which holds no HTML comment."""
    return visible(text).replace("```", "").replace("<!--", "<! --")


def link(name: str) -> str:
    """A model's name: a link if it is on the Hub."""
    return f"[{name}](https://huggingface.co/{name})" if is_hub_id(name) else named(name)


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
    lines = [command]
    if words and len(command) >= 90:
        starts = [0, *(place for place, word in enumerate(words) if place and word.startswith("--")), len(words)]
        lines = [" ".join(words[start:end]) for start, end in itertools.pairwise(starts)]
    return " \\\n    ".join(map(in_code, lines))


_SHARES = ("accuracy", "f1", "agreement")  # words in keys of tradeoffs.json whose fractions are shown in percent


def figure(value: Any, key: str) -> str:
    """A value of tradeoffs.json for a table cell; empty if there is nothing to show."""
    if is_number(value):
        is_share = any(word in key for word in _SHARES) and isinstance(value, float) and 0 <= value <= 1
        return percent(value) if is_share else number(value)
    return escaped(value) if isinstance(value, str) else ""
