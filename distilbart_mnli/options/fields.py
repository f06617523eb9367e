"""Every option of run_glue.py: beside a field its bounds, under it its help text.

Names and defaults are those of transformers' TrainingArguments; docs/options.md shows where ours differ. read.py reads
them from a file and from flags; rules.py holds what options ask of each other.

A new option is one field: `name: type = default`, or `type | None = None`, with a string under it. Its type is str,
bool, int, float, dict, list or Literal[...]; what else its value must be stands in Annotated[type, check].
"""

import ast
import importlib.util
import inspect
import json
import math
import os
import reprlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from transformers import SchedulerType

SCHEDULES = tuple(str(kind.value) for kind in SchedulerType)
# Two of transformers' schedules wait for a metric after every evaluation; the others are stepped by the optimizer.
FOLLOW_EVALUATIONS = ("reduce_lr_on_plateau", "greedy")
PRECISION_DTYPES = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""accelerate's mixed_precision -> the dtype that products are computed in, as torch names it."""
TRACKERS = ("tensorboard", "wandb", "trackio")
SWITCH = "switch"
"""Marks text that can also be true or false: --x alone is true."""
VERBATIM = "verbatim"
"""Marks text that is taken as it stands: none, null and nothing at all too."""


def bounded(low: int, end: float = math.inf) -> Callable[[float], float]:
    """The check of a number that is at least `low` and below `end`."""
    bounds = f"at least {low}" if end == math.inf else f"at least {low} and below {end}"

    def check(value: float) -> float:
        if not low <= value < end:
            raise ValueError(f"must be {bounds}, not {value}")
        return value

    return check


def steps_or_share(value: float) -> float:
    """The check of a number of optimizer steps: whole, or below 1 a share of all steps, as in transformers."""
    if value >= 1 and value % 1:
        raise ValueError(f"must be a whole number of steps, or below 1 a share of all steps, not {value}")
    return value


def in_steps(value: float, total_steps: int) -> int:
    """What passed steps_or_share as steps: a share rounded up, as in transformers' Trainer."""
    return math.ceil(value * total_steps) if value < 1 else int(value)


def interval(value: float) -> float:
    """The check of the optimizer steps between two events."""
    if value <= 0:
        raise ValueError(f"must be at least 1, or between 0 and 1 a share of all steps, not {value:g}")
    return steps_or_share(value)


def trackers(names: list) -> list[str] | None:
    """The check of report_to; its "none" is as good as no tracker, its "all" those that are installed."""
    if names == ["all"]:
        return [name for name in TRACKERS if importlib.util.find_spec(name)] or None
    for name in names:
        if name not in (*TRACKERS, "none"):
            raise ValueError(f"must name {', '.join(TRACKERS)} or none, not {shown(name)}")
    return [name for name in names if name != "none"] or None


def shown(value: Any) -> str:
    """A value as a message quotes it: some 60 characters, however long or deep it is."""
    if isinstance(value, str):
        return f"'{value[:60]}'"
    return (reprlib.repr(value) if isinstance(value, list | dict) else json.dumps(value))[:60]


FilePath = Annotated[str, os.path.expanduser]
"""A file, a folder, or a Hub id where either may stand; ~ is expanded wherever it was written."""
Positive = Annotated[int, bounded(1)]
Count = Annotated[int, bounded(0)]
Interval = Annotated[float, interval]
NotNegative = Annotated[float, bounded(0)]
Share = Annotated[float, bounded(0, 1)]


@dataclass(kw_only=True)
class Arguments:
    """Every option of run_glue.py, flat: `args.learning_rate`."""

    # Model
    model_name_or_path: FilePath | None = None
    """Folder or Hub id of the student, or of any BART classifier, to train or evaluate."""
    model_revision: str = "main"
    """Branch, tag or commit of a model on the Hub."""
    config_name: FilePath | None = None
    """Configuration to start from; without model_name_or_path the model is trained from scratch."""
    tokenizer_name: FilePath | None = None
    """Tokenizer, where it is not beside the model."""
    cache_dir: FilePath | None = None
    """Where downloads from the Hub are kept."""
    reinit_classifier: bool = False
    """Replace a classification head whose labels are not the task's with a new one; the rest of the model is kept."""
    dropout: Share | None = None
    """Overrides the model configuration's dropout."""
    attention_dropout: Share | None = None
    """Overrides the model configuration's dropout of attention weights."""
    activation_dropout: Share | None = None
    """Overrides the model configuration's dropout inside the feed-forward layers."""
    classifier_dropout: Share | None = None
    """Overrides the model configuration's dropout in the classification head."""
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"
    """Attention kernel."""
    freeze_encoder: bool = False
    """Train the decoder and the head only."""
    freeze_embeds: bool = False
    """Freeze the token table and both position tables."""
    frozen_encoder_dropout: bool = False
    """Run a frozen encoder with dropout, as in 2020. Off: its outputs are constants and can be cached."""

    # Data
    task_name: str | None = None
    """GLUE task, any spelling: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI, AX."""
    data_dir: FilePath | None = None
    """Folder of the task's TSV files (download_glue_data.py makes it); none: from the Hub."""
    train_file: FilePath | None = None
    """Your own training data (CSV, TSV or JSON lines), instead of task_name."""
    validation_file: FilePath | None = None
    """Your own validation data."""
    test_file: FilePath | None = None
    """Your own data to predict."""
    sentence1_key: str | None = None
    """Column of the first text in your own data (default: sentence1, premise, text or sentence)."""
    sentence2_key: str | None = None
    """Column of the second text in your own data (default: sentence2 or hypothesis; absent: single texts)."""
    label_key: str | None = None
    """Column of the label in your own data (default: label)."""
    max_seq_length: Positive = 128
    """Longest input in tokens; longer pairs lose tokens from the longer of their two texts."""
    pad_to_max_length: bool = False
    """Pad every batch to max_seq_length, as in 2020. The results are the same; the time is not."""
    pad_to_multiple_of: Positive | None = None
    """Round the padded length up to a multiple of this (default: 8 on a GPU, else 1)."""
    train_sampling_strategy: Literal["group_by_length", "random"] = "group_by_length"
    """Batches of like lengths, or of random ones (2020)."""
    max_train_samples: Positive | None = None
    """Use the first so many training examples."""
    max_eval_samples: Positive | None = None
    """Use the first so many examples of each evaluation set."""
    max_predict_samples: Positive | None = None
    """Use the first so many examples of each test set."""
    skip_bad_rows: bool = False
    """Drop rows that cannot be read or lack a text, and say how many, instead of stopping at the first."""
    ignore_label: Annotated[str, VERBATIM] | None = None
    """Leave out the training and evaluation rows with this label, a mark for "no label": -, -1, or "" for nothing."""
    dataloader_num_workers: Count = 1
    """Threads that prepare batches ahead of the model; 0: none."""

    # Training
    do_train: bool = False
    """Train."""
    do_eval: bool = False
    """Evaluate at the end, and write results and predictions."""
    do_predict: bool = False
    """Write GLUE's submission files for the test sets."""
    predict_proba: bool = False
    """With do_predict: also predictions.tsv, with each row's id and the probability of every label."""
    output_dir: FilePath | None = None
    """Where the model, its results and the checkpoints go."""
    overwrite_output_dir: bool = False
    """Allow a new training over old results; they stay until the new run has saved something whole."""
    resume_from_checkpoint: Annotated[FilePath, SWITCH] | None = None
    """true: go on from the newest whole checkpoint in output_dir; or the path of one."""
    num_train_epochs: NotNegative = 3.0
    """Passes over the training data."""
    max_steps: int = -1
    """Stop after so many optimizer steps; wins over num_train_epochs."""
    per_device_train_batch_size: Positive = 8
    """Examples in one forward pass on one process."""
    per_device_eval_batch_size: Positive = 8
    """The same, for evaluation."""
    gradient_accumulation_steps: Positive = 1
    """Forward passes in one optimizer step."""
    effective_batch_size: Positive | None = None
    """Examples in one optimizer step over all processes; wins over gradient_accumulation_steps."""
    seed: Count = 42
    """Seeds new weights, dropout and, unless data_seed is given, the order of the data."""
    data_seed: Count | None = None
    """Seeds the order of the data."""
    full_determinism: bool = False
    """Deterministic GPU kernels: slower, and a resumed run equals the uninterrupted one bit for bit."""
    require_same_bits: bool = False
    """Stop, instead of a warning, if a resumed run would not end with the uninterrupted run's bits."""
    label_smoothing_factor: Share = 0.0
    """Share of the target spread over all labels."""
    expected_num_processes: Positive | None = None
    """Stop if the launcher started another number of processes."""

    # Optimizer and schedule
    learning_rate: NotNegative = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: NotNegative = 0.0
    """On every weight but biases and layer norms."""
    adam_beta1: Share = 0.9
    """AdamW's first beta."""
    adam_beta2: Share = 0.999
    """AdamW's second beta."""
    adam_epsilon: NotNegative = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: NotNegative = 1.0
    """Clip the gradient's norm to this; 0: do not clip."""
    lr_scheduler_type: Literal[SCHEDULES] = "linear"  # type: ignore[valid-type]
    """Schedule of the learning rate, by its name in transformers."""
    lr_scheduler_kwargs: dict | None = None
    """Further arguments of the schedule, as a JSON object."""
    warmup_steps: Annotated[NotNegative, steps_or_share] = 0.0
    """Optimizer steps of warm-up; below 1, as a share of all steps."""

    # Evaluation, saving, logging
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    """When to evaluate during training."""
    eval_steps: Interval | None = None
    """Optimizer steps between evaluations; below 1, as a share of all steps (default: logging_steps)."""
    save_strategy: Literal["no", "steps", "epoch"] = "steps"
    """When to write a checkpoint."""
    save_steps: Interval = 500.0
    """Optimizer steps between checkpoints; below 1, as a share of all steps."""
    save_total_limit: Positive | None = None
    """Keep so many checkpoints; the best one is always kept."""
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Data type of the final model's file. Training and checkpoints are float32."""
    export_onnx: Literal["no", "float32", "int8"] = "no"
    """Also write onnx/, for ONNX Runtime and the browser; int8: that as well, if it agrees (requirements-onnx.txt)."""
    load_best_model_at_end: bool = False
    """End with the checkpoint that scored best instead of the last one."""
    metric_for_best_model: str | None = None
    """Key of the evaluation, with or without eval_ (default: loss)."""
    greater_is_better: bool | None = None
    """Direction of that metric (default: true unless its name ends in loss)."""
    early_stopping_patience: Positive | None = None
    """Stop after so many evaluations without improvement."""
    early_stopping_threshold: NotNegative = 0.0
    """What counts as an improvement."""
    logging_steps: Interval = 500.0
    """Optimizer steps between log lines; below 1, as a share of all steps."""
    logging_first_step: bool = False
    """Log the first step as well."""
    report_to: Annotated[list, trackers] | None = None
    """Trackers: none, all that are installed, or tensorboard, wandb, trackio (several: separated by commas)."""
    run_name: str | None = None
    """The run's name in the trackers."""
    disable_tqdm: bool = False
    """No progress bars."""

    # Precision and speed
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
    encoder_cache_dir: FilePath | None = None
    """Where (default: distilbart_mnli/encoder in the user's cache folder)."""
    encoder_cache_max_gb: NotNegative = 50.0
    """Largest size of one cache; never more than 80 % of the free disk."""

    # Hub
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
    """License for the model card, where the teacher's card names none; a publish-only run adds it too."""

    @property
    def evaluations_decide(self) -> bool:
        """Whether evaluations have a say in the weights: by choosing, stopping, or setting the learning rate."""
        follows = self.lr_scheduler_type in FOLLOW_EVALUATIONS
        return self.load_best_model_at_end or self.early_stopping_patience is not None or follows

    @property
    def evaluation_interval(self) -> float:
        """eval_steps, whose default is logging_steps; optimizer steps once a training has begun (rules.py)."""
        return self.eval_steps or self.logging_steps

    def without_token(self) -> dict[str, Any]:
        """Every option but the token, for whatever is written or sent."""
        return {name: value for name, value in vars(self).items() if name != "hub_token"}


# Titles of --help, each with the first option under it.
GROUPS = {
    "model_name_or_path": "model",
    "task_name": "data",
    "do_train": "training",
    "learning_rate": "optimizer and schedule",
    "eval_strategy": "evaluation, saving, logging",
    "fp16": "precision and speed",
    "push_to_hub": "hub",
}


@dataclass(frozen=True)
class Option:
    """The declared type of one option, taken apart."""

    kind: Any
    """str, bool, int, float, dict, list or Literal[...]."""
    optional: bool
    """Whether it can be None."""
    checks: tuple
    """What Annotated holds: functions of a value of that kind that return what to keep or raise ValueError, SWITCH."""

    @property
    def is_switch(self) -> bool:
        return self.kind is bool or SWITCH in self.checks

    @property
    def expected(self) -> str:
        """The type in words, for messages and --help."""
        names = {str: "text", bool: "true or false", int: "a whole number", float: "a finite number"}
        names |= {list: "a list of names", dict: "an object"}
        return names.get(self.kind) or "one of " + ", ".join(typing.get_args(self.kind))


def _option(declared: Any) -> Option:
    optional = types.NoneType in typing.get_args(declared)
    kind = typing.get_args(declared)[0] if optional else declared
    kind, *checks = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
    return Option(kind, optional, tuple(checks))


OPTIONS = {name: _option(declared) for name, declared in typing.get_type_hints(Arguments, include_extras=True).items()}
"""Every option by name, in the order of Arguments."""


def help_texts() -> dict[str, str]:
    """The string under each option, from the source: Python does not keep it."""
    (definition,) = ast.parse(inspect.getsource(Arguments)).body
    lines = [node for node in definition.body if isinstance(node, ast.Expr)][1:]  # type: ignore[attr-defined]
    return dict(zip(OPTIONS, map(ast.literal_eval, (line.value for line in lines)), strict=True))
