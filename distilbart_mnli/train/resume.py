"""What a checkpoint says beside its tensors, and how a training goes on from it.

    found = find_checkpoint(training)       # none: the training begins at its beginning
    restore_progress(training, found)       # before the model is wrapped
    restore_tensors(training, found)        # after the optimizer and the schedule are made
    write_checkpoint(training, randoms)

checkpoints.py knows how a checkpoint is written whole, found and checked; what has to be in it is said here, once for
writing and for reading.
"""

import dataclasses
import logging
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS
from distilbart_mnli.processes import gather_objects, together
from distilbart_mnli.train import checkpoint_tensors, checkpoints

if TYPE_CHECKING:
    from distilbart_mnli.train.loop import Training

logger = logging.getLogger(__name__)

Checkpoint = tuple[Path, dict[str, Any]]
"""The folder, and what its trainer_state.json holds."""


@dataclass
class Progress:
    """Where a training stands. JSON in, JSON out."""

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    run_started: float = field(default_factory=time.time)
    step: int = 0
    """Optimizer steps done."""
    log_history: list[dict[str, Any]] = field(default_factory=list)
    window: list[list[float]] = field(default_factory=list)
    """[sum of losses, examples] of every step since the last log line."""
    loss_sum: float = 0.0
    loss_examples: int = 0
    best_metric: float | None = None
    best_step: int | None = None
    evaluations_without_improvement: int = 0
    stopped_early: bool = False
    seconds: float = 0.0
    data_seconds: float = 0.0


def recipe(training: "Training") -> dict[str, Any]:
    """What decides the weights. A resumed run must have the same."""
    names = (
        "freeze_encoder freeze_embeds frozen_encoder_dropout max_seq_length pad_to_max_length pad_to_multiple_of "
        "train_sampling_strategy per_device_train_batch_size seed data_seed label_smoothing_factor learning_rate "
        "weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm lr_scheduler_type lr_scheduler_kwargs "
        "warmup_steps dropout attention_dropout activation_dropout classifier_dropout attn_implementation "
        "full_determinism torch_compile gradient_checkpointing load_best_model_at_end"
    ).split()
    args, every = training.args, None
    follows = args.lr_scheduler_type in FOLLOW_EVALUATIONS
    if args.load_best_model_at_end or args.early_stopping_patience is not None or follows:
        # Evaluations decide about the weights only where they choose, stop or set the learning rate.
        names += "eval_strategy metric_for_best_model greater_is_better".split()
        names += "early_stopping_patience early_stopping_threshold".split()
        every = (args.eval_steps or args.logging_steps) if args.eval_strategy == "steps" else None
    return {
        **{name: getattr(args, name) for name in names},
        "eval_steps": every,
        "total_steps": training.total_steps,
        "effective_batch_size": training.plan.effective,
        "num_processes": training.accelerator.num_processes,
        "mixed_precision": training.context.precision,
        "model": training.context.model_digest,
        "tokenizer": training.context.tokenizer_digest,
        "train_data": checkpoints.text_digest(training.split.digest, training.split.labels),
        "evaluation_data": [checkpoints.text_digest(s.digest, s.labels) for s in training.context.evaluation_splits],
    }


def find_checkpoint(training: "Training") -> Checkpoint | None:
    """The checkpoint to resume from: found and read by the first process, known to all.

    Raises:
        InputError: the one asked for is not there or not whole, or was made with another recipe.
        RunError: no space left for the best one, which comes along from another folder.
    """
    asked = training.args.resume_from_checkpoint
    if asked is None:
        return None
    found = None
    with together():
        if training.accelerator.is_main_process:
            found = checkpoints.find_resumable(training.output_dir, asked)
            if found is None:
                logger.info("%s holds no checkpoint yet: starting from the beginning", training.output_dir)
            else:
                _compare(training, found)
                checkpoints.bring_best(found[0], training.output_dir, found[1])
    return gather_objects(found)[0]


def _compare(training: "Training", found: Checkpoint) -> None:
    resume = found[1]["resume"]
    difference = checkpoints.recipe_difference(resume["recipe"], recipe(training))
    if difference:
        raise InputError(
            f"{found[0]} was made with another recipe: {difference}; give the same, or start anew with "
            "--overwrite_output_dir and without resume_from_checkpoint"
        )
    if resume["versions"] != training.context.versions:
        logger.warning(
            "the checkpoint was made with %s, this is %s: the bits may differ",
            resume["versions"],
            training.context.versions,
        )


def restore_progress(training: "Training", resumed: Checkpoint) -> None:
    """Where the training stood, and its weights."""
    resume = resumed[1]["resume"]
    training.progress = Progress(**resume["progress"])
    training.cache_used = resume["encoder_cache"]
    training.first_save = False
    training.saved_step = training.progress.step
    logger.info("resuming from %s: step %d of %d", resumed[0].name, training.progress.step, training.total_steps)
    # The others get them when the model is wrapped; on XLA nothing wraps it, and all see the same disk.
    with together():
        if training.accelerator.is_main_process or training.context.on_xla:
            checkpoint_tensors.load_weights(training.model, resumed[0])


def restore_tensors(training: "Training", resumed: Checkpoint) -> None:
    """Moments, schedule, loss scale and random states; read by the first process, sent to the others."""
    path, state = resumed
    resume = state["resume"]
    moments, randoms = None, None
    with together():
        if training.accelerator.is_main_process:
            moments = checkpoint_tensors.load_file(path / "optimizer.safetensors")
            randoms = checkpoint_tensors.load_random_states(path / "random_states.safetensors")
    if training.accelerator.num_processes > 1:
        moments = gather_objects(moments)[0]
        randoms = gather_objects(randoms)[0]
        checkpoint_tensors.check_same_weights(training.model, gather_objects)
    assert moments is not None and randoms is not None
    checkpoint_tensors.load_optimizer(training.raw_optimizer, training.names, moments, resume["optimizer_groups"])
    training.scheduler.load_state_dict({**training.scheduler.state_dict(), **resume["scheduler"]})
    if training.accelerator.scaler is not None and resume["scaler"]:
        training.accelerator.scaler.load_state_dict(resume["scaler"])
    checkpoint_tensors.set_random_state(randoms[training.accelerator.process_index])


def write_checkpoint(training: "Training", randoms: list[dict[str, torch.Tensor]]) -> None:
    """Write checkpoint-<step>, whole, then remove the old ones; called on the first process alone.

    Args:
        randoms: checkpoint_tensors.random_state() of every process.

    Raises:
        RunError: the disk refuses; the checkpoint before this one is whole.
    """
    final = training.output_dir / f"checkpoint-{training.progress.step}"

    def write(folder: Path) -> None:
        training.context.save_model(folder, torch.float32)
        groups = checkpoint_tensors.save_optimizer(
            training.raw_optimizer, training.names, folder / "optimizer.safetensors"
        )
        checkpoint_tensors.save_random_states(randoms, folder / "random_states.safetensors")
        scaler = training.accelerator.scaler
        resume = {
            "run_id": training.progress.run_id,
            "run_started": training.progress.run_started,
            "position": training.progress.step % training.steps_per_epoch,
            "progress": dataclasses.asdict(training.progress),
            "optimizer_groups": groups,
            "scheduler": checkpoints.plain_state(training.scheduler.state_dict()),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "encoder_cache": training.cache_used,
            "encoder_cache_dtype": training.context.compute_dtype if training.cache_used else None,
            "recipe": recipe(training),
            "versions": training.context.versions,
        }
        training.context.write_trainer_state(folder / checkpoints.STATE, training, resume)

    whole = checkpoints.checkpoints_in(training.output_dir)
    safe = f"{whole[-1]} is whole" if whole else "no checkpoint was whole before it"
    checkpoints.write_whole(final, write, final.name, f"free some space and resume; {safe}")
    keep = [final]
    if training.progress.best_step is not None:
        keep.append(training.output_dir / f"checkpoint-{training.progress.best_step}")
    foreign = training.progress.run_id if training.first_save else None
    checkpoints.rotate(training.output_dir, training.args.save_total_limit, keep, foreign)


def load_best(training: "Training") -> None:
    """Put the best checkpoint's weights into the model, on every process.

    Raises:
        RunError: that checkpoint is not whole any more.
    """
    if training.progress.best_step is None or training.progress.best_step == training.progress.step:
        return
    best = training.output_dir / f"checkpoint-{training.progress.best_step}"
    with together():
        if training.accelerator.is_main_process or training.context.on_xla:
            try:
                checkpoints.read_state(best)
            except ValueError as problem:
                raise RunError(
                    f"the best checkpoint {best} is not whole: {problem}; --resume_from_checkpoint true goes on from "
                    "before it and makes it again"
                ) from None
            checkpoint_tensors.load_weights(training.model, best)
    checkpoint_tensors.broadcast_weights(training.model)
    training.reloaded = True
    logger.info("loaded the best checkpoint, %s", best.name)
