"""What a training minimises: one loss a row, from what the wrapped model gives for a batch.

    objective = choose_objective(run, split, states)
    losses = objective.losses(objective.module(**inputs), batch)        # float32 [batch]

- LabelLoss: the rows' own labels. Fine-tuning, and "No Teacher Distillation".
- Distillation: the teacher's logits, and the labels as far as distillation_weight leaves them.
- EncoderFit: the teacher's encoder states, for a student whose encoder has fewer layers; no decoder is run.

A loss of its own for every row is all that the loop asks for: it weights them by example, so whatever is minimised is
the same on any number of processes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distilbart_mnli.data.splits import NO_LABEL
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.encoder_cache import EncoderCache, default_folder
from distilbart_mnli.model.frozen_encoder import FrozenEncoder
from distilbart_mnli.model.teacher import teacher_logits
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.run import Run


def label_losses(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Loss of every row, float32 [batch]: cross-entropy, or the squared error for float labels; 0 for NO_LABEL."""
    if labels.is_floating_point():
        return nn.functional.mse_loss(logits[:, 0].float(), labels, reduction="none") * (labels != NO_LABEL)
    return nn.functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=label_smoothing, ignore_index=NO_LABEL
    )


def teacher_losses(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """How far every row's answer is from the teacher's, float32 [batch].

    T^2 KL(teacher at T || student at T), Hinton et al. 2015 (arXiv 1503.02531, section 2.1): the factor keeps the
    gradient's size when T changes. A single logit is a regression's value: its squared distance.

    Args:
        logits, teacher_logits: [batch, num_labels], labels in one order.
    """
    logits, teacher_logits = logits.float(), teacher_logits.float()
    if logits.shape[1] == 1:
        return nn.functional.mse_loss(logits[:, 0], teacher_logits[:, 0], reduction="none")
    student = torch.log_softmax(logits / temperature, dim=-1)
    teacher = torch.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def state_losses(states: Tensor, teacher_states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean squared error of every row's encoder states over its real tokens and d_model: float32 [batch].

    Args:
        states, teacher_states: [batch, length, d_model].
        attention_mask: [batch, length], 1 at real tokens.
    """
    squares = (states.float() - teacher_states.float()).square().mean(-1) * attention_mask
    return squares.sum(1) / attention_mask.sum(1)


class LabelLoss:
    """The rows' labels."""

    def __init__(self, model: ShortCutBart, label_smoothing: float = 0.0, states: EncoderCache | None = None):
        self.module: nn.Module = model
        self.label_smoothing = label_smoothing
        self.gathered: dict[str, Any] = {"states": states}
        """What the collator gathers for every batch beside its rows, by the names of its fields."""

    def losses(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return label_losses(logits, batch["labels"], self.label_smoothing)


class Distillation(LabelLoss):
    """(1 - weight) x the labels' loss + weight x the distance from the teacher's logits.

    A row without a label (NO_LABEL) has the second part alone, with the same weight.
    """

    def __init__(
        self, model: ShortCutBart, args: Arguments, teacher_logits: np.ndarray, states: EncoderCache | None = None
    ):
        super().__init__(model, args.label_smoothing_factor, states)
        self.weight, self.temperature = args.distillation_weight, args.distillation_temperature
        self.gathered["teacher_logits"] = teacher_logits

    def losses(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        distances = teacher_losses(logits, batch["teacher_logits"], self.temperature)
        return (1 - self.weight) * super().losses(logits, batch) + self.weight * distances


class Encoder(nn.Module):
    """A model's encoder as a module of its own, so that what wraps it averages the gradients of a pass through it."""

    def __init__(self, model: ShortCutBart):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encoder states [batch, length, d_model]."""
        return self.model.encode(input_ids, attention_mask)


class EncoderFit:
    """The teacher's encoder states: read from a cache of them, or computed beside the student's."""

    def __init__(self, model: ShortCutBart, teacher: FrozenEncoder, states: EncoderCache | None):
        self.module: nn.Module = Encoder(model)
        self.model, self.teacher = model, teacher
        self.gathered: dict[str, Any] = {"teacher_states": states}

    def losses(self, states: Tensor, batch: dict[str, Tensor]) -> Tensor:
        target = batch.get("teacher_states")
        if target is None:
            with torch.no_grad(), self.teacher.autocast():
                target = self.teacher.model.encode(batch["input_ids"], batch["attention_mask"])
        return state_losses(states, target, batch["attention_mask"])

    def logits_and_losses(self, batch: dict[str, Tensor]) -> Tensor:
        """What an evaluation asks: [batch, num_labels + 1]; the encoder runs once for both."""
        inputs = batch["input_ids"], batch["attention_mask"]
        states = self.model.encode(*inputs)
        return torch.cat([self.model(*inputs, states).float(), self.losses(states, batch)[:, None]], dim=1)


Objective = LabelLoss | EncoderFit


def choose_objective(run: Run, split: TokenizedSplit, states: EncoderCache | None) -> Objective:
    """What `run` minimises on a set; a teacher's answers are read, or computed. All processes must call it.

    Args:
        split: the training set, tokenised for the student.
        states: encoder states of it, if they are cached: the teacher's in a fit, else the student's own.

    Raises:
        RunError: the disk has no room for what is kept.
    """
    args, teacher = run.args, run.teacher
    if teacher is None:
        return LabelLoss(run.model, args.label_smoothing_factor, states)
    if args.fit_encoder:
        return EncoderFit(run.model, run.teacher_encoder, states)
    its_states = None  # the student's, where both encoders are one
    if teacher.train is None and states is not None and run.teacher_encoder.digest == run.frozen_encoder.digest:
        its_states = states
    run.device.place(teacher.model)
    folder = Path(args.encoder_cache_dir) if args.encoder_cache_dir else default_folder()
    logits = teacher_logits(teacher, teacher.train or split, run.inference, folder, its_states, run.compute_dtype)
    teacher.model.to("cpu")  # its work is done
    return Distillation(run.model, args, logits, states)
