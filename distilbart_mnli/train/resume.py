"""How a training goes on from a checkpoint, and what a checkpoint has to say for that beside its tensors.

    checkpoint = find_checkpoint(run, state_of_the_beginning)       # None: the training begins at its beginning
    load_weights(run, checkpoint)                                   # before the model is wrapped
    state = restore(state, checkpoint, run)                         # after optimizer and schedule are made
    write(run, state, randoms)                                      # checkpoint-<step>

checkpoints.py knows how a checkpoint is written whole, found and checked, record.py what its JSON holds, recipe.py
what must be the same in a run that goes on from it.
"""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.processes import gather_objects, same_outcome_on_all_ranks
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.optimizer import make_optimizer, make_schedule, plain_state
from distilbart_mnli.train.recipe import complete, recipe_difference
from distilbart_mnli.train.record import Record, same_keys
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.saving import library_versions, save_model, write_trainer_state
from distilbart_mnli.train.state import (
    Steps,
    TrainState,
    broadcast_weights,
    check_tensors,
    copy_weights,
    group_values,
    load_file,
    load_optimizer,
    load_random_states,
    save_optimizer,
    save_random_states,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole and fits the run, read by the first process and known to all."""

    path: Path
    record: Record


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def find_checkpoint(run: Run, steps: Steps, recipe: dict[str, Any], bits: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint to resume from: found and read by the first process, known to all.

    Args:
        recipe: this run's (recipe.make_recipe).
        bits: what decides its bits beside it (recipe.decides_bits).

    Raises:
        InputError: the one asked for is not there or not whole, or was made with another recipe; or, with
            require_same_bits, by something else that decides the bits.
        RunError: no space left for the best one, which comes along from another folder.
    """
    asked, checkpoint = run.args.resume_from_checkpoint, None
    with same_outcome_on_all_ranks():
        if run.args.require_same_bits and run.device.is_cuda and not run.args.full_determinism:
            raise InputError("require_same_bits: a GPU gives the same bits under full_determinism only; give both")
    if asked is None:
        return None
    with same_outcome_on_all_ranks():
        if run.is_main:

            def check(path: Path, record: Record) -> None:
                check_fits(path, record, run, steps, recipe)

            found = checkpoints.find_resumable(run.output_dir, asked, check)
            if found is None:
                logger.info("%s holds no checkpoint yet: starting from the beginning", run.output_dir)
            else:
                checkpoint = Checkpoint(*found)
                _compare(checkpoint, recipe, bits, run.args.require_same_bits)
                checkpoints.bring_best(checkpoint.path, run.output_dir, checkpoint.record)
    return gather_objects(checkpoint)[0]


def check_fits(path: Path, record: Record, run: Run, steps: Steps, recipe: dict[str, Any]) -> None:
    """Whether a whole checkpoint has the keys, tensors and shapes of this release and this model.

    A recipe that differs in values alone is not looked at: that is the user's to change (find_checkpoint).

    Raises:
        ValueError: names what does not fit.
    """
    saved = complete(record.recipe, recipe)
    if any(
        saved[name] != recipe[name]
        for name in ("model", "num_processes", "total_steps", "freeze_encoder", "freeze_embeds")
    ):
        return
    if record.progress.step > saved["total_steps"]:
        raise ValueError(f"its step {record.progress.step} lies beyond the last one, {saved['total_steps']}")
    optimizer, names = make_optimizer(run.args, run.model, run.precision)
    schedule = make_schedule(run.args, optimizer, steps.total)
    same_keys(record.optimizer_groups, group_values(optimizer), "resume.optimizer_groups")
    if saved["lr_scheduler_type"] == recipe["lr_scheduler_type"]:
        same_keys(record.scheduler, plain_state(schedule.state_dict()), "resume.scheduler")
    if record.scaler and run.accelerator.scaler is not None:
        same_keys(record.scaler, run.accelerator.scaler.state_dict(), "resume.scaler")
    check_tensors(path, run.model, names, run.accelerator.num_processes)


def _compare(checkpoint: Checkpoint, recipe: dict[str, Any], bits: dict[str, Any], require_same_bits: bool) -> None:
    record = checkpoint.record
    difference = recipe_difference(complete(record.recipe, recipe), recipe)
    if difference:
        raise InputError(
            f"{checkpoint.path} was made with another recipe: {difference}; give the same, or start anew with "
            "--overwrite_output_dir and without resume_from_checkpoint"
        )
    then = record.decides_bits
    if then is None:  # of an older release, which kept the libraries' versions alone
        then = record.versions if require_same_bits else {**bits, **record.versions}
    difference = recipe_difference(then, bits)
    if difference and require_same_bits:
        raise InputError(f"{checkpoint.path} was made by something else, and require_same_bits is given: {difference}")
    if difference:
        logger.warning(
            "%s was made by something else: %s; the run goes on, and its last bits may not be those of a run that was "
            "never interrupted",
            checkpoint.path.name,
            difference,
        )


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
    record, moments, randoms = checkpoint.record, None, None
    with same_outcome_on_all_ranks():
        if run.is_main:
            moments = load_file(checkpoint.path / "optimizer.safetensors")
            randoms = load_random_states(checkpoint.path / "random_states.safetensors")
    if run.accelerator.num_processes > 1:
        moments, randoms = gather_objects((moments, randoms))[0]
    assert moments is not None and randoms is not None
    load_optimizer(state.optimizer, state.names, moments, record.optimizer_groups)
    state.scheduler.load_state_dict({**state.scheduler.state_dict(), **record.scheduler})
    if state.scaler is not None and record.scaler:
        state.scaler.load_state_dict(record.scaler)
    run.device.set_random_state(randoms[run.accelerator.process_index])
    progress = record.progress
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
                check_tensors(best, run.model, state.names, run.accelerator.num_processes)
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
        record = Record(
            run_id=progress.run_id,
            run_started=progress.run_started,
            position=progress.step % state.steps.per_epoch,
            progress=progress,
            optimizer_groups=groups,
            scheduler=plain_state(state.scheduler.state_dict()),
            scaler=state.scaler.state_dict() if state.scaler is not None else None,
            encoder_cache=state.cache_used,
            encoder_cache_dtype=run.compute_dtype if state.cache_used else None,
            recipe=state.recipe,
            versions=library_versions(),
            decides_bits=state.bits,
        )
        write_trainer_state(folder / checkpoints.STATE, run, state, resume=dataclasses.asdict(record))

    safe = checkpoints.when_there_is_space(run.output_dir, progress.run_id)
    checkpoints.write_checkpoint(final, fill, final.name, safe)
    keep = [final]
    if progress.best_step is not None:
        keep.append(run.output_dir / f"checkpoint-{progress.best_step}")
    foreign = progress.run_id if state.first_save else None
    checkpoints.rotate(run.output_dir, run.args.save_total_limit, keep, foreign)
