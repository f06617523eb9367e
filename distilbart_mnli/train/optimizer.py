"""The learning rate's schedule: transformers', by name.

Two of them, reduce_lr_on_plateau and greedy, follow the evaluations instead of the steps, as in transformers' Trainer:
they are stepped with metric_for_best_model after each evaluation.
"""

import math
from typing import Any

import torch
from transformers import get_scheduler

from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS, Arguments


def best_metric(args: Arguments) -> tuple[str, bool]:
    """The metric that chooses the best model, with its eval_, and whether more of it is better."""
    name = "eval_" + (args.metric_for_best_model or "loss").removeprefix("eval_")
    return name, args.greater_is_better if args.greater_is_better is not None else "loss" not in name


def make_schedule(args: Arguments, optimizer: torch.optim.Optimizer, total_steps: int) -> Any:
    """The schedule of a training of `total_steps` optimizer steps (options/read.py has checked what it needs)."""
    options = dict(args.lr_scheduler_kwargs or {})
    if args.lr_scheduler_type in FOLLOW_EVALUATIONS:
        options.setdefault("mode", "max" if best_metric(args)[1] else "min")
    warmup = args.warmup_steps
    return get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=math.ceil(warmup * total_steps) if warmup < 1 else int(warmup),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=options,
    )
