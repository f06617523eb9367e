"""How a student was trained since its layers were copied: `distillation` in its config.json, one stage a training.

    history = read_history(values.get("distillation"), "model student-6-1")
    how_made(history)                                   # "fitted + logits"; "copied" where it is empty
    config.distillation = with_stage(history, stage)    # when a training ends

create_student.py begins it, empty. A config.json without it says nothing: it is another tool's, or an older release's.
It is published with the model, so a teacher has its public name there. It decides nothing, and may come from anywhere:
what is odd in it is passed over.
"""

import logging
from collections.abc import Sequence
from typing import Any

from distilbart_mnli.model.value_rules import Rule, number, one_of, text, whole

logger = logging.getLogger(__name__)

STATES, LOGITS, LABELS, UNREADABLE = "encoder states", "logits", "labels", "unreadable"
"""What a stage learnt: of a teacher the first two, of the data the third. The last: its record could not be read."""
RULES: dict[str, Rule] = {
    "stage": one_of(STATES, LOGITS, LABELS, UNREADABLE),
    "trained": one_of("encoder", "decoder", "all"),
    "teacher": text(300),
    "loss": text(300),
    "weight": number(1),
    "temperature": number(1_000_000),
    **dict.fromkeys(("rows", "transfer_rows", "steps"), whole(0, 1 << 50)),
    "epochs": number(1_000_000),
    "run": text(64),
}
MOST_STAGES = 100
WORDS = {STATES: "fitted", LOGITS: "logits", LABELS: "labels", UNREADABLE: "unknown"}

Stage = dict[str, Any]
"""A value of each key of RULES that is known; `stage` always is."""


def read_history(value: Any, where: str) -> list[Stage] | None:
    """The stages that stand in a file; None where it says nothing.

    What no run of ours wrote counts, with a warning, as one stage of which nothing is known,
    one that may have had a teacher.
    """
    if value is None:
        return None
    if isinstance(value, list) and len(value) <= MOST_STAGES and all(map(_is_stage, value)):
        return value
    logger.warning("%s: config.json: distillation is no record that a training writes; it is passed over", where)
    return [{"stage": UNREADABLE}]


def _is_stage(value: Any) -> bool:
    return (
        isinstance(value, dict) and "stage" in value and all(k in RULES and RULES[k][0](v) for k, v in value.items())
    )


def with_stage(history: list[Stage] | None, stage: Stage) -> list[Stage]:
    """The history with one more stage; a run that is resumed or repeated, known by its `run`, stands there once."""
    others = [known for known in history or [] if known.get("run", "") != stage.get("run")]
    return [*others, stage][-MOST_STAGES:]


def of_encoder(history: list[Stage] | None) -> list[Stage]:
    """The stages that an encoder takes along to another decoder: those in which it was trained."""
    if history is None:
        return [{"stage": UNREADABLE}]
    return [{**stage, "trained": "encoder"} for stage in history if stage.get("trained") != "decoder"]


def without_runs(history: list[Stage] | None) -> list[Stage] | None:
    """The same of two equal runs."""
    return history and [{key: value for key, value in stage.items() if key != "run"} for stage in history]


def is_distilled(history: Sequence[Stage] | None) -> bool:
    """Whether a teacher's answers were, or may have been, learnt."""
    return any(stage["stage"] != LABELS for stage in history or [])


def how_made(history: list[Stage] | None) -> str | None:
    """ "copied", "labels", "logits", "fitted + logits"; None where nothing is known."""
    if history is None:
        return None
    return " + ".join(WORDS[stage["stage"]] for stage in history) or "copied"
