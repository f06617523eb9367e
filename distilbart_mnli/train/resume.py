"""How a training goes on from a checkpoint, and what a checkpoint has to say for that beside its tensors.

    checkpoint = find_checkpoint(run, recipe)                       # None: the training begins at its beginning
    load_weights(run, checkpoint)                                   # before the model is wrapped
    state = restore(state, checkpoint, run)                         # after optimizer and schedule are made
    write(run, state, randoms)                                      # checkpoint-<step>

checkpoints.py knows how a checkpoint is written whole, found and checked; what is in it is said here, once for writing
and for reading.
"""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilbart_mnli.data.tokens import TokenizedSplit, digest_of, tokenizer_digest, tokenizer_settings
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS
from distilbart_mnli.processes import gather_objects, same_outcome_on_all_ranks
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.optimizer import plain_state
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.saving import library_versions, save_model, write_trainer_state
from distilbart_mnli.train.state import (
    Progress,
    Steps,
    TrainState,
    broadcast_weights,
    copy_weights,
    load_file,
    load_optimizer,
    load_random_states,
    save_optimizer,
    save_random_states,
)

logger = logging.getLogger(__name__)

DECIDES_WEIGHTS = (
    "freeze_encoder freeze_embeds frozen_encoder_dropout max_seq_length pad_to_max_length pad_to_multiple_of "
    "train_sampling_strategy per_device_train_batch_size seed data_seed label_smoothing_factor learning_rate "
    "weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm lr_scheduler_type lr_scheduler_kwargs "
    "warmup_steps dropout attention_dropout activation_dropout classifier_dropout attn_implementation "
    "full_determinism torch_compile gradient_checkpointing load_best_model_at_end"
).split()
# Evaluations decide about the weights only where they choose, stop or set the learning rate.
DECIDES_BY_EVALUATION = (
    "eval_strategy metric_for_best_model greater_is_better early_stopping_patience early_stopping_threshold"
).split()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole, read by the first process and known to all."""

    path: Path
    resume: dict[str, Any]
    """The `resume` object of its trainer_state.json."""

    @property
    def progress(self) -> Progress:
        return Progress(**self.resume["progress"])

    @property
    def cache_used(self) -> bool:
        """Whether its training read the encoder's states from a cache."""
        return self.resume["encoder_cache"]


# ---------------------------------------------------------------------------------------------------------------------
# The recipe


def recipe(
    run: Run, steps: Steps, model_digest: str, train: TokenizedSplit, evaluation: list[TokenizedSplit]
) -> dict[str, Any]:
    """What decides the weights. A resumed run must have the same.

    Args:
        model_digest: of the weights that the training starts from.
    """
    args, names, every = run.args, DECIDES_WEIGHTS, None
    follows = args.lr_scheduler_type in FOLLOW_EVALUATIONS
    if args.load_best_model_at_end or args.early_stopping_patience is not None or follows:
        names = names + DECIDES_BY_EVALUATION
        every = (args.eval_steps or args.logging_steps) if args.eval_strategy == "steps" else None
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
        "train_data": text_digest(train.digest, train.labels),
        "evaluation_data": [text_digest(tokens.digest, tokens.labels) for tokens in evaluation],
    }


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


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def find_checkpoint(run: Run, current: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint to resume from: found and read by the first process, known to all.

    Args:
        current: this run's recipe.

    Raises:
        InputError: the one asked for is not there or not whole, or was made with another recipe.
        RunError: no space left for the best one, which comes along from another folder.
    """
    asked = run.args.resume_from_checkpoint
    if asked is None:
        return None
    checkpoint = None
    with same_outcome_on_all_ranks():
        if run.is_main:
            found = checkpoints.find_resumable(run.output_dir, asked)
            if found is None:
                logger.info("%s holds no checkpoint yet: starting from the beginning", run.output_dir)
            else:
                path, state = found
                checkpoint = Checkpoint(path, state["resume"])
                _compare(checkpoint, current)
                checkpoints.bring_best(path, run.output_dir, state)
    return gather_objects(checkpoint)[0]


def _compare(checkpoint: Checkpoint, current: dict[str, Any]) -> None:
    difference = recipe_difference(checkpoint.resume["recipe"], current)
    if difference:
        raise InputError(
            f"{checkpoint.path} was made with another recipe: {difference}; give the same, or start anew with "
            "--overwrite_output_dir and without resume_from_checkpoint"
        )
    then, now = checkpoint.resume["versions"], library_versions()
    if then != now:
        logger.warning("the checkpoint was made with %s, this is %s: the bits may differ", then, now)


def load_weights(run: Run, checkpoint: Path) -> None:
    """A checkpoint's weights, on the processes that read them; the others get them when the model is wrapped."""
    with same_outcome_on_all_ranks():
        if run.is_main or run.device.every_rank_loads:
            copy_weights(run.model, checkpoint)


def restore(state: TrainState, checkpoint: Checkpoint, run: Run) -> TrainState:
    """The state with the checkpoint's moments, schedule, loss scale and progress, and the process's random states.

    Args:
        state: of a model that has the checkpoint's weights. Its optimizer, schedule and scaler are the ones returned.
    """
    resume, moments, randoms = checkpoint.resume, None, None
    with same_outcome_on_all_ranks():
        if run.is_main:
            moments = load_file(checkpoint.path / "optimizer.safetensors")
            randoms = load_random_states(checkpoint.path / "random_states.safetensors")
    if run.accelerator.num_processes > 1:
        moments, randoms = gather_objects((moments, randoms))[0]
    assert moments is not None and randoms is not None
    load_optimizer(state.optimizer, state.names, moments, resume["optimizer_groups"])
    state.scheduler.load_state_dict({**state.scheduler.state_dict(), **resume["scheduler"]})
    if state.scaler is not None and resume["scaler"]:
        state.scaler.load_state_dict(resume["scaler"])
    run.device.set_random_state(randoms[run.accelerator.process_index])
    progress = checkpoint.progress
    return dataclasses.replace(state, progress=progress, saved_step=progress.step, first_save=False)


def load_best(run: Run, state: TrainState) -> bool:
    """Put the best checkpoint's weights into the model, on every process; false if it has them already.

    Raises:
        RunError: that checkpoint is not whole any more.
    """
    if state.progress.best_step in (None, state.progress.step):
        return False
    best = run.output_dir / f"checkpoint-{state.progress.best_step}"
    with same_outcome_on_all_ranks():
        if run.is_main or run.device.every_rank_loads:
            try:
                checkpoints.read_state(best)
            except ValueError as problem:
                raise RunError(
                    f"the best checkpoint {best} is not whole: {problem}; --resume_from_checkpoint true goes on from "
                    "before it and makes it again"
                ) from None
    load_weights(run, best)
    broadcast_weights(run.model)
    logger.info("loaded the best checkpoint, %s", best.name)
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write(run: Run, state: TrainState, randoms: list[dict[str, torch.Tensor]]) -> None:
    """Write checkpoint-<step>, whole, then remove the old ones; called on the first process alone.

    Args:
        randoms: Device.random_state() of every process.

    Raises:
        RunError: the disk refuses; the checkpoint before this one is whole.
    """
    progress = state.progress
    final = run.output_dir / f"checkpoint-{progress.step}"

    def fill(folder: Path) -> None:
        save_model(run, folder, torch.float32)
        groups = save_optimizer(state.optimizer, state.names, folder / "optimizer.safetensors")
        save_random_states(randoms, folder / "random_states.safetensors")
        resume = {
            "run_id": progress.run_id,
            "run_started": progress.run_started,
            "position": progress.step % state.steps.per_epoch,
            "progress": dataclasses.asdict(progress),
            "optimizer_groups": groups,
            "scheduler": plain_state(state.scheduler.state_dict()),
            "scaler": state.scaler.state_dict() if state.scaler is not None else None,
            "encoder_cache": state.cache_used,
            "encoder_cache_dtype": run.compute_dtype if state.cache_used else None,
            "recipe": state.recipe,
            "versions": library_versions(),
        }
        write_trainer_state(folder / checkpoints.STATE, run, state, resume=resume)

    whole = checkpoints.checkpoints_in(run.output_dir)
    safe = f"{whole[-1]} is whole" if whole else "no checkpoint was whole before it"
    checkpoints.write_checkpoint(final, fill, final.name, f"free some space and resume; {safe}")
    keep = [final]
    if progress.best_step is not None:
        keep.append(run.output_dir / f"checkpoint-{progress.best_step}")
    foreign = progress.run_id if state.first_save else None
    checkpoints.rotate(run.output_dir, run.args.save_total_limit, keep, foreign)
