"""One converter for every source of values: a type is checked the same way wherever a value was written."""

import json
import math
import types
import typing
from typing import Any, Literal

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import field_types

# Lowest and highest allowed value; None: no bound. The bound itself is allowed unless marked "open".
_POSITIVE, _NOT_NEGATIVE, _SHARE = (1, None), (0, None), (0, "open", 1)
RANGES: dict[str, tuple] = {
    **dict.fromkeys(
        [
            "max_seq_length",
            "pad_to_multiple_of",
            "max_train_samples",
            "max_eval_samples",
            "max_predict_samples",
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "effective_batch_size",
            "expected_num_processes",
            "eval_steps",
            "save_steps",
            "save_total_limit",
            "early_stopping_patience",
            "logging_steps",
        ],
        _POSITIVE,
    ),
    **dict.fromkeys(
        [
            "dataloader_num_workers",
            "seed",
            "data_seed",
            "learning_rate",
            "weight_decay",
            "adam_epsilon",
            "max_grad_norm",
            "warmup_steps",
            "early_stopping_threshold",
            "encoder_cache_max_gb",
            "num_train_epochs",
        ],
        _NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        [
            "dropout",
            "attention_dropout",
            "activation_dropout",
            "classifier_dropout",
            "adam_beta1",
            "adam_beta2",
            "label_smoothing_factor",
        ],
        _SHARE,
    ),
}
TRACKERS = ("tensorboard", "wandb", "trackio")


def convert(name: str, value: Any, where: str) -> Any:
    """`value` as the declared type of option `name`.

    Text (from a flag, or a number written as text in a file) is read as the type; nothing else changes its type, so a
    list, an object or a true where a number belongs is refused.

    Raises:
        InputError: naming the option, where it stood, the type expected and the value found.
    """
    declared = field_types()[name]
    options = list(typing.get_args(declared)) if isinstance(declared, types.UnionType) else [declared]
    if value is None:
        if types.NoneType in options:
            return None
        raise InputError(f"{where}: {name} must be {type_name(declared)}, not null")
    for option in options:
        converted = _convert_to(option, value)
        if converted is not _NOT_CONVERTIBLE:
            return _check_range(name, converted, where)
    if name == "resume_from_checkpoint" and isinstance(value, bool):
        return "true" if value else None
    if name == "cache_encoder_outputs" and isinstance(value, bool):
        return str(value).lower()
    raise InputError(f"{where}: {name} must be {type_name(declared)}, not {shown(value)}")


_NOT_CONVERTIBLE = object()
TRUE_WORDS, FALSE_WORDS = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


def _convert_to(kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is Literal:
        return value if isinstance(value, str) and value in typing.get_args(kind) else _NOT_CONVERTIBLE
    if kind is str:
        return value if isinstance(value, str) and value and _is_text(value) else _NOT_CONVERTIBLE
    if kind is bool:
        if isinstance(value, str) and value.lower() in TRUE_WORDS | FALSE_WORDS:
            return value.lower() in TRUE_WORDS
        return value if isinstance(value, bool) else _NOT_CONVERTIBLE
    if kind in (int, float):
        return _convert_to_number(kind, value)
    if kind is list:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return value if isinstance(value, list) and all(isinstance(v, str) for v in value) else _NOT_CONVERTIBLE
    if kind is dict:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (json.JSONDecodeError, RecursionError):
                return _NOT_CONVERTIBLE
        return value if isinstance(value, dict) and _is_json(value) else _NOT_CONVERTIBLE
    return _NOT_CONVERTIBLE


def convert_truth(value: Any) -> bool | None:
    """True or false, in whichever way it is written; None: neither."""
    converted = _convert_to(bool, value)
    return None if converted is _NOT_CONVERTIBLE else converted


def convert_number(value: Any) -> float | None:
    """A finite number, also one written as text; None: it is none."""
    converted = _convert_to(float, value)
    return None if converted is _NOT_CONVERTIBLE else converted


def _is_text(value: str) -> bool:
    """Whether a file can be named so and UTF-8 can hold it (JSON's "\\ud800" is half a character)."""
    try:
        return b"\0" not in value.encode("utf-8")
    except UnicodeEncodeError:
        return False


def _is_json(value: dict) -> bool:
    """Whether an object can be written back as it was read; YAML knows more than JSON does."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (ValueError, TypeError, RecursionError):
        return False


def _convert_to_number(kind: type, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _NOT_CONVERTIBLE
    try:
        number = float(value)
        if not math.isfinite(number):
            return _NOT_CONVERTIBLE
        if kind is float:
            return number
        # 3.0 is a whole number; 3.5 is not. Large integers are read exactly, not through a float.
        whole = int(value) if isinstance(value, int | str) and str(value).lstrip("+-").isdigit() else int(number)
        return whole if whole == number and abs(whole) < 2**63 else _NOT_CONVERTIBLE
    except (ValueError, OverflowError):
        return _NOT_CONVERTIBLE


def _check_range(name: str, value: Any, where: str) -> Any:
    if name == "report_to":
        trackers = [tracker for tracker in value if tracker != "none"]
        for tracker in trackers:
            if tracker not in TRACKERS:
                raise InputError(f"{where}: report_to must name {', '.join(TRACKERS)} or none, not {shown(tracker)}")
        return trackers or None
    if name not in RANGES:
        return value
    low, high = RANGES[name][0], RANGES[name][-1]
    if value < low:
        raise InputError(f"{where}: {name} must be at least {low}, not {value}")
    if high is not None and value >= high:
        raise InputError(f"{where}: {name} must be below {high}, not {value}")
    return value


def type_name(declared: Any) -> str:
    """A declared type in words, for messages and --help."""
    names = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        list: "a list of names",
    }
    if isinstance(declared, types.UnionType):
        return " or ".join(type_name(option) for option in typing.get_args(declared) if option is not types.NoneType)
    if typing.get_origin(declared) is Literal:
        return "one of " + ", ".join(typing.get_args(declared))
    return names.get(declared, "an object")


def shown(value: Any) -> str:
    """A value as a message quotes it, cut to 60 characters."""
    if isinstance(value, str):
        return f"'{value[:60]}'"
    try:
        return json.dumps(value, default=str)[:60]
    except (ValueError, TypeError, RecursionError):  # YAML can write a list that holds itself, and 5,000 digits
        return f"this {type(value).__name__}"
