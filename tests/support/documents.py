"""The repository's Markdown pages, as markdown-it reads them: links, headings, tables, code.

python -m tests.support.documents      # writes the tables of docs/options.md anew, from options/fields.py
"""

import dataclasses
import re
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token
from transformers import TrainingArguments

from distilbart_mnli.options.fields import GROUPS, OPTIONS, Arguments, help_texts

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
        *(path for path in (ROOT / "tests").rglob("README.md") if "node_modules" not in path.parts),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "args").rglob("README.md"),
        *(ROOT / "examples").glob("*/README.md"),
    ]
)
OPTIONS_PAGE = ROOT / "docs" / "options.md"
TABLES_BEGIN, TABLES_END = "<!-- begin: from options/fields.py -->\n", "<!-- end -->\n"


@cache
def tokens(page: Path) -> list[Token]:
    """The page's block tokens."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _inline(page: Path, kind: str) -> Iterator[Token]:
    for token in tokens(page):
        yield from (child for child in token.children or () if child.type == kind)


def links(page: Path) -> list[str]:
    """Addresses of links and pictures."""
    targets = [str(link.attrs["href"]) for link in _inline(page, "link_open")]
    return targets + [str(image.attrs["src"]) for image in _inline(page, "image")]


def text(token: Token) -> str:
    """What a reader sees of an inline token."""
    return "".join(child.content for child in token.children or () if child.type in ("text", "code_inline"))


def anchors(page: Path) -> set[str]:
    """What may stand after # in a link to the page, by GitHub's rule: small letters, no punctuation, - for a blank."""
    found: list[str] = []
    for before, token in zip(tokens(page), tokens(page)[1:], strict=False):
        if before.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", text(token).lower()).replace(" ", "-")
            found.append(slug if slug not in found else f"{slug}-{sum(slug == one for one in found)}")
    return set(found)


def inline_code(page: Path) -> list[str]:
    return [code.content.replace("\n", " ") for code in _inline(page, "code_inline")]


def commands(page: Path) -> list[str]:
    """The commands of the page's shell blocks, one a line, without prompts, comments and line breaks."""
    found = []
    for token in tokens(page):
        if token.type == "fence" and token.info == "bash":
            lines = token.content.replace("\\\n", " ").splitlines()
            found += [part.strip() for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split("&&")]
    return [command for command in found if command]


def prose(page: Path) -> str:
    """The page's text without tables and code."""
    parts, in_table = [], False
    for token in tokens(page):
        in_table = token.type == "table_open" or (in_table and token.type != "table_close")
        if token.type == "inline" and not in_table:
            parts.append("".join(c.content if c.type == "text" else " " for c in token.children or ()))
    return "\n".join(parts)


def marked_tables(page: Path, kind: str = "figures") -> list[tuple[str, dict[str, dict[str, str]]]]:
    """(name, {row: {column: cell}}) of every table that follows a line `<!-- KIND: NAME -->`."""
    found = []
    marked = None
    rows: list[list[str]] = []
    for token in tokens(page):
        if mark := re.fullmatch(rf"<!-- {kind}: (.+) -->\s*", token.content if token.type == "html_block" else ""):
            marked = mark[1]
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append(text(token))
        elif token.type == "table_close":
            if marked:
                (_, *columns), *lines = rows
                table = {first: dict(zip(columns, cells, strict=True)) for first, *cells in lines}
                found.append((marked, table))
            marked, rows = None, []
    return found


def shown(value: Any) -> str:
    """A default as the page writes it."""
    if value in (None, [], "none", ""):
        return "none"
    word = str(value).lower() if isinstance(value, bool) else format(value, "g" if isinstance(value, float) else "")
    return f"`{word}`"


def stock_defaults() -> dict[str, Any]:
    """Every option of transformers' TrainingArguments with its default."""
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    made = {name: field.default_factory for name, field in fields.items() if field.default is dataclasses.MISSING}
    return {name: made[name]() if name in made else field.default for name, field in fields.items()}  # type: ignore


def option_tables() -> str:
    """Every option of run_glue.py by group: default, default in transformers, what it does, choices."""
    lines: list[str] = []
    stock = {name: shown(default) for name, default in stock_defaults().items()}
    for name, default in vars(Arguments()).items():
        if name in GROUPS:
            lines += ["", f"### {GROUPS[name].capitalize()}", ""]
            lines += ["| option | default | TrainingArguments | what it does |", "|---|---|---|---|"]
        there = "same" if stock.get(name) == shown(default) else stock.get(name, "")
        kind = OPTIONS[name].kind
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        words = f" One of {', '.join(f'`{choice}`' for choice in choices)}." if len(choices) > 1 else ""
        lines.append(f"| `--{name}` | {shown(default)} | {there} | {help_texts()[name]}{words} |")
    return "\n".join(lines[1:]) + "\n"


def options_page() -> str:
    """docs/options.md with those tables."""
    before, rest = OPTIONS_PAGE.read_text(encoding="utf-8").split(TABLES_BEGIN)
    after = rest.split(TABLES_END)[1]
    return f"{before}{TABLES_BEGIN}\n{option_tables()}\n{TABLES_END}{after}"


if __name__ == "__main__":
    OPTIONS_PAGE.write_text(options_page(), encoding="utf-8")
