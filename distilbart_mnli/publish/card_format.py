"""How the model card writes numbers, names and tables in Markdown."""

from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from distilbart_mnli.public_text import without_paths
from distilbart_mnli.publish.card_facts import METRIC_NAMES, Facts, Score, is_hub_id


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


def show_score(score: Score) -> str:
    return percent(score.value) if METRIC_NAMES[score.metric][2] else number(score.value)


def cell(value: Any) -> str:
    """Text that stays inside its table cell, without local paths."""
    text = without_paths(" ".join(str(value).split()))
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: bool = False) -> str:
    """A Markdown table; with `right` every column but the first is aligned to the right."""
    ruler = ["---"] + ["---:" if right else "---"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *rows])


def link(name: str) -> str:
    """A model's name: a link if it is on the Hub."""
    return f"[{name}](https://huggingface.co/{name})" if is_hub_id(name) else f"`{name}`"


def layer_list(ids: Sequence[int]) -> str:
    """ "0 to 11", or "0, 6, 11"."""
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]} to {ids[-1]}"
    return ", ".join(map(str, ids))


def plural(count: float, word: str) -> str:
    return f"{number(count)} {word}" + ("" if count == 1 else "s")


def task_name(facts: Facts) -> str:
    return facts.task.folder if facts.task else "the user's own data"


def data_name(facts: Facts) -> str:
    """ "MNLI, of [nyu-mll/glue](...)", or what is known of other data."""
    if facts.dataset:
        return f"{task_name(facts)}, of [{facts.dataset}](https://huggingface.co/datasets/{facts.dataset})"
    folder = facts.arguments.get("data_dir")
    where = f" (folder `{cell(str(folder).rstrip('/').split('/')[-1])}`)" if folder else ""
    return f"other data in the format of {task_name(facts)}{where}" if facts.task else task_name(facts)
