"""What every stage of a run has at hand, once its input is read and checked."""

import logging
import shutil
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from distilbart_mnli.data.batches import Padding, TokenizedSplit, tokenize
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.errors import InputError
from distilbart_mnli.model import encoder_cache, encoder_cache_build
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.predict import Inference, Processes
from distilbart_mnli.model.pretrained import Loaded
from distilbart_mnli.options.fields import PRECISION_DTYPES, Arguments
from distilbart_mnli.processes import gather_objects, raise_together, ranks_sharing, together
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.launch import BatchPlan

logger = logging.getLogger(__name__)


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
    def padding(self) -> Padding:
        multiple = self.args.pad_to_multiple_of or (8 if self.device.is_cuda else 1)
        return Padding(self.args.max_seq_length, multiple, self.args.pad_to_max_length, self.device.buckets)

    @property
    def inference(self) -> Inference:
        return Inference(
            batch_size=self.args.per_device_eval_batch_size,
            processes=Processes(
                self.accelerator.num_processes, self.accelerator.process_index, self.sum_over_processes
            ),
            autocast=self.accelerator.autocast,
            workers=self.args.dataloader_num_workers,
            static_shapes=self.device.static_shapes,
            mark_step=self.device.mark_step,
            progress=self.show_progress,
        )

    @cached_property
    def encoder_digest(self) -> str:
        """Identity of the frozen encoder; the model is on the device afterwards."""
        self.model.to(self.accelerator.device)
        return encoder_cache.encoder_digest(self.model)

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
    run: Run, split: TokenizedSplit, passes: float, forced: bool | None = None
) -> encoder_cache.EncoderCache | None:
    """The cache of a set's encoder states, if there is to be one.

    Args:
        passes: how often this run reads every example.
        forced: what a checkpoint decided; None: decide here.

    Raises:
        InputError: it is wanted (cache_encoder_outputs true, or by the checkpoint) and does not fit.
    """
    args, model = run.args, run.model
    constant = model.encoder_is_constant or not args.do_train
    wanted = args.cache_encoder_outputs if forced is None else str(forced).lower()
    if wanted == "false" or not constant:
        return None
    if run.device.no_encoder_cache:
        if wanted == "true":
            raise_together(InputError(f"cache_encoder_outputs is true, but {run.device.no_encoder_cache}; take auto"))
        logger.info("encoder cache: none for %s: %s", split.name, run.device.no_encoder_cache)
        return None
    folder = Path(args.encoder_cache_dir) if args.encoder_cache_dir else encoder_cache.default_folder()
    key = encoder_cache.cache_key(model, split, run.compute_dtype, run.encoder_digest)
    found = encoder_cache.open_cache(folder / key, split)
    if all(gather_objects(found is not None)):
        logger.info("encoder cache: %s is read from %s", split.name, folder / key)
        return found
    size = encoder_cache.cache_bytes(split, model.config.d_model, run.compute_dtype)
    reason = encoder_cache.refuse_reason(
        size, folder / key, args.encoder_cache_max_gb, passes if wanted == "auto" else float("inf")
    )
    reasons = [other for other in gather_objects(reason) if other]
    if reasons and wanted == "true":
        why = "cache_encoder_outputs is true" if forced is None else "the checkpoint was made with a cache"
        raise_together(InputError(f"{why}, but {reasons[0]}; see also encoder_cache_dir"))
    if reasons:
        logger.info("encoder cache: none for %s: %s", split.name, reasons[0])
        return None
    sharing = ranks_sharing(folder)
    builders = encoder_cache_build.Builders(len(sharing), sharing.index(run.accelerator.process_index), together)
    free = shutil.disk_usage(folder).free / 1e9
    logger.info(
        "encoder cache: %s needs %.2f GB (%.1f GB are free); building %s",
        split.name,
        size / 1e9,
        free,
        folder / key,
    )
    started = time.monotonic()
    cache = encoder_cache_build.build_cache(
        model,
        split,
        folder / key,
        run.compute_dtype,
        run.accelerator.autocast,
        builders,
        run.show_progress,
        origin=Path(run.loaded.name).name,
    )
    logger.info("encoder cache: %s written in %.1f s", split.name, time.monotonic() - started)
    return cache
