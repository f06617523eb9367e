"""YAML of strangers: what people mean by it, and bounded time and memory whatever stands in it."""

import json

import pytest
import yaml

from distilbart_mnli.yaml_text import LONGEST, read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: [x, 'y', null, true, 2.5]\nc:\n- d: {e: ''}\n",
        "base: &base {x: 1, y: [2]}\nuse:\n  <<: *base\n  x: 3\nagain: *base\n",
        "",
        "- 1\n- - 2\n",
        "text: |\n  two\n  lines\n",
    ],
)
def test_plain_yaml_means_what_it_means_to_pyyaml(text):
    assert read_yaml(text) == yaml.safe_load(text)


def test_words_dates_and_small_numbers_are_what_their_writer_meant():
    values = read_yaml("language: no\nlicense: 2020-10-01\nrate: 3e-5\nat: 1:30\nzeros: 010\nx: !!str 5\n")
    assert values == {
        "language": "no",
        "license": "2020-10-01",
        "rate": 3e-5,
        "at": "1:30",
        "zeros": "010",
        "x": "5",
    }


def laughs(first: str, repeat: str) -> str:
    """Eleven levels, each ten times the one before: 10**11 of the first."""
    levels = [f"a0: &a0 {first}"]
    levels += [f"a{i}: &a{i} {repeat.format(','.join([f'*a{i - 1}'] * 10))}" for i in range(1, 12)]
    return "\n".join(levels)


ATTACKS = {
    "lists": laughs("[1]", "[{}]"),
    "merges": laughs("{x: 1}", "{{<<: [{}]}}"),
    "keys and values": laughs("[1]", "{{x: [{}]}}"),
    "a long text, repeated": "a: &a '" + "x" * 50_000 + "'\nb: [" + ",".join(["*a"] * 10_000) + "]",
    "itself": "a: &a [1, *a]",
    "itself as a key": "&a {*a : 1}",
    "itself, merged": "&a {<<: *a}",
    "deep": "[" * 50_000,
    "deep, by lines": "- " * 40_000,
    "long": "x" * (LONGEST + 1),
    "two documents": "a: 1\n---\nb: 2\n",
    "a key twice, inside": "a:\n  b: 1\n  b: 2\n",
    "bytes": "license: !!binary aGVsbG8=",
    "a set": "license: !!set {a, b}",
    "a date": "license: !!timestamp 2020-10-01",
    "no date": "license: !!timestamp 2020-13-45",
    "a list as key": "? [a]\n: 1",
    "code": "!!python/object/apply:os.system ['true']",
    "digits": "seed: " + "9" * 6000,
    "a zero byte": "a: \0",
    "no text for a number": "seed: !!int x",
    "no end": "a: 'b",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(name):
    """Unbounded, the first ones would end this process for want of memory, or never."""
    with pytest.raises(ValueError) as caught:
        read_yaml(ATTACKS[name])
    assert str(caught.value)


def test_long_lists_are_read():
    values = [[number] for number in range(1000)]
    assert read_yaml(json.dumps(values)) == values
