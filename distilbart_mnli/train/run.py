"""What every stage of a run has at hand, once its input is read and checked."""

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from distilbart_mnli.data.batches import Padding
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.data.tokens import TokenizedSplit, tokenize
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.encoder_cache import EncoderCache, default_folder
from distilbart_mnli.model.encoder_cache_build import CacheRequest, open_or_build
from distilbart_mnli.model.frozen_encoder import FrozenEncoder
from distilbart_mnli.model.predict import Inference
from distilbart_mnli.model.pretrained import Loaded
from distilbart_mnli.model.teacher import Teacher
from distilbart_mnli.options.fields import PRECISION_DTYPES, Arguments
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.launch import BatchPlan


@dataclass(frozen=True)
class Run:
    """Made by stages.prepared, handed to everything after it."""

    args: Arguments
    accelerator: Accelerator
    device: Device
    plan: BatchPlan
    task: Task
    loaded: Loaded
    output_dir: Path
    teacher: Teacher | None = None

    @property
    def model(self) -> ShortCutBart:
        return self.loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.loaded.tokenizer

    @property
    def label_map(self) -> np.ndarray | None:
        """int64 [task labels] -> the model's label ids; None for regression."""
        return self.loaded.label_map

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    @property
    def precision(self) -> str:
        """ "no", "bf16" or "fp16"."""
        return self.accelerator.mixed_precision

    @property
    def compute_dtype(self) -> str:
        """What products are computed in, as torch names it."""
        return PRECISION_DTYPES[self.precision]

    @property
    def show_progress(self) -> bool:
        return self.is_main and not self.args.disable_tqdm and sys.stderr.isatty()

    @property
    def rounds_between_checks(self) -> int:
        """In every which step or batch the processes ask each other whether one was signalled."""
        return self.device.agree_steps if self.accelerator.num_processes > 1 else 1

    @property
    def padding(self) -> Padding:
        multiple = self.args.pad_to_multiple_of or (8 if self.device.is_cuda else 1)
        return Padding(self.args.max_seq_length, multiple, self.args.pad_to_max_length, self.device.buckets)

    @property
    def inference(self) -> Inference:
        return Inference(
            batch_size=self.args.per_device_eval_batch_size,
            num_processes=self.accelerator.num_processes,
            process_index=self.accelerator.process_index,
            reduce_sum=self.sum_over_processes,
            autocast=self.accelerator.autocast,
            workers=self.args.dataloader_num_workers,
            static_shapes=self.device.static_shapes,
            mark_step=self.device.mark_step,
            progress=self.show_progress,
        )

    @cached_property
    def frozen_encoder(self) -> FrozenEncoder:
        """The encoder as a cache sees it."""
        return self._as_cached(self.model, self.loaded.name)

    @cached_property
    def teacher_encoder(self) -> FrozenEncoder:
        """The teacher's, on this run's device."""
        assert self.teacher is not None
        self.device.place(self.teacher.model)
        return self._as_cached(self.teacher.model, self.teacher.name)

    @property
    def fits_encoder(self) -> bool:
        """Whether this run learns the teacher's encoder states, and evaluations measure the distance from them."""
        return self.args.fit_encoder and self.teacher is not None

    def _as_cached(self, model: ShortCutBart, name: str) -> FrozenEncoder:
        return FrozenEncoder(model, self.compute_dtype, self.accelerator.autocast, Path(name).name)

    def sum_over_processes(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of every process's tensor, on all of them."""
        if self.accelerator.num_processes == 1:
            return tensor
        return self.accelerator.reduce(tensor.to(self.accelerator.device), "sum")


def tokenize_split(run: Run, split: Split) -> TokenizedSplit:
    """Token ids and the model's label ids of a set; the first process first, so that the others find its cache."""
    with run.accelerator.main_process_first():
        return tokenize(split, run.tokenizer, run.args.max_seq_length, run.label_map, progress=run.show_progress)


def open_encoder_cache(
    run: Run, split: TokenizedSplit, passes: float, resumed: bool | None = None
) -> EncoderCache | None:
    """The cache of a set's encoder states, if there is to be one. The model is on the device already.

    The states are the model's own, where they are constant; in a fit they are the teacher's, which are learnt.

    Args:
        passes: how often this run reads every example.
        resumed: what a checkpoint decided.

    Raises:
        InputError: it is wanted and does not fit.
    """
    args = run.args
    request = CacheRequest(
        option=args.cache_encoder_outputs,
        passes=passes,
        folder=Path(args.encoder_cache_dir) if args.encoder_cache_dir else default_folder(),
        max_gb=args.encoder_cache_max_gb,
        resumed=resumed,
        trains=args.do_train,
        unavailable=run.device.no_encoder_cache,
    )
    encoder = run.teacher_encoder if run.fits_encoder else run.frozen_encoder
    return open_or_build(encoder, split, request, run.show_progress)
