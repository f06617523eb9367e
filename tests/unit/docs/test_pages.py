"""What the pages point at is there: links, headings, files, options, make targets; every command is understood."""

import contextlib
import io
import re
import runpy
import shlex
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from distilbart_mnli.options.fields import OPTIONS
from distilbart_mnli.options.read import parse_arguments
from tests.support import documents
from tests.support.documents import PAGES, ROOT

MODULES = re.compile(r"\b(?:benchmarks|examples|tests|distilbart_mnli)(?:\.\w+)+|examples\.\w+")
EXAMPLES = ("examples.questions", "examples.distillation")
SCRIPTS = ("create_student.py", "compare_models.py", "classify.py", "download_glue_data.py", "export_onnx.py")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_links_inside_the_repository_resolve(page: Path):
    for link in documents.links(page):
        if re.match(r"(?:https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in documents.anchors(target), f"{page.name}: {link}"


@each_page
def test_files_that_a_page_names_are_there(page: Path):
    """A path in code type that begins with a folder of the repository."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"glue_data"}
    for code in documents.inline_code(page):
        if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)+/?", code) and code.split("/")[0] in folders - {"outputs"}:
            assert (ROOT / code).exists() or (page.parent / code).exists(), f"{page.name}: {code}"


@cache
def known_options(program: str, *subcommand: str) -> frozenset[str]:
    """The options of a script or a module of the repository, or of accelerate launch, from its own --help."""
    if program == "accelerate launch":
        return frozenset(launch_command_parser()._option_string_actions)  # its --help hides most of them
    if program == "run_glue.py":
        return frozenset(f"--{prefix}{name}" for name in OPTIONS for prefix in ("", "no_")) | {"--help", "--help_all"}
    shown = io.StringIO()
    before, sys.argv = sys.argv, [program, *subcommand, "--help"]
    try:
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # runpy, of a module that a test has imported
            if program.endswith(".py"):
                runpy.run_path(str(ROOT / program), run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__")
    finally:
        sys.argv = before
    return options_in(shown.getvalue())


def options_in(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", text))


def parts(command: str) -> list[tuple[str, list[str]]]:
    """(program, its words) of a command line: a launcher and what it launches are two."""
    words = shlex.split(command)
    if words[:2] == ["accelerate", "launch"]:
        at = next((i for i, word in enumerate(words) if word.endswith(".py")), len(words))
        return [("accelerate launch", words[2:at]), *parts(shlex.join(["python", *words[at:]]))]
    if words[0].endswith("python") and len(words) > 1:
        rest = words[2:] if words[1] == "-m" else words[1:]
        return [(rest[0], rest[1:])]
    return [(words[1], words[2:]) if words[0] == "bash" else (words[0], words[1:])]


@each_page
def test_commands_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch):
    """Programs, files and make's targets are there; options are known; run_glue.py takes every value."""
    monkeypatch.chdir(ROOT)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in documents.commands(page):
        for program, words in parts(re.sub(r"^(?:\w+=\S*\s+)+", "", command) or "true"):
            if program == "make":
                assert {word for word in words if "=" not in word} <= targets, command
            if program == "run_glue.py":
                assert "$" in command or parse_arguments(words), command
            elif program in SCRIPTS or program == "accelerate launch" or MODULES.fullmatch(program):
                subcommand = [word for word in words[:1] if word in ("list", "prune")]
                assert options_in(" ".join(words)) <= known_options(program, *subcommand), command
            elif "/" in program and not program.startswith(".venv/"):
                assert (ROOT / program).is_file(), command


def test_options_that_the_text_names_are_options_of_something():
    mentioned = {
        (page.name, option)
        for page in PAGES
        for code in documents.inline_code(page)
        for option in options_in(code)
        if not code.startswith("scancel")
    }
    modules = [
        f"benchmarks.{name}"
        for name in ("train_speed", "whole_table", "zero_shot", "padding", "row_checksums", "onnx_int8")
    ]
    programs = ("run_glue.py", "accelerate launch", *SCRIPTS, *modules, *EXAMPLES, "tests.support.stress")
    known = frozenset().union(*map(known_options, programs))
    assert not {(page, option) for page, option in mentioned if option not in known}


def test_every_option_stands_in_the_page_of_options_with_its_default():
    page = documents.OPTIONS_PAGE.read_text(encoding="utf-8")
    assert page == documents.options_page(), "python -m tests.support.documents writes the page anew"
    tables = page.partition(documents.TABLES_BEGIN)[2]
    rows = dict(re.findall(r"^\| `--(\w+)` \| (.+?) \|", tables, re.MULTILINE))
    assert list(rows) == list(OPTIONS)
    # Three by hand: a number, a switch, and an option whose default is none.
    assert (rows["learning_rate"], rows["do_train"], rows["data_dir"]) == ("`5e-05`", "`false`", "none")


def test_the_readme_is_short_and_every_page_says_what_it_is_for():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170
    index = {link.partition("#")[0] for link in documents.links(ROOT / "docs" / "README.md")}
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "README.md":
            assert "After this page you" in page.read_text(encoding="utf-8").split("\n\n")[1], page.name
            assert page.name in index
