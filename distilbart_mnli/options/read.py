"""What run_glue.py can be told, and the reader of JSON, YAML and flags.

Values come from the defaults (fields.py), then from the JSON or YAML file (option_files.py), then from flags, each
winning over the one before. All three go through one converter (values.py). Nothing is touched (no folder made,
no model read) before all of it is known to be good.
"""

import dataclasses
import difflib
import re
import sys
from pathlib import Path
from typing import Any

from transformers import get_scheduler

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS, GROUPS, Arguments, field_help, field_types
from distilbart_mnli.options.option_files import FILE_ENDINGS, OLD_NAMES, read_file, rename_old_keys
from distilbart_mnli.options.values import FALSE_WORDS, TRUE_WORDS, convert, shown, type_name


def help_text() -> str:
    """--help: the options by group, each with its type or choices, its default and what it does."""
    lines = [
        "usage: run_glue.py [FILE.json | FILE.yaml] [--option value ...]",
        "",
        "Train, evaluate and publish a BART classifier on a GLUE task. Flags win over the file.",
        "Booleans: --x, --x true, --x false, --no_x.",
    ]
    types_of, defaults = field_types(), Arguments()
    for title, group in GROUPS.items():
        lines += ["", f"{title}:"]
        texts = field_help(group)
        for field in dataclasses.fields(group):
            default = getattr(defaults, field.name)
            text = "none" if default is None else str(default).lower() if isinstance(default, bool) else default
            lines.append(f"  --{field.name}  ({type_name(types_of[field.name])}; default {text})")
            lines.append(f"      {texts[field.name]}")
    return "\n".join(lines)


def parse_arguments(argv: list[str]) -> Arguments:
    """Read `[FILE] [--option value ...]`, without the program's name.

    Raises:
        InputError: an unknown option (with the nearest known one), a wrong type, a value out of range, options that
            exclude each other, a file that cannot be read.
        SystemExit: with 0 after --help.
    """
    if "-h" in argv or "--help" in argv:
        print(help_text())
        raise SystemExit(0)
    values: dict[str, Any] = {}
    if argv and not argv[0].startswith("-"):
        path = Path(argv[0])
        in_file = read_file(path)
        if in_file.get("hub_token") is not None:
            raise InputError(f"{path}: hub_token must not stand in a file; use HF_TOKEN or `hf auth login`")
        values.update(_checked(rename_old_keys(in_file, str(path)), str(path)))
        argv = argv[1:]
    values.update(_checked(rename_old_keys(_read_flags(argv), "command line"), "command line"))
    args = Arguments(**values)
    check_together(args)
    return args


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    known = field_types()
    for name in values:
        if name not in known:
            raise unknown_option(name, where)
    return {name: convert(name, value, where) for name, value in values.items()}


def unknown_option(name: str, where: str) -> InputError:
    """The error for an option that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, [*field_types(), *OLD_NAMES], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; see run_glue.py --help"
    return InputError(f"{where}: unknown option {name}{hint}")


def _read_flags(argv: list[str]) -> dict[str, Any]:
    known, rest = field_types(), list(argv)
    values: dict[str, Any] = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            first = "; a file of options goes first" if Path(word).suffix in FILE_ENDINGS else ""
            raise InputError(f"command line: expected an --option, found {shown(word)}{first}")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name.startswith("no_") and name not in known and name not in OLD_NAMES:
            if name[3:] not in known:
                raise unknown_option(name[3:], "command line")
            if known[name[3:]] not in (bool, bool | None):
                raise InputError(f"command line: --{name}: {name[3:]} is not true or false, so it has no --no_ form")
            if equals:
                raise InputError(f"command line: --{name} takes no value; use --{name[3:]} true|false")
            values[name[3:]] = False
            continue
        if name not in known and name not in OLD_NAMES:
            raise unknown_option(name, "command line")
        if not equals:
            is_switch = known.get(name, bool) in (bool, bool | None) or name == "resume_from_checkpoint"
            if rest and not rest[0].startswith("--") and not (is_switch and Path(rest[0]).suffix in FILE_ENDINGS):
                value = rest.pop(0)
            elif is_switch:
                value = "true"
            else:
                raise InputError(f"command line: --{name} needs a value: {type_name(known[name])}")
        if name == "resume_from_checkpoint" and value.lower() in TRUE_WORDS | FALSE_WORDS:
            values[name] = "true" if value.lower() in TRUE_WORDS else None
        else:
            values[name] = None if value.lower() in ("none", "null") and name != "report_to" else value
    return values


def check_together(args: Arguments) -> None:
    """Rules between options.

    Raises:
        InputError: on the first rule that is broken.
    """

    def refuse(broken: Any, message: str) -> None:
        if broken:
            raise InputError(message)

    stages = args.do_train or args.do_eval or args.do_predict
    refuse(not stages and not args.push_to_hub, "nothing to do: give do_train, do_eval, do_predict or push_to_hub")
    refuse(args.output_dir is None, "output_dir is missing: say where the results go")
    refuse(
        stages and args.model_name_or_path is None and not (args.config_name and args.do_train),
        "model_name_or_path is missing: a student made by create_student.py, or a Hub id "
        "(or config_name with do_train, to train from scratch)",
    )
    own_data = args.train_file or args.validation_file or args.test_file
    refuse(stages and args.task_name is None and not own_data, "task_name is missing: MNLI, or give train_file")
    refuse(args.task_name and own_data, "task_name and train_file/validation_file/test_file exclude each other")
    if own_data and args.task_name is None:
        for stage, key in (("do_train", "train_file"), ("do_eval", "validation_file"), ("do_predict", "test_file")):
            refuse(getattr(args, stage) and not getattr(args, key), f"{stage} needs {key}")
    refuse(args.fp16 and args.bf16, "fp16 and bf16 exclude each other: set one of them to false")
    refuse(
        args.warmup_steps >= 1 and args.warmup_steps % 1,
        f"warmup_steps {args.warmup_steps}: below 1 it is a share of all steps, from 1 on a whole number of steps",
    )
    refuse(args.do_train and args.max_steps == 0, "max_steps must be positive, or -1 for num_train_epochs")
    refuse(
        args.do_train and args.max_steps < 0 and args.num_train_epochs == 0,
        "num_train_epochs is 0: nothing would be trained; leave out do_train to evaluate only",
    )
    if args.do_train:
        _check_schedule(args)
    early = args.early_stopping_patience is not None
    if args.do_train and (args.load_best_model_at_end or early):
        name = "load_best_model_at_end" if args.load_best_model_at_end else "early_stopping_patience"
        refuse(args.eval_strategy == "no", f"{name} needs evaluations: set eval_strategy to steps or epoch")
    if args.do_train and args.load_best_model_at_end:
        refuse(
            args.save_strategy != args.eval_strategy,
            f"load_best_model_at_end needs save_strategy to be eval_strategy ({args.eval_strategy}), "
            f"not {args.save_strategy}",
        )
        every = args.eval_steps or args.logging_steps
        refuse(
            args.save_strategy == "steps" and args.save_steps % every != 0,
            f"load_best_model_at_end needs save_steps ({args.save_steps}) to be a multiple of eval_steps ({every})",
        )
    refuse(
        args.cache_encoder_outputs == "true"
        and args.do_train
        and (not args.freeze_encoder or args.frozen_encoder_dropout),
        "cache_encoder_outputs is true, but the encoder's outputs change: it needs freeze_encoder true and "
        "frozen_encoder_dropout false",
    )


def _check_schedule(args: Arguments) -> None:
    """Make the schedule once for a model of one number: it knows best which lr_scheduler_kwargs it needs."""
    if args.lr_scheduler_type in FOLLOW_EVALUATIONS and args.eval_strategy == "no":
        raise InputError(
            f"lr_scheduler_type {args.lr_scheduler_type} follows evaluations: set eval_strategy to steps or epoch"
        )
    if args.lr_scheduler_kwargs is None and args.lr_scheduler_type in ("linear", "cosine", "constant"):
        return
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    try:
        schedule: Any = get_scheduler(
            args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )
        optimizer.step()
        for _ in range(10):  # through its warm-up and to its end
            schedule.step(*[1.0] * (args.lr_scheduler_type in FOLLOW_EVALUATIONS))
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        reason = re.sub(r"\bget_\w+\(\) ", "", str(error))
        raise InputError(
            f"lr_scheduler_type {args.lr_scheduler_type} with lr_scheduler_kwargs "
            f"{shown(args.lr_scheduler_kwargs)}: {reason}"
        ) from None


def main_arguments() -> Arguments:
    """The arguments of this process."""
    return parse_arguments(sys.argv[1:])
