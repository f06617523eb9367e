"""The Accelerate loop.

One optimizer step is: the examples that (seed, epoch) put into it, cut into micro-batches; for each, the sum of its
rows' losses, scaled so that the gradient is that of the mean over the whole step's examples, over all processes; one
clipped AdamW step; one step of the schedule. The host waits for the device at logging steps, evaluations and saves
only (and for fp16's loss scale, which the scaler reads in every step). A loss that is not finite is found there, with
the step in which it happened.

Everything that decides what comes next is in `Progress` (JSON), the weights, the moments and the random states, so
that a checkpoint after any optimizer step continues to the same bits (resume.py).
"""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from tqdm import tqdm
from transformers.trainer_pt_utils import get_parameter_names

from distilbart_mnli.data.batches import Collator, MicroBatch, epoch_order, micro_batches, prefetch, steps_per_epoch
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import InputError, RunError, StoppedBySignal
from distilbart_mnli.model import encoder_cache
from distilbart_mnli.model.bart import ShortCutBart, compile_layers
from distilbart_mnli.model.kernels import attention_kernels
from distilbart_mnli.model.predict import FORWARD_INPUTS
from distilbart_mnli.options.read import FOLLOW_EVALUATIONS
from distilbart_mnli.processes import agree_max, gather_objects, raise_together, together
from distilbart_mnli.train import checkpoint_tensors, checkpoints, resume
from distilbart_mnli.train import device as xla
from distilbart_mnli.train.optimizer import best_metric, make_schedule
from distilbart_mnli.train.resume import Progress
from distilbart_mnli.train.run import Context
from distilbart_mnli.train.signals import StopSignals
from distilbart_mnli.train.trackers import Trackers

logger = logging.getLogger(__name__)

XLA_AGREE_STEPS = 10  # there the question goes through the devices, and the hosts wait for them


def group_parameters(model: ShortCutBart, weight_decay: float) -> tuple[list[dict[str, Any]], list[str]]:
    """AdamW's two groups, and the names of their parameters in the same order.

    Weight decay is on everything that is trained but biases and layer norms. (2020's pattern "LayerNorm.weight"
    matched none of BART's layer norms, so those decayed.)
    """
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], ["bias"]))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups, names = [], []
    for decays in (True, False):
        chosen = {name: parameter for name, parameter in trained.items() if (name in decayed) == decays}
        if chosen:
            groups.append({"params": list(chosen.values()), "weight_decay": weight_decay if decays else 0.0})
            names += list(chosen)
    return groups, names


def row_losses(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Loss of every row, float32 [batch]: cross-entropy, or the squared error for float labels."""
    if labels.is_floating_point():
        return torch.nn.functional.mse_loss(logits[:, 0].float(), labels, reduction="none")
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class of its own for it, the CPU's allocator only a message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class Training:
    """One training on one set, with its evaluations, checkpoints and logs."""

    def __init__(self, context: Context, split: TokenizedSplit, trackers: Trackers):
        self.context, self.split, self.trackers = context, split, trackers
        self.args, self.accelerator, self.plan = context.args, context.accelerator, context.plan
        self.model = context.model
        self.output_dir = context.output_dir
        self.steps_per_epoch = steps_per_epoch(len(split), self.plan.effective)
        epochs = self.args.num_train_epochs
        self.total_steps = self.args.max_steps if self.args.max_steps > 0 else math.ceil(epochs * self.steps_per_epoch)
        self.progress = Progress()
        self.last_evaluation: tuple[int, Any] | None = None
        self._losses: list[torch.Tensor] = []
        self._loss_examples: list[int] = []
        self._grad_norm: torch.Tensor | None = None
        self.saved_step = -1
        self.first_save = True
        self.cache_used: bool | None = None
        self.reloaded = False

    # -- setting up ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Build optimizer and schedule, resume if asked to, open or build the encoder cache, wrap the model."""
        resumed = resume.find_checkpoint(self)
        if resumed is not None:
            resume.restore_progress(self, resumed)
        self.model.train()
        device = self.accelerator.device
        xla.place(self.model, device)
        groups, self.names = group_parameters(self.model, self.args.weight_decay)
        if not groups:
            raise InputError("nothing is left to train: every parameter is frozen")
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        optimizer = torch.optim.AdamW(
            groups,
            lr=self.args.learning_rate,
            betas=(self.args.adam_beta1, self.args.adam_beta2),
            eps=self.args.adam_epsilon,
            # Not under fp16's loss scale: the fused step skips an overflow inside its kernel, where accelerate does
            # not see it, and the schedule would move on without the weights.
            fused=device.type in ("cuda", "cpu") and self.context.precision != "fp16",
        )
        self.raw_optimizer = optimizer
        self.states = self._encoder_states(resumed)
        if self.args.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        if self.args.torch_compile:
            compile_layers(self.model)  # in place, so that the weights keep their names
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        # Not the prepared optimizer's: accelerate would step its schedule num_processes times a step.
        self.scheduler = make_schedule(self.args, optimizer, self.total_steps)
        self._zero = torch.zeros((), device=device)
        if self.context.on_xla:
            xla.zero_gradients(self.parameters)
            self.context.mark_step()
        xla.seed(self.args.seed + self.accelerator.process_index)  # dropout differs between processes
        if resumed is not None:
            resume.restore_tensors(self, resumed)

    def _encoder_states(self, resumed: resume.Checkpoint | None) -> encoder_cache.EncoderCache | None:
        passes = self.total_steps / self.steps_per_epoch
        cache = self.context.open_or_build_cache(self.split, passes, forced=self.cache_used)
        self.cache_used = cache is not None
        return cache

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end.

        Raises:
            StoppedBySignal: after the checkpoint; its message holds the command that resumes.
            RunError: a loss that is not finite, no memory, no space left.
        """
        started, before = time.monotonic(), self.progress.seconds
        self.bar = tqdm(
            total=self.total_steps,
            initial=self.progress.step,
            desc="Training",
            unit="step",
            disable=not self.context.show_progress,
        )
        self._log_clock, self._log_step = started, self.progress.step
        with StopSignals() as signals, self.bar:
            while self.progress.step < self.total_steps and not self.progress.stopped_early:
                for batches, examples in self._epoch():
                    self._step(batches, examples)
                    self.progress.seconds = before + time.monotonic() - started
                    self._after_step()
                    self._obey(signals)
                    if self.progress.step >= self.total_steps or self.progress.stopped_early:
                        break
            if self._losses or self.progress.window:
                self._flush_losses()
            if self.args.save_strategy != "no" and self.saved_step != self.progress.step:
                self._save()
            self._obey(signals)  # one that came while the last checkpoint was written
        self.progress.seconds = before + time.monotonic() - started

    def _epoch(self) -> Iterator[tuple[Iterator[dict[str, torch.Tensor]], int]]:
        """The rest of the current epoch: every optimizer step's micro-batches (made ahead) and its example count."""
        epoch, position = divmod(self.progress.step, self.steps_per_epoch)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        order = epoch_order(self.split.lengths, seed, epoch, self.plan.effective, self.args.train_sampling_strategy)[
            position:
        ][: self.total_steps - self.progress.step]
        shares = [
            micro_batches(
                step,
                self.plan.per_device,
                self.accelerator.num_processes,
                self.accelerator.process_index,
                fill=self.context.fill,
            )
            for step in order
        ]
        collate = Collator(
            self.split, self.model.config.pad_token_id, self.context.padding, self.states, pin=self.context.pin
        )
        items: list[MicroBatch] = [batch for share in shares for batch in share]
        stream = prefetch(collate, items, self.args.dataloader_num_workers)
        with contextlib.closing(stream):
            for step, share in zip(order, shares, strict=True):
                yield (self._timed(stream, len(share)), len(step))

    def _timed(self, stream: Iterator[dict[str, torch.Tensor]], count: int) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(count):
            started = time.monotonic()
            batch = next(stream)
            moved = {name: tensor.to(self.accelerator.device, non_blocking=True) for name, tensor in batch.items()}
            self.progress.data_seconds += time.monotonic() - started
            yield moved

    def _step(self, batches: Iterator[dict[str, torch.Tensor]], examples: int) -> None:
        """One optimizer step. DDP averages gradients over processes, so each gives its sum x processes / examples."""
        scale = self.accelerator.num_processes / examples
        count = -(-examples // (self.plan.per_device * self.accelerator.num_processes))
        total = self._zero
        for number, batch in enumerate(batches):
            last = number == count - 1
            with (
                contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped),
                attention_kernels(self.accelerator.device.type, self.context.precision),
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
            self.context.mark_step()
        if self.args.max_grad_norm > 0:
            self._grad_norm = self.accelerator.clip_grad_norm_(self.parameters, self.args.max_grad_norm)
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped and self.args.lr_scheduler_type not in FOLLOW_EVALUATIONS:
            self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=not self.context.on_xla)
        self.context.mark_step()
        self._losses.append(total)
        self._loss_examples.append(examples)
        self.progress.step += 1

    def _after_step(self) -> None:
        """Log, evaluate and save where it is due."""
        step, args = self.progress.step, self.args
        self.bar.update(1)
        end_of_epoch = step % self.steps_per_epoch == 0 or step == self.total_steps
        if step % args.logging_steps == 0 or (step == 1 and args.logging_first_step) or step == self.total_steps:
            self._log()
        every = args.eval_steps or args.logging_steps
        improved = False
        if (args.eval_strategy == "steps" and step % every == 0) or (args.eval_strategy == "epoch" and end_of_epoch):
            improved = self._evaluate()
        if (
            (args.save_strategy == "steps" and step % args.save_steps == 0)
            or (args.save_strategy == "epoch" and end_of_epoch)
            or (improved and args.load_best_model_at_end)
        ):
            self._save()

    def _obey(self, signals: StopSignals) -> None:
        """Stop here if any process was signalled; all agree, without the device."""
        if self.context.on_xla and self.accelerator.num_processes > 1 and self.progress.step % XLA_AGREE_STEPS:
            return
        number = agree_max(signals.received)
        if not number:
            return
        if self.saved_step != self.progress.step:
            self._save()
        stopped = StoppedBySignal(
            f"stopped by {signal.Signals(number).name} after step {self.progress.step} of {self.total_steps}; "
            f"go on with: {self.context.resume_command()}",
            number,
        )
        raise_together(stopped if self.accelerator.is_main_process else None)

    # -- losses and logs ----------------------------------------------------------------------------------------------

    def _flush_losses(self) -> None:
        """Bring the losses since the last flush to the host, summed over processes in the order of ranks.

        Raises:
            RunError: one of them, or the last gradient, is not finite.
        """
        if not self._losses:
            return
        mine = xla.to_host(self._losses).float().tolist()
        sums = torch.tensor(gather_objects(mine), dtype=torch.float64).sum(dim=0).tolist()
        first = self.progress.step - len(sums) + 1
        for number, total in enumerate(sums):
            if not math.isfinite(total):
                raise RunError(f"the loss at step {first + number} is {total}; {self._advice()}")
        scaled = self.accelerator.scaler is not None  # an overflow is then expected, and its step skipped
        if self._grad_norm is not None and not scaled and not math.isfinite(float(self._grad_norm)):
            raise RunError(f"the gradient at step {self.progress.step} is not finite; {self._advice()}")
        for total, examples in zip(sums, self._loss_examples, strict=True):
            self.progress.window.append([total, examples])
            self.progress.loss_sum += total
            self.progress.loss_examples += examples
        self._losses, self._loss_examples = [], []

    def _advice(self) -> str:
        found = checkpoints.checkpoints_in(self.output_dir)
        last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        return f"{last}; lower learning_rate, or train in float32 or bf16"

    def _log(self) -> None:
        self._flush_losses()
        window = self.progress.window
        examples = sum(count for _, count in window)
        entry: dict[str, Any] = {"epoch": self._epoch_float(), "step": self.progress.step}
        entry["loss"] = sum(total for total, _ in window) / examples
        entry["learning_rate"] = float(self.raw_optimizer.param_groups[0]["lr"])
        if self._grad_norm is not None:
            norm = float(self._grad_norm)
            entry["grad_norm"] = norm if math.isfinite(norm) else None
        self.progress.window = []
        self.progress.log_history.append(entry)
        now = time.monotonic()
        speed = examples / max(now - self._log_clock, 1e-9)
        self._log_clock = now
        self.bar.set_postfix(loss=f"{entry['loss']:.4f}", lr=f"{entry['learning_rate']:.2e}", ex_s=f"{speed:.0f}")
        logger.info(
            "step %d of %d, epoch %.2f: loss %.4f, learning rate %.3g, %.1f examples/s",
            self.progress.step,
            self.total_steps,
            entry["epoch"],
            entry["loss"],
            entry["learning_rate"],
            speed,
        )
        self.trackers.log({**entry, "train_samples_per_second": speed}, self.progress.step)

    def _epoch_float(self) -> float:
        return round(self.progress.step / self.steps_per_epoch, 6)

    def _evaluate(self) -> bool:
        """Evaluate all sets, log, and keep the books of best model and early stopping; true if this is the best."""
        started = time.monotonic()
        results = self.context.evaluate(progress=self.context.show_progress)
        self.model.train()
        seconds = time.monotonic() - started
        metrics = {key: value for result in results for key, value in result.named_metrics().items()}
        entry = {"epoch": self._epoch_float(), "step": self.progress.step, **metrics}
        rows = sum(len(result.logits) for result in results)
        entry["eval_runtime"], entry["eval_samples_per_second"] = seconds, rows / seconds
        self.progress.log_history.append(entry)
        self.last_evaluation = (self.progress.step, results)
        shown = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        logger.info("step %d: %s", self.progress.step, shown)
        self.trackers.log(entry, self.progress.step)
        return self._keep_best(metrics)

    def _keep_best(self, metrics: dict[str, float]) -> bool:
        args, progress = self.args, self.progress
        name, greater = best_metric(args)
        value = metrics[name]
        if args.lr_scheduler_type in FOLLOW_EVALUATIONS:
            self.scheduler.step(value)
        gain = math.inf if progress.best_metric is None else (value - progress.best_metric) * (1 if greater else -1)
        if gain > 0:
            progress.best_metric, progress.best_step = value, progress.step
        if gain > args.early_stopping_threshold:
            progress.evaluations_without_improvement = 0
        else:
            progress.evaluations_without_improvement += 1
            patience = args.early_stopping_patience
            if patience is not None and progress.evaluations_without_improvement >= patience:
                logger.info("early stopping: %s did not improve in %d evaluations", name, patience)
                progress.stopped_early = True
        return gain > 0

    # -- saving -------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write checkpoint-<step> on the first process; every process knows whether it worked.

        Raises:
            RunError: weights that are not finite (nothing is written), or a disk that refuses.
        """
        self._flush_losses()
        finite = torch.stack([torch.isfinite(parameter).all() for parameter in self.parameters]).all()
        if not bool(finite):
            raise RunError(f"weights are not finite after step {self.progress.step}; {self._advice()}")
        randoms = gather_objects(checkpoint_tensors.random_state())
        with together():
            if self.accelerator.is_main_process:
                resume.write_checkpoint(self, randoms)
        self.saved_step = self.progress.step
        self.first_save = False

    def _out_of_memory(self, shape: torch.Size) -> RunError:
        found = checkpoints.checkpoints_in(self.output_dir)
        last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        return RunError(
            f"out of memory in a batch of {shape[0]} x {shape[1]} tokens at step {self.progress.step + 1}: lower "
            f"per_device_train_batch_size (now {self.plan.per_device}; with effective_batch_size the recipe stays the "
            f"same), or set gradient_checkpointing or bf16; {last}"
        )
