"""YAML as people mean it, out of files that anybody may have written: a file of options, the front matter of a card.

    metadata, body = read_front_matter(card)
    values = read_yaml(text)        # what JSON can hold: objects, lists, text, numbers, true, false, null

Time and memory are bounded before anything is built: by the length of the text, and by the size of what its aliases
stand for. A few hundred bytes can name ten thousand million values ("billion laughs"), and a value can hold itself.
"""

import json
import re
from typing import Any

import yaml

LONGEST = 100_000
"""Characters of one text. So many brackets take PyYAML 1.5 s and 45 MB; a file of options has 1,000."""
MOST = 1_000_000
"""Characters and values that a text may stand for: what an alias repeats counts as often as it is repeated."""


_FRONT_MATTER = re.compile(r"\s*---[\r\n]+(.*?)[\r\n]+---(?:\r?\n|$)", re.DOTALL)  # as huggingface_hub finds it


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 3e-5 for text, because it has no dot, `no` (a strategy, Norwegian) for false, 2020-10-01 for a
    date, 1:30 for ninety and 010 for eight; everyone who writes them means a number, the word, and texts."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - how PyYAML's loaders are made


for _tag, _first, _pattern in (
    ("null", [*"~nN", ""], "(~|null|Null|NULL|)$"),
    ("merge", ["<"], "<<$"),
    ("bool", [*"tTfF"], "(true|True|TRUE|false|False|FALSE)$"),
    ("int", [*"-+0123456789"], "[-+]?(0|[1-9][0-9]*)$"),
    ("float", [*"-+.0123456789"], r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def read_yaml(text: str) -> Any:
    """The one document in `text`; None if there is none.

    Raises:
        ValueError: not YAML (with the line), more than one document, a key that stands twice, a tag or a value that
            JSON does not know, a text that is too long or too deep or stands for too much.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST:,} characters")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return json.loads(json.dumps(loader.construct_document(node)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}not YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (TypeError, OverflowError) as error:  # bytes, a set, a date by an explicit tag; a key that is a list
        raise ValueError(f"a value that JSON does not know: {error}") from None


def read_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The metadata of a card (the Hub's README.md), {} where it has none, and the text below them.

    Raises:
        ValueError: as read_yaml; or the metadata are no object.
    """
    block = _FRONT_MATTER.match(text)
    if block is None:
        return {}, text
    values = read_yaml(block[1])
    if not isinstance(values, dict | None):
        raise ValueError(f"metadata: expected an object, found {type(values).__name__}")
    return values or {}, text[block.end() :]


def _check_size(root: yaml.Node) -> None:
    """Raises ValueError if what a node stands for is too much, holds itself, or has a key twice."""
    sizes: dict[int, int | None] = {}  # None: being counted

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
                total = sum(size(key) + size(value) for key, value in node.value)
            elif isinstance(node, yaml.SequenceNode):
                total = sum(map(size, node.value))
            else:
                total = len(node.value)
            if total >= MOST:
                raise ValueError(f"line {node.start_mark.line + 1}: its aliases stand for too much")
            sizes[id(node)] = total + 1
        found = sizes[id(node)]
        if found is None:
            raise ValueError(f"line {node.start_mark.line + 1}: a value that holds itself")
        return found

    size(root)


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value} stands twice")
            seen.add(key.value)
