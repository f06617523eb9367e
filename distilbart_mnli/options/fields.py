"""Every option of run_glue.py: one dataclass a subject; the string under a field is its help text.

Names and defaults are those of transformers' TrainingArguments; README lists where ours differ. read.py reads
them from a file and from flags.
"""

import ast
import dataclasses
import inspect
import itertools
import typing
from dataclasses import dataclass
from typing import Any, Literal

from transformers import SchedulerType

SCHEDULES = tuple(str(kind.value) for kind in SchedulerType)
# Two of transformers' schedules wait for a metric after every evaluation; the others are stepped by the optimizer.
FOLLOW_EVALUATIONS = ("reduce_lr_on_plateau", "greedy")
PRECISION_DTYPES = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""accelerate's mixed_precision -> the dtype that products are computed in, as torch names it."""


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
    """Round the padded length up to a multiple of this (default: 8 on a GPU, else 1)."""
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
    """License for the model card, where the teacher's card names none; a publish-only run adds it too."""


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
