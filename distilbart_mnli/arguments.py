"""What run_glue.py can be told, and the reader of JSON, YAML and flags.

One dataclass a subject; the string under a field is its help text. Names and defaults are those of transformers'
TrainingArguments; README lists where ours differ. Values come from the defaults, then from the JSON or YAML file, then
from flags, each winning over the one before. All three go through one converter, so a type is checked the same way
wherever a value was written. Nothing is touched (no folder made, no model read) before all of it is known to be good.
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
import json
import logging
import math
import re
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import SchedulerType, get_scheduler

from distilbart_mnli.errors import InputError

logger = logging.getLogger(__name__)

SCHEDULES = tuple(str(kind.value) for kind in SchedulerType)
# Two of transformers' schedules wait for a metric after every evaluation; the others are stepped by the optimizer.
FOLLOW_EVALUATIONS = ("reduce_lr_on_plateau", "greedy")


@dataclass(kw_only=True)
class ModelArguments:
    model_name_or_path: str | None = None
    """Folder or Hub id of the student (or any BART classifier) to train or evaluate."""
    model_revision: str = "main"
    """Branch, tag or commit of a model on the Hub."""
    config_name: str | None = None
    """Configuration to start from; without model_name_or_path the model is trained from scratch."""
    tokenizer_name: str | None = None
    """Tokenizer, where it is not beside the model."""
    cache_dir: str | None = None
    """Where downloads from the Hub are kept."""
    reinit_classifier: bool = False
    """Replace a classification head whose labels are not the task's with a new one; the rest of the model is kept."""
    dropout: float | None = None
    """Overrides the model configuration's dropout."""
    attention_dropout: float | None = None
    """Overrides the model configuration's dropout of attention weights."""
    activation_dropout: float | None = None
    """Overrides the model configuration's dropout inside the feed-forward layers."""
    classifier_dropout: float | None = None
    """Overrides the model configuration's dropout in the classification head."""
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"
    """Attention kernel."""
    freeze_encoder: bool = False
    """Train the decoder and the head only."""
    freeze_embeds: bool = False
    """Freeze the token table and both position tables."""
    frozen_encoder_dropout: bool = False
    """Run a frozen encoder with dropout, as in 2020. Off: its outputs are constants and can be cached."""


@dataclass(kw_only=True)
class DataArguments:
    task_name: str | None = None
    """GLUE task, any spelling: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI, AX."""
    data_dir: str | None = None
    """Folder with the task's TSV files (download_glue_data.py makes it). Without it: nyu-mll/glue from the Hub."""
    train_file: str | None = None
    """Your own training data (CSV, TSV or JSON lines), instead of task_name."""
    validation_file: str | None = None
    """Your own validation data."""
    test_file: str | None = None
    """Your own data to predict."""
    sentence1_key: str | None = None
    """Column of the first text in your own data (default: sentence1, premise, text or sentence)."""
    sentence2_key: str | None = None
    """Column of the second text in your own data (default: sentence2 or hypothesis; absent: single texts)."""
    label_key: str | None = None
    """Column of the label in your own data (default: label)."""
    max_seq_length: int = 128
    """Longest input in tokens; longer pairs lose tokens from the longer of their two texts."""
    pad_to_max_length: bool = False
    """Pad every batch to max_seq_length, as in 2020. The results are the same; the time is not."""
    pad_to_multiple_of: int | None = None
    """Round the padded length up to a multiple of this (default: 8 on a GPU in half precision, else 1)."""
    train_sampling_strategy: Literal["group_by_length", "random"] = "group_by_length"
    """Batches of like lengths, or of random ones (2020)."""
    max_train_samples: int | None = None
    """Use the first so many training examples."""
    max_eval_samples: int | None = None
    """Use the first so many examples of each evaluation set."""
    max_predict_samples: int | None = None
    """Use the first so many examples of each test set."""
    skip_bad_rows: bool = False
    """Drop rows with too few fields, and say how many, instead of stopping at the first."""
    dataloader_num_workers: int = 1
    """Threads that prepare batches ahead of the model; 0: none."""


@dataclass(kw_only=True)
class TrainingArguments:
    do_train: bool = False
    """Train."""
    do_eval: bool = False
    """Evaluate at the end, and write results and predictions."""
    do_predict: bool = False
    """Write GLUE's submission files for the test sets."""
    output_dir: str | None = None
    """Where the model, its results and the checkpoints go."""
    overwrite_output_dir: bool = False
    """Allow a new training over old results; they stay until the new run has saved something whole."""
    resume_from_checkpoint: str | None = None
    """true: go on from the newest whole checkpoint in output_dir; or the path of one."""
    num_train_epochs: float = 3.0
    """Passes over the training data."""
    max_steps: int = -1
    """Stop after so many optimizer steps; wins over num_train_epochs."""
    per_device_train_batch_size: int = 8
    """Examples in one forward pass on one process."""
    per_device_eval_batch_size: int = 8
    """The same, for evaluation."""
    gradient_accumulation_steps: int = 1
    """Forward passes in one optimizer step."""
    effective_batch_size: int | None = None
    """Examples in one optimizer step over all processes; wins over gradient_accumulation_steps."""
    seed: int = 42
    """Seeds new weights, dropout and, unless data_seed is given, the order of the data."""
    data_seed: int | None = None
    """Seeds the order of the data."""
    full_determinism: bool = False
    """Deterministic GPU kernels: slower, and a resumed run equals the uninterrupted one bit for bit."""
    label_smoothing_factor: float = 0.0
    """Share of the target spread over all labels."""
    expected_num_processes: int | None = None
    """Stop if the launcher started another number of processes."""


@dataclass(kw_only=True)
class OptimizerArguments:
    learning_rate: float = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.0
    """On every weight but biases and layer norms."""
    adam_beta1: float = 0.9
    """AdamW's first beta."""
    adam_beta2: float = 0.999
    """AdamW's second beta."""
    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: float = 1.0
    """Clip the gradient's norm to this; 0: do not clip."""
    lr_scheduler_type: Literal[SCHEDULES] = "linear"  # type: ignore[valid-type]
    """Schedule of the learning rate, by its name in transformers."""
    lr_scheduler_kwargs: dict | None = None
    """Further arguments of the schedule, as a JSON object."""
    warmup_steps: float = 0.0
    """Optimizer steps of warm-up; below 1, as a share of all steps."""


@dataclass(kw_only=True)
class EvaluationArguments:
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When to evaluate during training."""
    eval_steps: int | None = None
    """Optimizer steps between evaluations (default: logging_steps)."""
    save_strategy: Literal["no", "steps", "epoch"] = "steps"
    """When to write a checkpoint."""
    save_steps: int = 500
    """Optimizer steps between checkpoints."""
    save_total_limit: int | None = None
    """Keep so many checkpoints; the best one is always kept."""
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Data type of the final model's file. Training and checkpoints are float32."""
    load_best_model_at_end: bool = False
    """End with the checkpoint that scored best instead of the last one."""
    metric_for_best_model: str | None = None
    """Key of the evaluation, with or without eval_ (default: loss)."""
    greater_is_better: bool | None = None
    """Direction of that metric (default: true unless its name ends in loss)."""
    early_stopping_patience: int | None = None
    """Stop after so many evaluations without improvement."""
    early_stopping_threshold: float = 0.0
    """What counts as an improvement."""
    logging_steps: int = 500
    """Optimizer steps between log lines."""
    logging_first_step: bool = False
    """Log the first step as well."""
    report_to: list | None = None
    """Trackers: none, or tensorboard, wandb, trackio (several: separated by commas)."""
    run_name: str | None = None
    """The run's name in the trackers."""
    disable_tqdm: bool = False
    """No progress bars."""


@dataclass(kw_only=True)
class SpeedArguments:
    fp16: bool | None = None
    """Half precision with loss scaling, on a GPU."""
    bf16: bool | None = None
    """bfloat16 autocast. If neither key is given, the launcher's mixed precision counts."""
    tf32: bool | None = None
    """TensorFloat-32 matrix products on a GPU (default: on, but off under full_determinism)."""
    use_cpu: bool = False
    """Use the CPU although there is a GPU."""
    torch_compile: bool = False
    """Compile the model, once for all lengths."""
    gradient_checkpointing: bool = False
    """Recompute decoder layers in the backward pass: less memory, more time."""
    cache_encoder_outputs: Literal["auto", "true", "false"] = "auto"
    """Keep the frozen encoder's outputs on disk, for all epochs and all students of one teacher."""
    encoder_cache_dir: str | None = None
    """Where (default: distilbart_mnli/encoder in the user's cache folder)."""
    encoder_cache_max_gb: float = 50.0
    """Largest size of one cache; never more than 80 % of the free disk."""


@dataclass(kw_only=True)
class HubArguments:
    push_to_hub: bool = False
    """Publish the finished model in one commit."""
    hub_model_id: str | None = None
    """Repository on the Hub (default: your name / output_dir's name)."""
    hub_private_repo: bool | None = None
    """Create it private."""
    hub_token: str | None = None
    """Token; better in HF_TOKEN or through `hf auth login`. Refused in a file."""
    hub_strategy: Literal["end"] = "end"
    """Only the finished model is published."""
    hub_force: bool = False
    """Publish although the repository changed since this run last saw it."""
    license: str | None = None
    """License for the model card, where the teacher's card names none."""


GROUPS: dict[str, type] = {
    "model": ModelArguments,
    "data": DataArguments,
    "training": TrainingArguments,
    "optimizer and schedule": OptimizerArguments,
    "evaluation, saving, logging": EvaluationArguments,
    "precision and speed": SpeedArguments,
    "hub": HubArguments,
}


@dataclass(kw_only=True)
class Arguments(
    HubArguments,
    SpeedArguments,
    EvaluationArguments,
    OptimizerArguments,
    TrainingArguments,
    DataArguments,
    ModelArguments,
):
    """Every option of run_glue.py, flat: `args.learning_rate`."""


# ---------------------------------------------------------------------------------------------------------------------
# Names of 2020 and of older releases of transformers. Each is translated with one log line.
# old name -> function of its value to the new keys, or None: the key has no effect any more.

OLD_NAMES: dict[str, Any] = {
    "evaluate_during_training": lambda value: {"eval_strategy": "steps"} if value else {},
    "evaluation_strategy": lambda value: {"eval_strategy": value},
    "warmup_ratio": lambda value: {"warmup_steps": value},
    "group_by_length": lambda value: {"train_sampling_strategy": "group_by_length" if value else "random"},
    "per_gpu_train_batch_size": lambda value: {"per_device_train_batch_size": value},
    "per_gpu_eval_batch_size": lambda value: {"per_device_eval_batch_size": value},
    "max_length": lambda value: {"max_seq_length": value},
    "no_cuda": lambda value: {"use_cpu": value},
    "activation_checkpointing": lambda value: {"gradient_checkpointing": value},
    "push_to_hub_model_id": lambda value: {"hub_model_id": value},
    "overwrite_cache": None,
    "fp16_opt_level": None,
    "fp16_backend": None,
    "logging_dir": None,
    "local_rank": None,
    "use_fast_tokenizer": None,
}

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


def field_types() -> dict[str, Any]:
    """Every option's name and declared type, in the order of the groups."""
    hints = typing.get_type_hints(Arguments)
    return {field.name: hints[field.name] for group in GROUPS.values() for field in dataclasses.fields(group)}


def field_help(group: type) -> dict[str, str]:
    """The string under each field of a dataclass, read from its source."""
    definition = ast.parse(inspect.getsource(group)).body[0]
    assert isinstance(definition, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, text in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            texts[ast.unparse(field.target)] = str(text.value.value)
    return texts


# ---------------------------------------------------------------------------------------------------------------------
# One converter for every source of values


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
        raise InputError(f"{where}: {name} must be {_type_name(declared)}, not null")
    for option in options:
        converted = _convert_to(option, value)
        if converted is not _NOT_CONVERTIBLE:
            return _check_range(name, converted, where)
    if name == "resume_from_checkpoint" and isinstance(value, bool):
        return "true" if value else None
    if name == "cache_encoder_outputs" and isinstance(value, bool):
        return str(value).lower()
    raise InputError(f"{where}: {name} must be {_type_name(declared)}, not {_shown(value)}")


_NOT_CONVERTIBLE = object()
_TRUE, _FALSE = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


def _convert_to(kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is Literal:
        return value if isinstance(value, str) and value in typing.get_args(kind) else _NOT_CONVERTIBLE
    if kind is str:
        return value if isinstance(value, str) and value and _is_text(value) else _NOT_CONVERTIBLE
    if kind is bool:
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
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
                raise InputError(f"{where}: report_to must name {', '.join(TRACKERS)} or none, not {_shown(tracker)}")
        return trackers or None
    if name not in RANGES:
        return value
    low, high = RANGES[name][0], RANGES[name][-1]
    if value < low:
        raise InputError(f"{where}: {name} must be at least {low}, not {value}")
    if high is not None and value >= high:
        raise InputError(f"{where}: {name} must be below {high}, not {value}")
    return value


def _type_name(declared: Any) -> str:
    names = {
        str: "text",
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        list: "a list of names",
    }
    if isinstance(declared, types.UnionType):
        return " or ".join(_type_name(option) for option in typing.get_args(declared) if option is not types.NoneType)
    if typing.get_origin(declared) is Literal:
        return "one of " + ", ".join(typing.get_args(declared))
    return names.get(declared, "an object")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value[:60]}'"
    try:
        return json.dumps(value, default=str)[:60]
    except (ValueError, TypeError, RecursionError):  # YAML can write a list that holds itself, and 5,000 digits
        return f"this {type(value).__name__}"


# ---------------------------------------------------------------------------------------------------------------------
# Files


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 3e-5 for text, because it has no dot, `no` (an eval_strategy) for false, 2020-10-01 for a date,
    1:30 for ninety and 010 for eight; everyone who writes them means a number, the word, and texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - how PyYAML's loaders are made
        first: [
            (tag, how) for tag, how in rules if tag.rpartition(":")[2] not in ("bool", "timestamp", "int", "float")
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


YAML_ENDINGS = (".yaml", ".yml")
FILE_ENDINGS = (".json", *YAML_ENDINGS)


def read_file(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON or YAML file (by its ending).

    Raises:
        InputError: no such file, not UTF-8, not JSON or YAML (with the line), no object, a key that stands twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        if path.suffix in YAML_ENDINGS:
            loader = _Loader(text)
            node = loader.get_single_node()
            if isinstance(node, yaml.MappingNode):
                _no_key_twice([(str(key.value), None) for key, _ in node.value])
            values = loader.construct_document(node) if node else None
        else:
            values = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    except (RecursionError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected an object of options, found {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key} stands twice")
        seen[key] = value
    return seen


def rename_old_keys(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Translate the names of 2020; the new name, where given as well, wins."""
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in OLD_NAMES:
            continue
        rule = OLD_NAMES[key]
        if rule is None:
            logger.info("%s: %s has no effect any more", where, key)
            continue
        if key in ("evaluate_during_training", "group_by_length"):
            value = _convert_to(bool, value)
            if value is _NOT_CONVERTIBLE:
                raise InputError(f"{where}: {key} must be true or false, not {_shown(values[key])}")
        new = rule(value)
        logger.info("%s: %s is now %s", where, key, ", ".join(f"{k}={v}" for k, v in new.items()) or "the default")
        renamed.update(new)
    return {**renamed, **{key: value for key, value in values.items() if key not in OLD_NAMES}}


def unknown_option(name: str, where: str) -> InputError:
    """The error for an option that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, [*field_types(), *OLD_NAMES], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; see run_glue.py --help"
    return InputError(f"{where}: unknown option {name}{hint}")


# ---------------------------------------------------------------------------------------------------------------------
# The command line


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
            shown = "none" if default is None else str(default).lower() if isinstance(default, bool) else default
            lines.append(f"  --{field.name}  ({_type_name(types_of[field.name])}; default {shown})")
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


def _read_flags(argv: list[str]) -> dict[str, Any]:
    known, rest = field_types(), list(argv)
    values: dict[str, Any] = {}
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            first = "; a file of options goes first" if Path(word).suffix in FILE_ENDINGS else ""
            raise InputError(f"command line: expected an --option, found {_shown(word)}{first}")
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
                raise InputError(f"command line: --{name} needs a value: {_type_name(known[name])}")
        if name == "resume_from_checkpoint" and value.lower() in _TRUE | _FALSE:
            values[name] = "true" if value.lower() in _TRUE else None
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
    refuse(args.fp16 and args.bf16, "fp16 and bf16 exclude each other")
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
            f"{_shown(args.lr_scheduler_kwargs)}: {reason}"
        ) from None


def main_arguments() -> Arguments:
    """The arguments of this process."""
    return parse_arguments(sys.argv[1:])
