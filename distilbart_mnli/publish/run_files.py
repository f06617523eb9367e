"""Reading the files of a run, which may be damaged, older, or anybody's: what is odd is one line, never a traceback.

results = read_json(output_dir / "all_results.json")       # Values: a key that is not there is None
"""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from distilbart_mnli.data.tasks import set_suffix
from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)


class Values(dict[str, Any]):
    """The values of one JSON file; what it does not say is None."""

    def __missing__(self, key: str) -> None:
        return None


def read_json(path: Path) -> Values:
    """The object in `path`; empty if there is no such file, or a link in its place, which may lead to anybody's.

    What is of another type than a run writes counts as absent, with a warning.

    Raises:
        InputError: it cannot be read, is not JSON, or no object.
    """
    if path.is_symlink():
        logger.warning("%s is a link, which is not followed: it counts as absent", path)
    if path.is_symlink() or not path.is_file():
        return Values()
    return _of_known_types(read_object(path), _TYPES.get(path.name, {}), str(path))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, as it stands there.

    Raises:
        InputError: it cannot be read, is not JSON, or no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON ({error}); it is one of the files that a run writes") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(values).__name__}; a run writes this file")
    return values


def _of_known_types(values: dict[str, Any], types: dict[str, Callable[[Any], bool]], where: str) -> Values:
    odd = [key for key, is_one in types.items() if values.get(key) is not None and not is_one(values[key])]
    if odd:
        logger.warning("%s: %s has another type than a run writes and counts as absent", where, ", ".join(odd))
    known = Values({key: value for key, value in values.items() if key not in odd})
    if known["run"] is not None and "run" in types:
        known["run"] = _of_known_types(known["run"], _TYPES_OF_RUN, f"{where}, run")
    return known


def read_results(folder: Path) -> Values:
    """eval_results_<set>.txt, all that the scripts of 2020 wrote: "key = value" lines."""
    prefix = "eval_results_"
    found = [path for path in folder.glob(f"{prefix}*.txt") if path.is_file() and not path.is_symlink()]
    sets = sorted((path.stem.removeprefix(prefix) for path in found), key=len)
    results = Values()
    for name in sets:
        suffix = set_suffix(name, sets[0])
        text = (folder / f"{prefix}{name}.txt").read_text(encoding="utf-8", errors="replace")
        for key, value in re.findall(r"^(\w+) *= *(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?) *$", text, re.MULTILINE):
            results[key.removesuffix(suffix) + suffix] = float(value)
    return results


def is_number(value: Any) -> TypeGuard[int | float]:
    """A finite int or float of a size that a run can measure; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


# ---------------------------------------------------------------------------------------------------------------------
# Types


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(is_one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_one, value))


def _is_label_map(value: Any) -> bool:
    return isinstance(value, dict) and all(re.fullmatch("[0-9]{1,9}", key) for key in value)


# What the card takes as it stands from files that may come from elsewhere, or be damaged; numbers are looked at where
# they are shown.
_TYPES_OF_RUN: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        "id command task hardware mixed_precision license license_name license_link date".split(), _is_text
    ),
    "versions": _is_object,
    "tracker_urls": _is_object,
    "train_examples": is_number,
    "language": lambda value: _is_text(value) or _list_of(_is_text)(value),
}
_TYPES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "config.json": {
        "id2label": _is_label_map,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), _is_count),
        **dict.fromkeys(("encoder_layer_ids", "decoder_layer_ids"), _list_of(_is_count)),
        **dict.fromkeys(("teacher_name_or_path", "dtype"), _is_text),
    },
    "training_args.json": dict.fromkeys(
        (
            "hub_model_id model_name_or_path teacher_model_name_or_path config_name license task_name data_dir "
            "lr_scheduler_type metric_for_best_model sentence2_key"
        ).split(),
        _is_text,
    ),
    "trainer_state.json": {"run": _is_object, "log_history": _list_of(_is_object)},
    "tradeoffs.json": {"devices": _list_of(_is_object)},
    "quantization.json": dict.fromkeys(("data", "sha256"), _is_text),
}
