"""What the options of a run ask of each other; what one option asks of its own value stands in fields.py."""

import math
import re
from collections.abc import Iterator

import torch
from transformers import get_scheduler

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS, Arguments, in_steps, shown


def check_together(args: Arguments) -> None:
    """Rules between options.

    Raises:
        InputError: on the first rule that is broken.
    """
    for message in _broken(args):
        raise InputError(message)


def _broken(args: Arguments) -> Iterator[str]:
    stages = args.do_train or args.do_eval or args.do_predict
    own_data = args.train_file or args.validation_file or args.test_file
    if not stages and not args.push_to_hub:
        yield "nothing to do: give do_train, do_eval, do_predict or push_to_hub"
    if args.output_dir is None:
        yield "output_dir is missing: say where the results go"
    if stages and args.model_name_or_path is None and not (args.config_name and args.do_train):
        yield "model_name_or_path is missing: a student or a Hub id (or config_name with do_train: from scratch)"
    if stages and args.task_name is None and not own_data:
        yield "task_name is missing: MNLI, or give train_file"
    if args.task_name and own_data:
        yield "task_name and train_file/validation_file/test_file exclude each other"
    if own_data:
        for stage, key in (("do_train", "train_file"), ("do_eval", "validation_file"), ("do_predict", "test_file")):
            if getattr(args, stage) and not getattr(args, key):
                yield f"{stage} needs {key}"
    if args.predict_proba and not args.do_predict:
        yield "predict_proba needs do_predict"
    if args.export_onnx != "no" and not args.do_train:
        yield "export_onnx needs do_train; export_onnx.py exports a model that is there"
    if args.export_onnx == "int8" and not args.do_eval:
        yield "export_onnx: int8 is measured on the evaluation set: give do_eval, or float32"
    if args.fp16 and args.bf16:
        yield "fp16 and bf16 exclude each other: set one of them to false"
    if not args.do_train:
        return
    if args.max_steps == 0:
        yield "max_steps must be positive, or -1 for num_train_epochs"
    if args.max_steps < 0 and args.num_train_epochs == 0:
        yield "num_train_epochs is 0: nothing would be trained; leave out do_train to evaluate only"
    if args.lr_scheduler_type in FOLLOW_EVALUATIONS and args.eval_strategy == "no":
        yield f"lr_scheduler_type {args.lr_scheduler_type} follows evaluations: set eval_strategy to steps or epoch"
    _check_schedule(args)
    for name in ("load_best_model_at_end", "early_stopping_patience", "metric_for_best_model"):
        if getattr(args, name) and args.eval_strategy == "no":
            yield f"{name} needs evaluations: set eval_strategy to steps or epoch"
    if args.load_best_model_at_end:
        if args.save_strategy != args.eval_strategy:
            both = f"eval_strategy ({args.eval_strategy}), not {args.save_strategy}"
            yield f"load_best_model_at_end needs save_strategy to be {both}"
        yield from _unsaved_evaluations(args)
    if args.cache_encoder_outputs == "true" and (not args.freeze_encoder or args.frozen_encoder_dropout):
        yield "cache_encoder_outputs: true needs freeze_encoder true and frozen_encoder_dropout false"


def _unsaved_evaluations(args: Arguments) -> Iterator[str]:
    """Whether the best model could be one that no checkpoint holds."""
    save, every = args.save_steps, args.evaluation_interval
    if args.save_strategy == "steps":
        if (save < 1) != (every < 1):
            both = f"save_steps ({save:g}) and eval_steps ({every:g})"
            yield f"load_best_model_at_end needs {both} both as steps, or both as shares"
        elif not math.isclose(save / every, round(save / every), abs_tol=1e-9) or save < every:
            yield f"load_best_model_at_end needs save_steps ({save:g}) to be a multiple of eval_steps ({every:g})"


def fit_to_length(args: Arguments, total_steps: int) -> list[str]:
    """Make shares of all steps into steps, in place, now that it is known how many there are.

    save_steps may be no multiple of eval_steps then, without harm: the loop also saves after an evaluation that is
    the best so far.

    Returns:
        What the training is too short for, one line each.
    """
    for name in ("logging_steps", "eval_steps", "save_steps"):
        value = getattr(args, name)
        if value is not None:
            setattr(args, name, in_steps(value, total_steps))
    found = []
    warmup = in_steps(args.warmup_steps, total_steps)
    if warmup >= total_steps and args.lr_scheduler_type not in ("constant", *FOLLOW_EVALUATIONS):
        highest = args.learning_rate * (total_steps - 1) / warmup
        found.append(
            f"warmup_steps {warmup}, but the training has {total_steps} steps: the learning rate rises to "
            f"{highest:.2g} and never arrives at {args.learning_rate:g}; set warmup_steps to a share, such "
            "as 0.06, or to 0"
        )
    every = args.evaluation_interval
    if args.eval_strategy == "steps" and every > total_steps and args.evaluations_decide:
        found.append(
            f"eval_steps {every}, but the training has {total_steps} steps: there is no evaluation to choose the best "
            "model, to stop early or to set the learning rate by; set eval_steps to a share of all steps, such as 0.25"
        )
    return found


def _check_schedule(args: Arguments) -> None:
    """Make the schedule once for a model of one number: it knows best which lr_scheduler_kwargs it needs."""
    if args.lr_scheduler_kwargs is None and args.lr_scheduler_type in ("linear", "cosine", "constant"):
        return
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    try:
        # 1 step of warm-up, 10 in all
        schedule = get_scheduler(args.lr_scheduler_type, optimizer, 1, 10, args.lr_scheduler_kwargs)
        optimizer.step()
        for _ in range(10):  # through its warm-up and to its end
            schedule.step(*[1.0] * (args.lr_scheduler_type in FOLLOW_EVALUATIONS))
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        reason = re.sub(r"\bget_\w+\(\) ", "", str(error))
        given = f"{args.lr_scheduler_type} with lr_scheduler_kwargs {shown(args.lr_scheduler_kwargs)}"
        raise InputError(f"lr_scheduler_type {given}: {reason}") from None
