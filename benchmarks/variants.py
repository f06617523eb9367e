"""The five ways to train a student that train_speed.py compares, each as an object with one measured slice.

A slice is a fixed set of optimizer steps, the same in every repetition, so what varies between repetitions is the
machine. Steps of an epoch differ in length, by design where they are grouped, so the slice's steps are chosen to have
the epoch's mean (`typical_steps`). Ours go through the package's own parts: Training._step and its data stream.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BartConfig, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from benchmarks import arithmetic, references
from distilbart_mnli.data.batches import Collator, Padding, epoch_order, micro_batches, prefetch
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.model import encoder_cache_build
from distilbart_mnli.model.bart import ShortCutBart, freeze
from distilbart_mnli.model.frozen_encoder import FrozenEncoder
from distilbart_mnli.model.pretrained import Loaded
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.train.device import device_for
from distilbart_mnli.train.launch import batch_plan, make_accelerator
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.signals import StopSignals
from distilbart_mnli.train.trackers import Trackers

SIZES = {
    "toy": {"d_model": 32, "ffn": 64, "heads": 4, "encoder_layers": 3, "vocab_size": 500},
    "cpu": {"d_model": 256, "ffn": 1024, "heads": 4, "encoder_layers": 12, "vocab_size": 50265},
    "large": {"d_model": 1024, "ffn": 4096, "heads": 16, "encoder_layers": 12, "vocab_size": 50265},
}
NAMES = {
    "a": "2020 recipe: stock, padded to 128, frozen encoder",
    "b": "run_glue_no_trainer: stock, everything trained, padded to the longest",
    "c": "ours, first epoch with encoding",
    "d": "ours, cached",
    "e": "stock decoder on the same cached input",
}


def student_config(size: str, decoder_layers: int) -> BartConfig:
    """bart-large-mnli's configuration (its dropouts: 0.1 on states, none elsewhere) at a size of SIZES."""
    values = SIZES[size]
    return BartConfig(
        vocab_size=values["vocab_size"],
        d_model=values["d_model"],
        encoder_layers=values["encoder_layers"],
        decoder_layers=decoder_layers,
        encoder_attention_heads=values["heads"],
        decoder_attention_heads=values["heads"],
        encoder_ffn_dim=values["ffn"],
        decoder_ffn_dim=values["ffn"],
        max_position_embeddings=1024,
        dropout=0.1,
        attention_dropout=0.0,
        activation_dropout=0.0,
        classifier_dropout=0.0,
        num_labels=3,
        id2label={0: "contradiction", 1: "neutral", 2: "entailment"},
        label2id={"contradiction": 0, "neutral": 1, "entailment": 2},
    )


@dataclass(frozen=True)
class Recipe:
    """What all variants of one student share."""

    config: BartConfig
    split: TokenizedSplit  # an epoch to choose the steps from
    device: str
    dtype: torch.dtype
    batch_size: int
    accumulation: int
    steps: int  # of a slice of ours and of (e)
    reference_steps: int  # of a slice of (a) and (b)
    longest: bool  # the longest steps instead of typical ones: for the peak of memory
    student: Path  # a saved model
    folder: Path  # for encoder caches
    torch_compile: bool = False  # (c) and (d) only

    @property
    def effective(self) -> int:
        return self.batch_size * self.accumulation


def make_split(lengths: np.ndarray, data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> TokenizedSplit:
    ids, offsets, labels = data
    assert np.array_equal(np.diff(offsets), lengths)
    return TokenizedSplit("train", ids, offsets, labels, digest_of(ids, offsets))


def rows_of(split: TokenizedSplit, rows: np.ndarray) -> TokenizedSplit:
    """A set of these rows alone, in this order."""
    ids = np.concatenate([split.ids[split.offsets[row] : split.offsets[row + 1]] for row in rows])
    offsets = np.concatenate([[0], np.cumsum(split.lengths[rows])])
    assert split.labels is not None
    return TokenizedSplit("train", ids, offsets, split.labels[rows], digest_of(ids, offsets))


def typical_steps(costs: np.ndarray, count: int, longest: bool = False) -> np.ndarray:
    """Indices of `count` steps that stand for an epoch.

    The epoch's steps, sorted by cost, are cut into `count` equal parts, and of each the step nearest to its part's
    mean is taken: the mean of what was taken is the epoch's, closely.
    """
    order = np.argsort(costs, kind="stable")
    if longest:
        return order[-count:]
    return np.array([part[np.argmin(abs(costs[part] - costs[part].mean()))] for part in np.array_split(order, count)])


class Variant:
    """One way to train. `slice()` runs the slice once; the figures beside it are of that slice."""

    examples: int
    shapes: list[tuple[int, int]]  # rows and padded length of every batch
    executed: int  # multiply-adds
    tokens_per_example: float
    epoch_tokens_per_example: float

    def slice(self) -> None:
        raise NotImplementedError

    def describe(self, shapes: list[tuple[int, int]], epoch_tokens_per_example: float) -> None:
        self.shapes, self.epoch_tokens_per_example = shapes, epoch_tokens_per_example
        self.examples = sum(rows for rows, _ in shapes)
        self.tokens_per_example = sum(rows * length for rows, length in shapes) / self.examples


class Reference(Variant):
    """(a) and (b)."""

    def __init__(self, recipe: Recipe, name: str):
        self.recipe, self.name = recipe, name
        frozen = name == "a"
        split, size = recipe.split, recipe.batch_size
        order = epoch_order(split.lengths, 0, 0, recipe.effective, "random")
        # A script shuffles and cuts: micro-batches are random, not sorted within their step.
        rng = np.random.default_rng(0)
        order = [rng.permutation(step).reshape(-1, size) for step in order if len(step) == recipe.effective]
        multiple = 8 if recipe.device == "cuda" else 1

        def length(rows: np.ndarray) -> int:
            longest = int(split.lengths[rows].max())
            return arithmetic.MAX_LENGTH if name == "a" else -(-longest // multiple) * multiple

        costs = np.array([sum(size * length(rows) for rows in step) for step in order])
        chosen = [order[i] for i in typical_steps(costs, recipe.reference_steps, recipe.longest)]
        assert split.labels is not None
        ids, labels = torch.from_numpy(split.ids.astype(np.int64)), torch.from_numpy(split.labels)
        # Tokenised and cut into batches beforehand; padding happens in the loop, as in a script.
        self.steps = [
            [
                ([ids[split.offsets[r] : split.offsets[r + 1]] for r in rows], labels[rows], length(rows))
                for rows in step
            ]
            for step in chosen
        ]
        self.describe([(size, length(rows)) for step in chosen for rows in step], costs.mean() / recipe.effective)
        self.executed = arithmetic.stock(recipe.config, self.shapes, "frozen" if frozen else "trained")
        self.model = references.load_student(recipe.student, recipe.device, frozen)
        self.optimizer, self.scheduler = references.make_optimizer(self.model)
        self.max_grad_norm = 1.0 if frozen else None

    def slice(self) -> None:
        recipe = self.recipe
        for step in self.steps:
            batches = (
                references.collate(rows, labels, recipe.config.pad_token_id, length, recipe.device)
                for rows, labels, length in step
            )
            loss = references.train_step(
                self.model, self.optimizer, self.scheduler, batches, len(step), recipe.dtype, self.max_grad_norm
            )
        assert bool(torch.isfinite(loss)), "the loss of a reference is not finite"


class Slice(Training):
    """The package's training, with steps that are given to it instead of an epoch."""

    def reader(self) -> "Reader":
        """What `_epoch` makes its batches from."""
        run = self.run
        collate = Collator(
            self.split, run.model.config.pad_token_id, run.padding, pin=run.device.is_cuda, **self.objective.gathered
        )
        return Reader(collate, run.plan.per_device, self.args.dataloader_num_workers)

    def pass_over(self, order: list[np.ndarray]) -> None:
        """These optimizer steps, and the look at their losses that a logging step takes."""
        started = time.monotonic()
        self._signals = StopSignals(self.run.rounds_between_checks)  # looked at as in a training, and never set
        with self.reader().read(order) as (stream, counts):
            for step, count in zip(order, counts, strict=True):
                self._step(self._timed(stream, count), len(step))
        self._flush_losses()
        self.state.progress.window.clear()
        self.state.progress.seconds += time.monotonic() - started

    def data_time_share(self) -> float:
        """Share of the time in `pass_over` that the loop waited for batches."""
        return self.state.progress.data_seconds / self.state.progress.seconds


@dataclass(frozen=True)
class Reader:
    """Batches of given optimizer steps, prepared ahead as in training."""

    collate: Collator
    batch_size: int
    workers: int

    @contextlib.contextmanager
    def read(self, order: list[np.ndarray]) -> Iterator[tuple[Iterator[dict[str, torch.Tensor]], list[int]]]:
        """The stream of all batches, and how many of them each step has."""
        shares = [micro_batches(step, self.batch_size, 1, 0) for step in order]
        stream = prefetch(self.collate, [batch for share in shares for batch in share], self.workers)
        try:
            yield stream, [len(share) for share in shares]
        finally:
            stream.close()  # type: ignore[attr-defined]


def make_training(recipe: Recipe, split: TokenizedSplit) -> Slice:
    """Arguments, Run and Training as run_glue.py makes them."""
    args = Arguments(
        do_train=True,
        output_dir=str(recipe.folder / "output"),
        freeze_encoder=True,
        freeze_embeds=True,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=3e-5,
        weight_decay=0.01,
        adam_beta2=0.98,
        warmup_steps=500,
        max_steps=1_000_000,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=recipe.device == "cpu",
        fp16=False,
        bf16=recipe.dtype == torch.bfloat16,
        torch_compile=recipe.torch_compile,
        cache_encoder_outputs="true",
        encoder_cache_dir=str(recipe.folder / "encoder"),
    )
    accelerator = make_accelerator(args)
    model = ShortCutBart.from_pretrained(recipe.student, dtype=torch.float32, attn_implementation="sdpa")
    freeze(model, args.freeze_encoder, args.freeze_embeds)
    # Only its digest is asked for: the rows are made of ids.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>")))
    loaded = Loaded(model, tokenizer, np.arange(3), "random weights", {})
    output_dir, device = Path(args.output_dir or "."), device_for(accelerator)
    run = Run(args, accelerator, device, batch_plan(args, 1), TASKS["mnli"], loaded, output_dir)
    training = Slice(run, split, [], Trackers([], "", output_dir, {}, False))
    training.prepare(model_digest="")
    return training


class Ours(Variant):
    """(c) and (d)."""

    def __init__(self, recipe: Recipe, name: str):
        self.recipe, self.name = recipe, name
        split = recipe.split
        order = epoch_order(split.lengths, 0, 0, recipe.effective, "group_by_length")
        order = [step for step in order if len(step) == recipe.effective]
        multiple = 8 if recipe.device == "cuda" else 1
        padding = Padding(arithmetic.MAX_LENGTH, multiple)

        def shapes(steps: list[np.ndarray]) -> list[tuple[int, int]]:
            batches = [batch.rows for step in steps for batch in micro_batches(step, recipe.batch_size, 1, 0)]
            return [(len(rows), padding.length(int(split.lengths[rows].max()))) for rows in batches]

        costs = np.array([sum(rows * length for rows, length in shapes([step])) for step in order])
        chosen = [order[i] for i in typical_steps(costs, recipe.steps, recipe.longest)]
        self.describe(shapes(chosen), costs.mean() / recipe.effective)
        self.needed = arithmetic.ours(recipe.config, [(1, int(n)) for n in split.lengths[np.concatenate(chosen)]])
        self.executed = arithmetic.ours(recipe.config, self.shapes)
        # Only the slice's rows are encoded; its steps are then runs of the rows of that set.
        self.split = rows_of(split, np.concatenate(chosen))
        self.order = list(np.arange(self.examples).reshape(len(chosen), -1))
        self.training = make_training(recipe, self.split)
        assert self.training.run.padding == padding
        if name == "c":
            batches = self.training.run.frozen_encoder.batches(self.split)
            encoded = [(len(rows), int(self.split.lengths[rows].max())) for rows in batches]
            self.executed += arithmetic.encoder(recipe.config, encoded)

    def slice(self) -> None:
        if self.name == "c":
            self.encode()
        self.training.pass_over(self.order)

    def encode(self) -> None:
        """As in an epoch that finds no cache."""
        run, folder = self.training.run, self.recipe.folder / "built"
        shutil.rmtree(folder, ignore_errors=True)
        encoder = FrozenEncoder(run.model, run.compute_dtype, run.accelerator.autocast)
        self.training.objective.gathered["states"] = encoder_cache_build.build_cache(encoder, self.split, folder)


class StockDecoder(Variant):
    """(e): the batches of (d), read in the same way, and the stock model."""

    def __init__(self, recipe: Recipe):
        cached = Ours(recipe, "d")
        self.recipe, self.order, self.reader = recipe, cached.order, cached.training.reader()
        self.describe(cached.shapes, cached.epoch_tokens_per_example)
        self.executed = arithmetic.stock(recipe.config, self.shapes, "cached")
        cached.training.accelerator.free_memory()  # it holds our model, which only made the cache
        del cached
        self.model = references.load_student(recipe.student, recipe.device, frozen=True)
        self.optimizer, self.scheduler = references.make_optimizer(self.model)

    def batches(self, stream: Iterator[dict[str, torch.Tensor]], count: int) -> Iterator[dict[str, Any]]:
        for _ in range(count):
            batch = {name: t.to(self.recipe.device, non_blocking=True) for name, t in next(stream).items()}
            states = BaseModelOutput(last_hidden_state=batch["encoder_hidden_states"])
            yield {**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}, "encoder_outputs": states}

    def slice(self) -> None:
        with self.reader.read(self.order) as (stream, counts):
            for count in counts:
                batches = self.batches(stream, count)
                loss = references.train_step(
                    self.model, self.optimizer, self.scheduler, batches, count, self.recipe.dtype, 1.0
                )
        assert bool(torch.isfinite(loss)), "the loss of the stock decoder is not finite"


def make_variant(recipe: Recipe, name: str) -> Variant:
    """Variant `name` of NAMES, with a model of its own."""
    if name in "ab":
        return Reference(recipe, name)
    return StockDecoder(recipe) if name == "e" else Ours(recipe, name)
