"""AdamW's groups, and the learning rate's schedule: transformers', by name.

Two of the schedules, reduce_lr_on_plateau and greedy, follow the evaluations instead of the steps, as in transformers'
Trainer: they are stepped with metric_for_best_model after each evaluation.
"""

import contextlib
import json
from typing import Any

import torch
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from distilbart_mnli.data.metrics import ENCODER_MSE
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.options.checks import in_steps
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS, Arguments


def group_parameters(model: ShortCutBart, weight_decay: float) -> tuple[list[dict[str, Any]], list[str]]:
    """AdamW's two groups, and the names of their parameters in the same order.

    Weight decay is on everything that is trained but biases and layer norms. (2020's pattern "LayerNorm.weight"
    matched none of BART's layer norms, so those decayed.)

    Raises:
        InputError: every parameter is frozen.
    """
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], ["bias"]))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        raise InputError("nothing is left to train: every parameter is frozen")
    groups, names = [], []
    for decays in (True, False):
        chosen = {name: parameter for name, parameter in trained.items() if (name in decayed) == decays}
        if chosen:
            groups.append({"params": list(chosen.values()), "weight_decay": weight_decay if decays else 0.0})
            names += list(chosen)
    return groups, names


def make_optimizer(args: Arguments, model: ShortCutBart, precision: str) -> tuple[torch.optim.AdamW, list[str]]:
    """AdamW over what is trained, and the names of its parameters in the order of its groups."""
    groups, names = group_parameters(model, args.weight_decay)
    optimizer = torch.optim.AdamW(
        groups,
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        # Not under fp16's loss scale: the fused step skips an overflow inside its kernel, where accelerate does not
        # see it, and the schedule would move on without the weights.
        fused=model.device.type in ("cuda", "cpu") and precision != "fp16",
    )
    return optimizer, names


def best_metric(args: Arguments) -> tuple[str, bool]:
    """The metric that chooses the best model, with its eval_, and whether more of it is better."""
    chosen = args.metric_for_best_model or (ENCODER_MSE if args.fit_encoder else "loss")
    name = "eval_" + chosen.removeprefix("eval_")
    lower = any(word in name for word in ("loss", "mse"))
    return name, not lower if args.greater_is_better is None else args.greater_is_better


def make_schedule(args: Arguments, optimizer: torch.optim.Optimizer, total_steps: int) -> Any:
    """The schedule of a training of `total_steps` optimizer steps (options/rules.py has checked what it needs)."""
    options = dict(args.lr_scheduler_kwargs or {})
    if args.lr_scheduler_type in FOLLOW_EVALUATIONS:
        options.setdefault("mode", "max" if best_metric(args)[1] else "min")
    return get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=in_steps(args.warmup_steps, total_steps),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=options,
    )


def plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """The part of a schedule's state that JSON can hold; the rest are functions, which get_scheduler makes again."""
    plain: dict[str, Any] = {}
    for key, value in state.items():
        if key != "lr_lambdas":
            with contextlib.suppress(TypeError):
                plain[key] = json.loads(json.dumps(value))
    return plain
