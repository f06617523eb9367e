"""The Accelerate loop.

One optimizer step is: the examples that (seed, epoch) put into it, cut into micro-batches; for each, the sum of its
rows' losses, scaled so that the gradient is that of the mean over the whole step's examples, over all processes; one
clipped AdamW step; one step of the schedule. The host waits for the device at logging steps, evaluations and saves
only (and for fp16's loss scale, which the scaler reads in every step). A loss that is not finite is found there, with
the step in which it happened.

Everything that decides what comes next is in `TrainState`, so that a checkpoint after any optimizer step continues to
the same bits (resume.py).
"""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
from tqdm import tqdm

from distilbart_mnli.command_line import resume_command, this_command
from distilbart_mnli.data.batches import Collator, epoch_order, micro_batches, prefetch, steps_per_epoch
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import RunError, StoppedBySignal
from distilbart_mnli.model.bart import compile_layers
from distilbart_mnli.model.encoder_cache import EncoderCache
from distilbart_mnli.model.kernels import attention_kernels
from distilbart_mnli.model.predict import FORWARD_INPUTS
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS
from distilbart_mnli.options.rules import fit_to_length
from distilbart_mnli.processes import gather_objects, raise_on_all_ranks, same_outcome_on_all_ranks
from distilbart_mnli.train import checkpoints, resume
from distilbart_mnli.train.device import is_out_of_memory
from distilbart_mnli.train.evaluation import EvaluationResult, EvaluationSet, evaluate
from distilbart_mnli.train.losses import PendingLosses, row_losses
from distilbart_mnli.train.optimizer import best_metric, make_optimizer, make_schedule
from distilbart_mnli.train.recipe import decides_bits, make_recipe
from distilbart_mnli.train.run import Run, open_encoder_cache
from distilbart_mnli.train.signals import StopRequested, StopSignals
from distilbart_mnli.train.state import Progress, Steps, TrainState
from distilbart_mnli.train.trackers import Trackers

logger = logging.getLogger(__name__)


class Training:
    """One training on one set, with its evaluations, checkpoints and logs."""

    def __init__(self, run: Run, split: TokenizedSplit, sets: list[EvaluationSet], trackers: Trackers):
        self.run, self.split, self.sets, self.trackers = run, split, sets, trackers
        self.args, self.accelerator = run.args, run.accelerator
        per_epoch = steps_per_epoch(len(split), run.plan.effective)
        total = self.args.max_steps if self.args.max_steps > 0 else math.ceil(self.args.num_train_epochs * per_epoch)
        self.steps = Steps(per_epoch, total)
        for remark in fit_to_length(self.args, total):
            if run.is_main:
                logger.warning("%s", remark)
        self.last_evaluation: tuple[int, list[EvaluationResult]] | None = None
        """The step of the newest evaluation, and what it gave."""
        self._losses = PendingLosses()

    # -- setting up ---------------------------------------------------------------------------------------------------

    def prepare(self, model_digest: str) -> None:
        """Build optimizer and schedule, resume if asked to, open or build the encoder cache, wrap the model.

        Args:
            model_digest: of the weights that the training starts from.
        """
        run, args, model, device = self.run, self.args, self.run.model, self.run.device
        recipe = make_recipe(run, self.steps, model_digest, self.split, [found.tokens for found in self.sets])
        bits = decides_bits(run)
        checkpoint = resume.find_checkpoint(run, self.steps, recipe, bits)
        if checkpoint is not None:
            step = checkpoint.record.progress.step
            logger.info("resuming from %s: step %d of %d", checkpoint.path.name, step, self.steps.total)
            resume.load_weights(run, checkpoint.path)
        model.train()
        device.place(model)
        optimizer, names = make_optimizer(args, model, run.precision)
        passes = self.steps.total / self.steps.per_epoch
        resumed = None if checkpoint is None else checkpoint.record.encoder_cache
        self.states: EncoderCache | None = open_encoder_cache(run, self.split, passes, resumed)
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if args.torch_compile:
            compile_layers(model)  # in place, so that the weights keep their names
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.state = TrainState(
            progress=Progress(),
            model=model,
            optimizer=optimizer,
            names=names,
            # Not the prepared optimizer's: accelerate would step its schedule num_processes times a step.
            scheduler=make_schedule(args, optimizer, self.steps.total),
            scaler=self.accelerator.scaler,
            steps=self.steps,
            recipe=recipe,
            bits=bits,
            cache_used=self.states is not None,
            train_examples=len(self.split),
            tracker_urls=self.trackers.urls,
        )
        self.parameters = self.state.parameters
        self._zero = torch.zeros((), device=device.torch_device)
        device.prepare_gradients(self.parameters)
        device.seed(args.seed + self.accelerator.process_index)  # dropout differs between processes
        if checkpoint is not None:
            self.state = resume.restore(self.state, checkpoint, run)

    # -- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train to the end.

        Raises:
            StoppedBySignal: after the checkpoint; its message holds the command that resumes.
            RunError: a loss that is not finite, no memory, no space left.
        """
        progress = self.state.progress
        self._started, self._seconds_before = time.monotonic(), progress.seconds
        shown, total = self.run.show_progress, self.steps.total
        self.bar = tqdm(total=total, initial=progress.step, desc="Training", unit="step", disable=not shown)
        self._log_clock = self._started
        with StopSignals(self.run.rounds_between_checks) as self._signals, self.bar:
            try:
                self._train()
            except StopRequested as stop:
                self._stop(stop.number)
        self._count_seconds()

    def _train(self) -> None:
        """Raises StopRequested between two batches."""
        progress, total = self.state.progress, self.steps.total
        if progress.evaluation_due and self.args.eval_strategy != "no":  # a signal came while it was done
            self._evaluate_and_save()
        while progress.step < total and not progress.stopped_early:
            with contextlib.closing(self._epoch()) as steps:
                for batches, examples in steps:
                    self._step(batches, examples)
                    self._count_seconds()
                    self._after_step()
                    if progress.step >= total or progress.stopped_early:
                        break
        self._flush_losses()
        if self.args.save_strategy != "no" and self.state.saved_step != progress.step:
            self._save()
        self._signals.check()  # for one that came while the last checkpoint was written

    def _count_seconds(self) -> None:
        self.state.progress.seconds = self._seconds_before + time.monotonic() - self._started

    def _stop(self, number: int) -> None:
        """End the run with a checkpoint of the steps that are done.

        Raises:
            StoppedBySignal: on all processes; its message, on the first, holds the command that goes on.
        """
        step, total, name = self.state.progress.step, self.steps.total, signal.Signals(number).name
        if self.state.saved_step != step and step > 0:
            self._save()
        goes_on = f"go on with: {resume_command()}" if step > 0 else f"start again with: {this_command()}"
        line = f"stopped by {name} after step {step} of {total}; {goes_on}"
        raise_on_all_ranks(StoppedBySignal(line, number) if self.run.is_main else None)

    def _epoch(self) -> Generator[tuple[Iterator[dict[str, torch.Tensor]], int]]:
        """The rest of the current epoch: every optimizer step's micro-batches (made ahead) and its example count."""
        run, args, step = self.run, self.args, self.state.progress.step
        epoch, position = divmod(step, self.steps.per_epoch)
        seed = args.seed if args.data_seed is None else args.data_seed
        order = epoch_order(self.split.lengths, seed, epoch, run.plan.effective, args.train_sampling_strategy)
        order = order[position : position + self.steps.total - step]
        count, index = self.accelerator.num_processes, self.accelerator.process_index
        shares = [micro_batches(rows, run.plan.per_device, count, index, run.device.static_shapes) for rows in order]
        collate = Collator(self.split, run.model.config.pad_token_id, run.padding, self.states, run.device.is_cuda)
        stream = prefetch(collate, [batch for share in shares for batch in share], args.dataloader_num_workers)
        with contextlib.closing(stream):
            for rows, share in zip(order, shares, strict=True):
                yield (self._timed(stream, len(share)), len(rows))

    def _timed(self, stream: Iterator[dict[str, torch.Tensor]], count: int) -> Iterator[dict[str, torch.Tensor]]:
        """The next `count` batches, on the device; the wait for them is counted."""
        for _ in range(count):
            started = time.monotonic()
            batch = next(stream)
            moved = {name: tensor.to(self.accelerator.device, non_blocking=True) for name, tensor in batch.items()}
            self.state.progress.data_seconds += time.monotonic() - started
            yield moved

    def _step(self, batches: Iterator[dict[str, torch.Tensor]], examples: int) -> None:
        """One optimizer step. Raises StopRequested before a micro-batch, as if the step had not begun."""
        device = self.run.device
        # Where shapes are static, it is asked before the first micro-batch alone: nothing was drawn then.
        before = None if device.static_shapes else device.random_state()
        try:
            total = self._gradients(batches, examples)
        except StopRequested:
            if before is not None:
                device.set_random_state(before)
            raise
        if self.args.max_grad_norm > 0:
            self._losses.norm = self.accelerator.clip_grad_norm_(self.parameters, self.args.max_grad_norm)
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped and self.args.lr_scheduler_type not in FOLLOW_EVALUATIONS:
            self.state.scheduler.step()
        self.optimizer.zero_grad(set_to_none=not self.run.device.static_shapes)
        self.run.device.mark_step()
        self._losses.add(total, examples)
        self.state.progress.step += 1

    def _gradients(self, batches: Iterator[dict[str, torch.Tensor]], examples: int) -> torch.Tensor:
        """Forward and backward passes of a step; returns the sum of its losses on this process, float32 [].

        DDP averages gradients over processes, so each gives its sum x processes / examples.
        """
        run, processes, step = self.run, self.accelerator.num_processes, self.state.progress.step
        scale = processes / examples
        count = -(-examples // (run.plan.per_device * processes))
        total = self._zero
        for number, batch in enumerate(batches):
            if number == 0 or not run.device.static_shapes:
                self._signals.check(step)
            last = number == count - 1
            with (
                contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped),
                attention_kernels(self.accelerator.device.type, run.precision),
            ):
                try:
                    logits = self.wrapped(**{name: batch[name] for name in FORWARD_INPUTS if name in batch})
                    losses = row_losses(logits, batch["labels"], self.args.label_smoothing_factor)
                    loss = (losses * batch["weights"]).sum()
                    self.accelerator.backward(loss * scale)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    raise self._out_of_memory(batch["input_ids"].shape) from None
            total = total + loss.detach()
            run.device.mark_step()
        return total

    def _after_step(self) -> None:
        """Log, evaluate and save where it is due."""
        step, args = self.state.progress.step, self.args
        self.bar.update(1)
        if step % args.logging_steps == 0 or (step == 1 and args.logging_first_step) or step == self.steps.total:
            self._log()
        by_step = args.eval_strategy == "steps" and step % args.evaluation_interval == 0
        by_epoch = args.eval_strategy == "epoch" and self.steps.ends_epoch(step)
        self.state.progress.evaluation_due = by_step or by_epoch
        self._evaluate_and_save()

    def _evaluate_and_save(self) -> None:
        """What is due after a step. A signal in the evaluation leaves it due, for the run that goes on."""
        step, args = self.state.progress.step, self.args
        improved = self.state.progress.evaluation_due and self._evaluate()
        if (
            (args.save_strategy == "steps" and step % args.save_steps == 0)
            or (args.save_strategy == "epoch" and self.steps.ends_epoch(step))
            or (improved and args.load_best_model_at_end)
        ):
            self._save()

    # -- losses and logs ----------------------------------------------------------------------------------------------

    def _flush_losses(self) -> None:
        """Raises RunError where one of the last losses, or the gradient, is not finite."""
        self._losses.flush(self.state.progress, self.run.device, self.state.scaler is not None, self._advice())

    def _log(self) -> None:
        self._flush_losses()
        progress = self.state.progress
        examples = sum(count for _, count in progress.window)
        entry: dict[str, Any] = {"epoch": round(self.state.epoch, 6), "step": progress.step}
        entry["loss"] = sum(total for total, _ in progress.window) / examples
        entry["learning_rate"] = float(self.state.optimizer.param_groups[0]["lr"])
        if self._losses.norm is not None:
            norm = float(self._losses.norm)
            entry["grad_norm"] = norm if math.isfinite(norm) else None
        progress.window = []
        progress.log_history.append(entry)
        now = time.monotonic()
        speed = examples / max(now - self._log_clock, 1e-9)
        self._log_clock = now
        self.bar.set_postfix(loss=f"{entry['loss']:.4f}", lr=f"{entry['learning_rate']:.2e}", ex_s=f"{speed:.0f}")
        where = f"step {progress.step} of {self.steps.total}, epoch {entry['epoch']:.2f}"
        rate = f"learning rate {entry['learning_rate']:.3g}, {speed:.1f} examples/s"
        logger.info("%s: loss %.4f, %s", where, entry["loss"], rate)
        self.trackers.log({**entry, "train_samples_per_second": speed}, progress.step)

    def _evaluate(self) -> bool:
        """Evaluate all sets, log, and keep the books of best model and early stopping; true if this is the best."""
        args, progress, started = self.args, self.state.progress, time.monotonic()
        results = evaluate(self.run, self.sets, self._signals)
        self.run.model.train()
        progress.evaluation_due = False
        seconds = time.monotonic() - started
        metrics = {key: value for result in results for key, value in result.named_metrics().items()}
        entry = {"epoch": round(self.state.epoch, 6), "step": progress.step, **metrics}
        rows = sum(len(result.logits) for result in results)
        entry["eval_runtime"], entry["eval_samples_per_second"] = seconds, rows / seconds
        progress.log_history.append(entry)
        self.last_evaluation = (progress.step, results)
        shown = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        logger.info("step %d: %s", progress.step, shown)
        self.trackers.log(entry, progress.step)
        name, greater_is_better = best_metric(args)
        if args.lr_scheduler_type in FOLLOW_EVALUATIONS:
            self.state.scheduler.step(metrics[name])
        is_best = progress.note_evaluation(metrics[name], greater_is_better, args.early_stopping_threshold)
        patience = args.early_stopping_patience
        if patience is not None and progress.evaluations_without_improvement >= patience:
            logger.info("early stopping: %s did not improve in %d evaluations", name, patience)
            progress.stopped_early = True
        return is_best

    # -- saving -------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write checkpoint-<step> on the first process; every process knows whether it worked.

        Raises:
            RunError: weights that are not finite (nothing is written), or a disk that refuses.
        """
        self._flush_losses()
        step = self.state.progress.step
        finite = torch.stack([torch.isfinite(parameter).all() for parameter in self.parameters]).all()
        if not bool(finite):
            raise RunError(f"weights are not finite after step {step}; {self._advice()}")
        randoms = gather_objects(self.run.device.random_state())
        with same_outcome_on_all_ranks():
            if self.run.is_main:
                resume.write(self.run, self.state, randoms)
        self.state.saved_step, self.state.first_save = step, False

    def _advice(self) -> str:
        return f"{self._last_good_checkpoint()}; lower learning_rate, or train in float32 or bf16"

    def _last_good_checkpoint(self) -> str:
        return checkpoints.last_good_checkpoint(self.run.output_dir, self.state.progress.run_id)

    def _out_of_memory(self, shape: torch.Size) -> RunError:
        return RunError(
            f"out of memory in a batch of {shape[0]} x {shape[1]} tokens at step {self.state.progress.step + 1}: "
            f"lower per_device_train_batch_size (now {self.run.plan.per_device}; with effective_batch_size the recipe "
            "stays the same), or set gradient_checkpointing or bf16; "
            f"{self._last_good_checkpoint()}"
        )
