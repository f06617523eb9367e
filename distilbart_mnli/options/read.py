"""The reader of run_glue.py's options: JSON, YAML, flags, the names of 2020.

Values come from the defaults (fields.py), then from the JSON or YAML file, then from flags, each winning over the one
before. File and flags go through one converter. Nothing is touched (no folder made, no model read) before all of it
is known to be good.
"""

import json
import logging
import math
import os
import typing
from pathlib import Path
from typing import Any, Literal

from distilbart_mnli.command_line import did_you_mean
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.checks import shown
from distilbart_mnli.options.fields import OPTIONS, VERBATIM, Arguments
from distilbart_mnli.options.help import help_all, help_text
from distilbart_mnli.options.names import OLD_NAMES, stray_word, unknown_option
from distilbart_mnli.options.rules import check_together
from distilbart_mnli.yaml_text import LONGEST, read_yaml

logger = logging.getLogger(__name__)

HELP = {"-h": help_text, "--help": help_text, "--help_all": help_all, "--help-all": help_all}
TRUTH = {**dict.fromkeys(("true", "yes", "1", "on"), True), **dict.fromkeys(("false", "no", "0", "off"), False)}
FILE_ENDINGS = (".json", ".yaml", ".yml")


def parse_arguments(argv: list[str]) -> Arguments:
    """Read `[FILE] [--option value ...]`, without the program's name.

    Raises:
        InputError: an unknown option (with the nearest known one), a wrong type, a value out of range, options that
            exclude each other, a file that cannot be read.
        SystemExit: with 0 after --help or --help_all.
    """
    asked = [text for flag, text in HELP.items() if flag in argv]
    if asked:
        print(asked[-1]())
        raise SystemExit(0)
    values: dict[str, Any] = {}
    if argv and not argv[0].startswith("-"):
        path = Path(os.path.expanduser(argv[0]))  # noqa: PTH111 - ~name of nobody stays as it is
        in_file = read_file(path)
        if in_file.get("hub_token") is not None:
            raise InputError(f"{path}: hub_token must not stand in a file; use HF_TOKEN or `hf auth login`")
        values.update(_checked(in_file, str(path)))
        argv = argv[1:]
    values.update(_checked(_read_flags(argv), "command line"))
    args = Arguments(**values)
    check_together(args)
    return args


def read_file(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON or YAML file (by its ending).

    Raises:
        InputError: no such file, not UTF-8, not JSON or YAML (with the line), no object, a key that stands twice, a
            value that JSON cannot hold.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise InputError(f"{path}: longer than {LONGEST:,} bytes; expected a file of options")
        text = data.decode("utf-8-sig")
        is_yaml = path.suffix in (".yaml", ".yml")
        values = read_yaml(text) if is_yaml else json.loads(text, object_pairs_hook=_no_key_twice)
    except FileNotFoundError:
        near = did_you_mean(path.name, [file.name for file in path.parent.glob("*.*")])
        hint = near or "expected a file of options, such as args.json"
        raise InputError(f"{path}: no such file in {Path.cwd()}; {hint}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; expected a file of options") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected an object of options, found {type(values).__name__}")
    return values


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key} stands twice")
        seen[key] = value
    return seen


def _read_flags(argv: list[str]) -> dict[str, Any]:
    rest, values = list(argv), {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise stray_word(word, "a file of options goes first" if Path(word).suffix in FILE_ENDINGS else "")
        flag, equals, value = word[2:].partition("=")
        flag = flag.replace("-", "_")
        negated = flag.startswith("no_") and flag not in OPTIONS and flag not in OLD_NAMES
        name = flag[3:] if negated else flag
        if name not in OPTIONS and (negated or name not in OLD_NAMES):
            raise unknown_option(name, "command line")
        is_switch = name in OLD_NAMES or OPTIONS[name].is_switch
        if negated:
            if OPTIONS[name].kind is not bool:
                raise InputError(f"command line: --{flag}: {name} is not true or false, so it has no --no_ form")
            if equals:
                raise InputError(f"command line: --{flag} takes no value; use --{name} true|false")
            value = "false"
        elif not equals:
            if rest and not rest[0].startswith("--") and not (is_switch and Path(rest[0]).suffix in FILE_ENDINGS):
                value = rest.pop(0)
                while name in OPTIONS and OPTIONS[name].kind is list and rest and not rest[0].startswith("-"):
                    value += f",{rest.pop(0)}"  # several words, as for transformers' parser
            elif is_switch:
                value = "true"
            else:
                raise InputError(f"command line: --{name} needs a value: {OPTIONS[name].expected}")
        verbatim = name in OPTIONS and VERBATIM in OPTIONS[name].checks
        values[name] = None if value.lower() in ("none", "null") and not verbatim else value
    return values


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Known names, each with a value of its declared type; of an old and a new name for one option, the new wins."""
    values = _renamed(values, where) | {name: value for name, value in values.items() if name not in OLD_NAMES}
    for name in values:
        if name not in OPTIONS:
            raise unknown_option(name, where)
    return {name: _value(name, value, where) for name, value in values.items()}


def _renamed(values: dict[str, Any], where: str) -> dict[str, Any]:
    """What the names of 2020 among `values` are called now."""
    renamed: dict[str, Any] = {}
    for name in (name for name in values if name in OLD_NAMES):
        new, value = OLD_NAMES[name], values[name]
        if new is None:
            logger.info("%s: %s has no effect any more", where, name)
            continue
        now = {new: value} if isinstance(new, str) else new.get(convert(bool, value))
        if now is None:
            raise InputError(f"{where}: {name} must be true or false, not {shown(value)}")
        if name == "warmup_ratio" and (convert(float, value) or 0) >= 1:  # warmup_steps would take it for steps
            raise InputError(f"{where}: warmup_ratio must be a share of all steps, below 1, not {shown(value)}")
        logger.info("%s: %s is now %s", where, name, ", ".join(f"{k}={v}" for k, v in now.items()) or "the default")
        renamed.update(now)
    return renamed


def _value(name: str, value: Any, where: str) -> Any:
    """The value as the option's declared type.

    Raises:
        InputError: naming the option, where it stood, the type expected and the value found.
    """
    option = OPTIONS[name]
    if value is None and option.optional:
        return None
    if VERBATIM in option.checks and (value == "" or type(value) in (int, float)):  # -1 in a file is the word
        return str(value)
    if option.is_switch and option.kind is str and (truth := convert(bool, value)) is not None:
        return "true" if truth else None
    found = convert(option.kind, value)
    if found is None:
        raise InputError(f"{where}: {name} must be {option.expected}, not {shown(value)}")
    try:
        for check in filter(callable, option.checks):
            found = check(found)
    except ValueError as error:
        raise InputError(f"{where}: {name} {error}") from None
    return found


def convert(kind: Any, value: Any) -> Any:
    """`value` as a `kind` of fields.py; None: it is none.

    Text (from a flag, or a number written as text in a file) is read as the kind; nothing else changes its type, so a
    list, an object or a true where a number belongs is none.
    """
    if typing.get_origin(kind) is Literal:
        word = json.dumps(value) if isinstance(value, bool) else value
        return word if word in typing.get_args(kind) else None
    try:
        if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if kind is int:  # 3.0 is one, 3.5 is none; from 2**53 on a float skips numbers
                return int(number) if number.is_integer() and abs(number) < 2**53 else None
            return number if math.isfinite(number) else None
        if isinstance(value, str):
            if kind is str:  # a path, say: no zero byte, and not half a character (JSON's "\ud800")
                return value if value and b"\0" not in value.encode() else None
            if kind is bool:
                return TRUTH.get(value.lower())
            value = json.loads(value) if kind is dict else [part for part in map(str.strip, value.split(",")) if part]
        json.dumps(value, allow_nan=False)  # as training_args.json will hold it
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return value if type(value) is kind else None
