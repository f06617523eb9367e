"""Names and defaults are transformers'; --help shows them all."""

import dataclasses
import re

import pytest
from transformers import TrainingArguments as StockArguments

from distilbart_mnli.options.fields import GROUPS, OPTIONS, Arguments, help_texts
from distilbart_mnli.options.help import MATTER
from distilbart_mnli.options.read import parse_arguments


def test_names_and_defaults_are_those_of_transformers_but_for_the_ones_that_readme_lists():
    stock = {field.name: field.default for field in dataclasses.fields(StockArguments)}
    ours = {field.name: field.default for field in dataclasses.fields(Arguments)}
    shared = ours.keys() & stock.keys()
    assert len(shared) > 40

    def plain(default):
        """None, false and "none" mean the same; an enumeration is its value."""
        return None if default is False or default == "none" else getattr(default, "value", default)

    differing = {name for name in shared if plain(stock[name]) != plain(ours[name])}
    assert differing == {"train_sampling_strategy", "dataloader_num_workers", "hub_strategy"}


def shown_help(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        parse_arguments([*words])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_is_one_screen_that_names_every_option(capsys):
    text = shown_help(capsys, "--help")
    lines = text.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 119
    assert set(OPTIONS) <= set(re.findall(r"\w+", text))
    assert all(f"\n  --{name} " in text and help_texts()[name] in text for name in MATTER)
    assert shown_help(capsys, "args.json", "-h") == text


def test_help_all_has_every_option_in_one_line_under_its_group(capsys):
    lines = shown_help(capsys, "--help_all").splitlines()
    texts, titles = help_texts(), [f"{title}:" for title in GROUPS.values()]
    assert list(texts) == list(OPTIONS) == [field.name for field in dataclasses.fields(Arguments)]
    found = [line for line in lines if line.startswith("  --") or line in titles]
    expected = []
    for name in OPTIONS:
        expected += [f"{GROUPS[name]}:", name] if name in GROUPS else [name]
    assert [line.split()[0].removeprefix("--") if line not in titles else line for line in found] == expected
    for name, text in texts.items():
        (line,) = (line for line in found if line.startswith(f"  --{name} "))
        assert text in line and text.endswith((".", ")"))


def test_help_wins_wherever_it_stands(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["no-such-file.json", "--unknown", "-h"])
    assert "usage: run_glue.py" in capsys.readouterr().out
