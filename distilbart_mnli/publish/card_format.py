"""How the model card writes numbers, names, commands and tables in Markdown."""

import shlex
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from distilbart_mnli.public_text import public_command, without_paths
from distilbart_mnli.publish.card_facts import METRIC_NAMES, Facts, Score, is_hub_id, is_number


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


def plural(count: float, word: str) -> str:
    return f"{number(count)} {word}" + ("" if count == 1 else "s")


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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: bool = False) -> str:
    """A Markdown table; with `right` every column but the first is aligned to the right."""
    ruler = ["---"] + ["---:" if right else "---"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *rows])


# ---------------------------------------------------------------------------------------------------------------------
# Tables of a run


def results_table(facts: Facts) -> str:
    """This run's scores in bold, and beside them, in italics, those reported in 2020; empty without a score."""
    if not facts.scores:
        return ""
    metrics = list(dict.fromkeys(score.metric for score in facts.scores))
    head = ["Evaluation set", "Examples", *(f"{METRIC_NAMES[metric][0]}, **this run**" for metric in metrics)]
    head += [f"*Reported in 2020: {model}*" for model in facts.reported_2020]
    rows = []
    for source in dict.fromkeys(score.source for score in facts.scores):
        here = {score.metric: score for score in facts.scores if score.source is source}
        first = next(iter(here.values()))
        # The table of tasks says how many rows GLUE's own file has.
        whole = f" of {number(first.source.rows)}" if first.is_part and first.source and facts.is_glue_data else ""
        row = [first.set_name, number(first.examples) + whole if first.examples else "not counted"]
        row += [f"**{_score(here[metric])}**" if metric in here else "not measured" for metric in metrics]
        row += [f"*{figures[first.kind]} %*" for figures in facts.reported_2020.values()]
        rows.append(row)
    return table(head, rows, right=True)


def _score(score: Score) -> str:
    return percent(score.value) if METRIC_NAMES[score.metric][2] else number(score.value)


_SHARES = ("accuracy", "f1", "agreement")  # words in keys of tradeoffs.json whose fractions are shown in percent


def tradeoff_tables(tradeoffs: Any) -> str:
    """tradeoffs.json as it is: its values as a table of two columns, each list of objects as a table of its own.

    Names and units come from its keys: "latency_ms_p50" is "latency ms p50".
    """
    rows, tables = [], []
    for key, value in _flat(tradeoffs) if isinstance(tradeoffs, dict) else []:
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            heads = list(dict.fromkeys(name for entry in value for name in entry if _shown(entry[name], name)))
            body = [[_shown(entry.get(name), name) or "not measured" for name in heads] for entry in value]
            if heads:
                tables += [f"{key}:", table([_words(name) for name in heads], body, right=True)]
        elif shown := _shown(value, key):
            rows.append((key, shown))
    return "\n\n".join([table(("Measured", "Value"), rows), *tables] if rows else tables)


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = before + _words(key)
        flat += _flat(value, f"{name}: ") if isinstance(value, dict) else [(name, value)]
    return flat


def _words(key: str) -> str:
    return cell(key.replace("_", " "))


def _shown(value: Any, key: str) -> str:
    """A value for a table cell; empty if there is nothing to show."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        is_share = any(word in key for word in _SHARES) and isinstance(value, float) and 0 <= value <= 1
        return percent(value) if is_share else number(value)
    if isinstance(value, str):
        return cell(value)
    if isinstance(value, list) and all(_shown(entry, key) for entry in value):
        return ", ".join(_shown(entry, key) for entry in value)
    return ""
