"""The `resume` object in a checkpoint's trainer_state.json: what a training needs to go on, beside the tensors.

    values = dataclasses.asdict(Record(...))            # into JSON
    record = from_json(Record, values, "resume")        # and back; ValueError for anything else

A checkpoint can be another release's, or anybody's. Every key and every type is checked here, so that what reads a
Record can rely on it, and no path is made of what stands in a file: a checkpoint is named by its step, a number.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

from distilbart_mnli.train.state import Progress

T = TypeVar("T")

MAY_BE_ABSENT = ("evaluation_due", "decides_bits")
"""Fields that older checkpoints, good otherwise, do not have."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """JSON in, JSON out."""

    run_id: str
    run_started: float
    position: int
    """Optimizer steps done in the current epoch; for readers."""
    progress: Progress
    optimizer_groups: list[dict[str, Any]]
    """The numbers of AdamW's groups (state.group_values)."""
    scheduler: dict[str, Any]
    scaler: dict[str, Any] | None
    """fp16's loss scale."""
    encoder_cache: bool
    """Whether the training read the encoder's states from a cache."""
    encoder_cache_dtype: str | None
    recipe: dict[str, Any]
    """What decides the weights (recipe.make_recipe)."""
    versions: dict[str, str]
    """Of the libraries."""
    decides_bits: dict[str, Any] | None = None
    """What decides their bits beside it (recipe.decides_bits)."""

    def __post_init__(self) -> None:
        progress = self.progress
        best = progress.best_step
        if progress.step < 0 or (best is not None and not 0 < best <= progress.step):
            raise ValueError(f"its steps are impossible (step {progress.step}, best_step {best})")
        if any(len(pair) != 2 for pair in progress.window):
            raise ValueError("progress.window is no list of pairs")

    @property
    def needs_best(self) -> str | None:
        """Name of the best checkpoint so far, if the run is to end with it."""
        best = self.progress.best_step
        return f"checkpoint-{best}" if best is not None and self.recipe.get("load_best_model_at_end") else None


def from_json(kind: type[T], values: object, name: str) -> T:
    """A dataclass from a JSON object that has its fields, each of its type, and no others.

    Args:
        name: of the object, for messages.

    Raises:
        ValueError: names the key that is lacking, unknown, or of another type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{name} is no object")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    lacking = [key for key in hints if key not in values and key not in MAY_BE_ABSENT]
    if unknown or lacking:
        what = f"has an unknown key, {unknown[0]!r}" if unknown else f"lacks the key {lacking[0]!r}"
        raise ValueError(f"{name} {what}: written by another release?")
    read: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            read[key] = from_json(typing.cast(type, hint), value, f"{name}.{key}")
        elif fits(value, hint):
            read[key] = value
        else:
            raise ValueError(f"{name}.{key} is of another type")
    return kind(**read)


def fits(value: object, hint: Any) -> bool:
    """Whether a value of JSON is of an annotated type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, choice) for choice in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(entry, inner[0]) for entry in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(entry, inner[1]) for entry in value.values())
    if hint in (int, float):
        number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return number and abs(typing.cast(float, value)) < 2**63  # neither NaN nor what no float can hold
    return isinstance(value, hint)


def same_keys(saved: object, expected: object, name: str) -> None:
    """Check a state that a library defines against what it says of itself now.

    Raises:
        ValueError: an object lacks a key or has one too many, a list is of another length, a number is none.
    """
    if isinstance(expected, dict):
        if not isinstance(saved, dict) or set(saved) != set(expected):
            odd = set(saved) ^ set(expected) if isinstance(saved, dict) else {"it is none"}
            raise ValueError(f"{name} does not have the keys of this release: {', '.join(sorted(map(str, odd)))}")
        for key in expected:
            same_keys(saved[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, list) and not (isinstance(saved, list) and len(saved) == len(expected)):
        raise ValueError(f"{name} is no list of {len(expected)}")
    elif isinstance(expected, list):
        for number, (one, other) in enumerate(zip(saved, expected, strict=True)):  # type: ignore[call-overload]
            same_keys(one, other, f"{name}[{number}]")
    elif isinstance(expected, int | float) and not isinstance(saved, int | float):
        raise ValueError(f"{name} is no number")
