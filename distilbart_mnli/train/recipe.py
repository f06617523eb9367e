"""What decides the weights of a training, and what decides their bits beside it: a resumed run must have the same.

recipe(run, steps, digest, train, evaluation)       # another one is refused
decides_bits(run)                                   # another one is a warning, or refused (require_same_bits)
"""

import dataclasses
import json
from typing import Any

import numpy as np

from distilbart_mnli.data.tokens import TokenizedSplit, digest_of, tokenizer_digest, tokenizer_settings
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.processes import gather_objects
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.saving import library_versions
from distilbart_mnli.train.state import Steps

DECIDES_WEIGHTS = (
    "freeze_encoder freeze_embeds frozen_encoder_dropout max_seq_length pad_to_max_length pad_to_multiple_of "
    "train_sampling_strategy per_device_train_batch_size seed data_seed label_smoothing_factor learning_rate "
    "weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm lr_scheduler_type lr_scheduler_kwargs "
    "warmup_steps dropout attention_dropout activation_dropout classifier_dropout attn_implementation "
    "full_determinism torch_compile gradient_checkpointing load_best_model_at_end"
).split()
DECIDES_BY_EVALUATION = (
    "eval_strategy metric_for_best_model greater_is_better early_stopping_patience early_stopping_threshold"
).split()


def make_recipe(
    run: Run, steps: Steps, model_digest: str, train: TokenizedSplit, evaluation: list[TokenizedSplit]
) -> dict[str, Any]:
    """What decides the weights. A resumed run must have the same.

    Args:
        model_digest: of the weights that the training starts from.
    """
    args, names, every = run.args, DECIDES_WEIGHTS, None
    if args.evaluations_decide:
        names = names + DECIDES_BY_EVALUATION
        every = args.evaluation_interval if args.eval_strategy == "steps" else None
    return {
        **{name: getattr(args, name) for name in names},
        "eval_steps": every,
        "total_steps": steps.total,
        "effective_batch_size": run.plan.effective,
        "num_processes": run.accelerator.num_processes,
        "mixed_precision": run.precision,
        "model": model_digest,
        "tokenizer": tokenizer_digest(run.tokenizer),
        "tokenizer_settings": tokenizer_settings(run.tokenizer) or None,
        **_teacher_recipe(run),
        "train_data": text_digest(train.digest, train.labels),
        "evaluation_data": [text_digest(tokens.digest, tokens.labels) for tokens in evaluation],
    }


def _teacher_recipe(run: Run) -> dict[str, Any]:
    """Its share of the recipe; nothing without one, so that older checkpoints still fit."""
    if run.teacher is None:
        return {}
    names = ("fit_encoder",) if run.args.fit_encoder else ("distillation_weight", "distillation_temperature")
    digests = {
        "teacher": run.teacher.digest,
        "teacher_tokenizer": tokenizer_digest(run.teacher.tokenizer),
    }
    return {**digests, **{name: getattr(run.args, name) for name in names}}


def recipe_difference(saved: dict[str, Any], current: dict[str, Any]) -> str | None:
    """What differs between the recipe of a checkpoint and this run's, as "name: then -> now, ..."; None if nothing."""
    different = []
    for name in sorted({*saved, *current}):
        then, now = saved.get(name), current.get(name)
        if then != now:
            shown = [value[:12] if isinstance(value, str) and len(value) == 64 else value for value in (then, now)]
            different.append(f"{name}: {json.dumps(shown[0])} -> {json.dumps(shown[1])}")
    return ", ".join(different) or None


def text_digest(digest: str, labels: np.ndarray | None) -> str:
    """Digest of a set as training sees it: its tokens and its labels."""
    return digest_of(digest, "" if labels is None else labels)


def complete(saved: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a checkpoint, with the defaults of options that it was written before.

    Raises:
        ValueError: it has something that this release does not know, or lacks what is no option.
    """
    options = (*DECIDES_WEIGHTS, *DECIDES_BY_EVALUATION)
    defaults = {field.name: field.default for field in dataclasses.fields(Arguments) if field.name in options}
    unknown = sorted(set(saved) - set(current) - set(options))
    lacking = sorted(name for name in current if not (name in saved or name in defaults or current[name] is None))
    if unknown or lacking:
        what = f"has {unknown[0]!r}, unknown here" if unknown else f"lacks {lacking[0]!r}"
        raise ValueError(f"its recipe {what}: written by another release?")
    return {**{name: defaults[name] for name in current if name in defaults}, **saved}


def decides_bits(run: Run) -> dict[str, Any]:
    """What the last bits depend on beside the recipe: the libraries and what computes. All processes must call it.

    Where the processes differ, a list of what each has.
    """
    found = gather_objects({**library_versions(), **run.device.decides_bits()})
    together = {name: [facts.get(name) for facts in found] for name in found[0]}
    return {name: values[0] if len({*map(str, values)}) == 1 else values for name, values in together.items()}
