"""What a run has at hand once its input is read and checked: model, sets, processes, caches, and where results go."""

import dataclasses
import datetime
import json
import logging
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import datasets
import numpy as np
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import DistributedType

from distilbart_mnli.data.batches import XLA_BUCKETS, Collator, Padding
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import Task, set_suffix
from distilbart_mnli.data.tokens import TokenizedSplit, tokenize
from distilbart_mnli.errors import InputError
from distilbart_mnli.model import encoder_cache, encoder_cache_build
from distilbart_mnli.model.bart import ShortCutBart, count_parameters, to_stock
from distilbart_mnli.model.predict import Processes, evaluate_logits, predict_logits
from distilbart_mnli.model.pretrained import Loaded, input_digest, model_digest
from distilbart_mnli.options.fields import PRECISION_DTYPES
from distilbart_mnli.options.read import Arguments
from distilbart_mnli.processes import gather_objects, raise_together, ranks_sharing, together
from distilbart_mnli.public_text import command_line, public_command
from distilbart_mnli.train import device as xla
from distilbart_mnli.train.launch import BatchPlan, describe

if TYPE_CHECKING:
    from distilbart_mnli.train.loop import Training

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """One set's logits (float32 [rows, num_labels]) and metrics."""

    name: str
    suffix: str  # "" or "_mm": what its keys end with
    logits: np.ndarray
    metrics: dict[str, float]
    seconds: float

    def named_metrics(self) -> dict[str, float]:
        """{"eval_accuracy_mm": ...}"""
        return {f"eval_{key}{self.suffix}": value for key, value in self.metrics.items()}


@dataclass
class Context:
    """Filled by stages.py, read by everything after it."""

    args: Arguments
    accelerator: Accelerator
    plan: BatchPlan
    task: Task
    loaded: Loaded
    output_dir: Path
    evaluation: list[Split] = field(default_factory=list)
    evaluation_splits: list[TokenizedSplit] = field(default_factory=list)
    _evaluation_states: dict[str, encoder_cache.EncoderCache | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        args, device = self.args, self.accelerator.device
        self.model: ShortCutBart = self.loaded.model
        self.label_map = self.loaded.label_map
        self.precision: str = self.accelerator.mixed_precision
        self.compute_dtype = PRECISION_DTYPES[self.precision]
        self.is_main: bool = self.accelerator.is_main_process
        self.show_progress = self.is_main and not args.disable_tqdm and sys.stderr.isatty()
        # XLA compiles every shape: full batches, few lengths, no values looked at (device.py).
        self.on_xla = self.fill = self.accelerator.distributed_type == DistributedType.XLA
        if self.on_xla:
            xla.use_static_masks(self.model)
        multiple = args.pad_to_multiple_of or (8 if device.type == "cuda" else 1)
        buckets = XLA_BUCKETS if self.fill else ()
        self.padding = Padding(args.max_seq_length, multiple, args.pad_to_max_length, buckets)
        self.pin = device.type == "cuda"
        self.processes = Processes(
            self.accelerator.num_processes,
            self.accelerator.process_index,
            lambda tensor: self.accelerator.reduce(tensor.to(device), "sum") if self.processes.count > 1 else tensor,
        )
        self.versions = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
            "datasets": datasets.__version__,
        }
        self.model_digest = ""  # set before training: the weights that it starts from
        self.tokenizer_digest = input_digest(self.loaded.tokenizer)
        self._encoder_digest: str | None = None
        self.total_parameters = count_parameters(self.model)[1]
        self.train_examples: int | None = None
        self.tracker_urls: dict[str, str] = {}

    # -- sets ---------------------------------------------------------------------------------------------------------

    def tokenize(self, split: Split) -> TokenizedSplit:
        """Token ids and the model's label ids of a set; the first process first, so that the others find its cache."""
        with self.accelerator.main_process_first():
            return tokenize(
                split, self.loaded.tokenizer, self.args.max_seq_length, self.label_map, progress=self.show_progress
            )

    def suffix(self, name: str) -> str:
        """ "" for a task's first evaluation set, "_mm" for MNLI's second."""
        return set_suffix(name, self.evaluation[0].name if self.evaluation else name)

    def remember_model(self) -> None:
        """Take the digest of the weights that a training starts from."""
        self.model_digest = model_digest(self.model)

    # -- encoder cache ------------------------------------------------------------------------------------------------

    def open_or_build_cache(
        self, split: TokenizedSplit, passes: float, forced: bool | None = None
    ) -> encoder_cache.EncoderCache | None:
        """The cache of a set's encoder states, if there is to be one.

        Args:
            passes: how often this run reads every example.
            forced: what a checkpoint decided; None: decide here.

        Raises:
            InputError: it is wanted (cache_encoder_outputs true, or by the checkpoint) and does not fit.
        """
        args, model = self.args, self.model
        constant = model.encoder_is_constant or not args.do_train
        wanted = args.cache_encoder_outputs if forced is None else str(forced).lower()
        if wanted == "false" or not constant:
            return None
        if self.on_xla:
            if wanted == "true":
                raise_together(InputError("cache_encoder_outputs is true, but XLA has no encoder cache; take auto"))
            logger.info("encoder cache: none for %s: XLA has none", split.name)
            return None
        folder = Path(args.encoder_cache_dir) if args.encoder_cache_dir else encoder_cache.default_folder()
        if self._encoder_digest is None:
            model.to(self.accelerator.device)
            self._encoder_digest = encoder_cache.encoder_digest(model)
        key = encoder_cache.cache_key(model, split, self.compute_dtype, self._encoder_digest)
        found = encoder_cache.open_cache(folder / key, split)
        if all(gather_objects(found is not None)):
            logger.info("encoder cache: %s is read from %s", split.name, folder / key)
            return found
        size = encoder_cache.cache_bytes(split, model.config.d_model, self.compute_dtype)
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
        builders = encoder_cache_build.Builders(len(sharing), sharing.index(self.accelerator.process_index), together)
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
            self.compute_dtype,
            self.accelerator.autocast,
            builders,
            self.show_progress,
            origin=Path(self.loaded.name).name,
        )
        logger.info("encoder cache: %s written in %.1f s", split.name, time.monotonic() - started)
        return cache

    def prepare_evaluation(self, times: int) -> None:
        """Open or build the encoder caches of the evaluation sets, which will be read `times` times."""
        for split in self.evaluation_splits:
            self._evaluation_states[split.name] = self.open_or_build_cache(split, times)

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def logits_of(self, split: TokenizedSplit, progress: bool = False) -> np.ndarray:
        """Logits float32 [rows, num_labels] of the model as it is now."""
        states = self._evaluation_states.get(split.name) if len(self._evaluation_states) else None
        collate = Collator(split, self.model.config.pad_token_id, self.padding, states, self.pin)
        return predict_logits(
            self.model,
            collate,
            self.args.per_device_eval_batch_size,
            self.processes,
            self.accelerator.autocast,
            self.args.dataloader_num_workers,
            progress,
            self.fill,
            self.mark_step,
        )

    def evaluate(self, progress: bool = False) -> list[Evaluated]:
        """Logits and metrics of all evaluation sets; the same on every process."""
        results = []
        for split in self.evaluation_splits:
            started = time.monotonic()
            logits = self.logits_of(split, progress)
            assert split.labels is not None
            metrics = evaluate_logits(logits, split.labels, self.task, self.label_map)
            seconds = time.monotonic() - started
            results.append(Evaluated(split.name, self.suffix(split.name), logits, metrics, seconds))
        return results

    # -- saving -------------------------------------------------------------------------------------------------------

    def save_model(self, folder: Path, dtype: torch.dtype) -> None:
        """A stock model with its tokenizer, in `dtype`."""
        stock = to_stock(self.model)
        config_dtype = stock.config.dtype
        if dtype != torch.float32 or self.on_xla:
            with torch.device("meta"):
                copy = type(stock)(stock.config)
            state = {name: tensor.to("cpu").to(dtype) for name, tensor in stock.state_dict().items()}
            copy.load_state_dict(state, assign=True)
            copy.tie_weights()
            stock = copy
        stock.config.dtype = dtype
        stock.save_pretrained(folder)
        stock.config.dtype = config_dtype
        self.loaded.tokenizer.save_pretrained(folder)

    def run_facts(self) -> dict[str, Any]:
        """The `run` object of trainer_state.json."""
        card = self.loaded.card
        trainable = sum(p.numel() for p in {id(p): p for p in self.model.parameters()}.values() if p.requires_grad)
        return {
            "command": public_command(command_line()),
            "task": self.task.name,
            "versions": self.versions,
            "hardware": describe(self.accelerator, self.plan, self.precision),
            "num_processes": self.accelerator.num_processes,
            "mixed_precision": self.precision,
            "effective_batch_size": self.plan.effective,
            "trainable_parameters": trainable,
            "total_parameters": self.total_parameters,
            "license": card.get("license") or self.args.license,
            "license_name": card.get("license_name"),
            "license_link": card.get("license_link"),
            "language": card.get("language"),
            "train_examples": self.train_examples,
            "tracker_urls": self.tracker_urls,
            "date": datetime.date.today().isoformat(),
        }

    def write_trainer_state(self, path: Path, training: "Training", resume: dict[str, Any] | None = None) -> None:
        """transformers.TrainerState's keys, `run`, and in a checkpoint `resume`."""
        progress, args = training.progress, self.args
        state = transformers.TrainerState(
            epoch=training.progress.step / training.steps_per_epoch,
            global_step=progress.step,
            max_steps=training.total_steps,
            logging_steps=args.logging_steps,
            eval_steps=args.eval_steps or args.logging_steps,
            save_steps=args.save_steps,
            train_batch_size=args.per_device_train_batch_size,
            num_train_epochs=int(-(-training.total_steps // training.steps_per_epoch)),
            log_history=progress.log_history,
            best_metric=progress.best_metric,
            best_global_step=progress.best_step,
            best_model_checkpoint=f"checkpoint-{progress.best_step}" if progress.best_step else None,
        )
        values = {**dataclasses.asdict(state), "run": self.run_facts()}
        if resume is not None:
            values["resume"] = resume
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def resume_command(self) -> str:
        """The command that goes on from the newest checkpoint, as a shell reads it."""
        words = shlex.split(command_line())
        if "--resume_from_checkpoint" in words:
            at = words.index("--resume_from_checkpoint")
            has_value = at + 1 < len(words) and not words[at + 1].startswith("--")
            del words[at : at + 1 + has_value]
        return shlex.join([*words, "--resume_from_checkpoint", "true"])

    def mark_step(self) -> None:
        """On XLA, run what was recorded; elsewhere nothing waits."""
        if self.on_xla:
            xla.sync()
