"""From token ids to batches: order by (seed, epoch), cut into micro-batches, pad to what a batch needs, prepare ahead.

The order. Optimizer step t of an epoch takes the examples `epoch_order(...)[t]`: a function of (seed, epoch, effective
batch size) and of nothing else, so any number of processes makes the same steps. With `group_by_length` the shuffled
epoch is cut into runs of 50 steps, each run is sorted by length and cut into steps, and the steps are shuffled again:
on MNLI's lengths 97 % of what is computed is real tokens, against 31 % padded to 128 (benchmarks/padding.py).

The split. The examples of a step, sorted by length, are cut into micro-batches of (per-device batch x processes), and
each of those is dealt out to the processes like cards, so that they wait for each other as little as possible. A last
step with fewer examples gives some process fewer rows; it gets a row of weight 0, which counts nowhere.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from distilbart_mnli.data.tokens import TokenizedSplit

RUN_STEPS = 50  # steps sorted together; the same figure as the megabatch of transformers' LengthGroupedSampler
XLA_BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 128)  # the only padded lengths where every shape is a compilation

# ---------------------------------------------------------------------------------------------------------------------
# Order


def epoch_order(
    lengths: np.ndarray, seed: int, epoch: int, step_size: int, strategy: Literal["group_by_length", "random"]
) -> list[np.ndarray]:
    """The examples of every optimizer step of an epoch: int64 arrays of `step_size` rows, the last perhaps shorter.

    Inside a step the rows are sorted by length (the sum of their losses does not depend on their order, and batches
    cut from a sorted row need less padding).
    """
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = rng.permutation(len(lengths))
    whole = len(order) - len(order) % step_size
    order, rest = order[:whole], order[whole:]
    if strategy == "group_by_length":
        # Stable sorts: ties keep their shuffled order, the same with every numpy.
        runs = [order[start : start + RUN_STEPS * step_size] for start in range(0, whole, RUN_STEPS * step_size)]
        order = np.concatenate([run[np.argsort(lengths[run], kind="stable")] for run in runs] or [order])
    steps = list(order.reshape(-1, step_size))
    steps = [steps[index] for index in rng.permutation(len(steps))]
    if len(rest):
        steps.append(rest)
    return [step[np.argsort(lengths[step], kind="stable")] for step in steps]


def steps_per_epoch(examples: int, step_size: int) -> int:
    """Optimizer steps of one epoch; a short last one counts."""
    return -(-examples // step_size)


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward pass of one process, and their weights (0: a filler that counts nowhere)."""

    rows: np.ndarray  # int64 [batch]
    weights: np.ndarray  # float32 [batch]


def micro_batches(
    step: np.ndarray, per_device: int, num_processes: int, process_index: int, fill: bool = False
) -> list[MicroBatch]:
    """This process's share of one optimizer step: the same number of micro-batches on every process.

    Args:
        step: int64 rows, sorted by length.
        fill: give every micro-batch exactly `per_device` rows (XLA: one shape).
    """
    size = per_device * num_processes
    batches = []
    for start in range(0, len(step), size):
        rows = step[start : start + size][process_index::num_processes]
        missing = (per_device if fill else 1) - len(rows)
        filler = np.full(max(missing, 0), step[start], dtype=step.dtype)
        weights = np.concatenate([np.ones(len(rows), np.float32), np.zeros(len(filler), np.float32)])
        batches.append(MicroBatch(np.concatenate([rows, filler]), weights))
    return batches


# ---------------------------------------------------------------------------------------------------------------------
# Padding


@dataclass(frozen=True)
class Padding:
    """How long a batch becomes: its longest row, rounded up to `multiple_of`, or to the next of `buckets`."""

    max_length: int
    multiple_of: int = 1
    to_max_length: bool = False
    buckets: tuple[int, ...] = ()

    def length(self, longest: int) -> int:
        """Padded length for a batch whose longest row has `longest` tokens."""
        if self.to_max_length:
            return self.max_length
        if self.buckets:
            return min((b for b in self.buckets if longest <= b <= self.max_length), default=self.max_length)
        return min(-(-longest // self.multiple_of) * self.multiple_of, max(self.max_length, longest))


@dataclass(frozen=True)
class Collator:
    """Makes the tensors of a micro-batch, for all rows at once."""

    split: TokenizedSplit
    pad_token_id: int
    padding: Padding
    states: Callable[[np.ndarray, np.ndarray, np.ndarray], torch.Tensor] | None = None
    """Called with (rows [batch], token index [batch, length], real [batch, length]) for the encoder's cached states
    [batch, length, d_model]. None: the model computes them."""
    pin: bool = False
    """Copy to page-locked memory, so that the copy to a GPU can overlap."""

    def __call__(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask int64 [batch, length]; weights float32 [batch]; labels [batch] if there are any;
        encoder_hidden_states [batch, length, d_model] if they are cached."""
        starts = self.split.offsets[batch.rows]
        lengths = self.split.offsets[batch.rows + 1] - starts
        positions = np.arange(self.padding.length(int(lengths.max())))
        real = positions[None, :] < lengths[:, None]
        # Padding points at the row's own first token, so every index is valid; what is read there is replaced.
        index = np.where(real, starts[:, None] + positions[None, :], starts[:, None])
        tensors = {
            "input_ids": torch.from_numpy(np.where(real, self.split.ids[index], self.pad_token_id).astype(np.int64)),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "weights": torch.from_numpy(batch.weights),
        }
        if self.split.labels is not None:
            tensors["labels"] = torch.from_numpy(self.split.labels[batch.rows])
        if self.states is not None:
            tensors["encoder_hidden_states"] = self.states(batch.rows, index, real)
        return {name: tensor.pin_memory() for name, tensor in tensors.items()} if self.pin else tensors


class DamagedRows(Exception):
    """What a batch is made from has to be mended first: by `repair`, on the thread that runs the model."""

    def __init__(self, repair: Callable[[], None]):
        super().__init__("damaged rows")
        self.repair = repair


def prefetch(
    make: Callable[[Any], dict[str, torch.Tensor]], items: Iterable[Any], workers: int
) -> Generator[dict[str, torch.Tensor], None, None]:
    """`make(item)` for every item in order, up to two a worker prepared ahead by `workers` threads (0: none).

    Threads, not processes: what `make` does (numpy and torch gathers over memory maps) releases the interpreter lock,
    and no batch is pickled through a pipe. Where it raises DamagedRows, they are mended here and the batch made again.
    """

    def made(attempt: Callable[[], dict[str, torch.Tensor]], item: Any) -> dict[str, torch.Tensor]:
        while True:
            try:
                return attempt()
            except DamagedRows as damage:
                damage.repair()
                attempt = partial(make, item)

    if workers == 0:
        for item in items:
            yield made(partial(make, item), item)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        pending: list[tuple[Future, Any]] = []
        try:
            for item in items:
                pending.append((pool.submit(make, item), item))
                if len(pending) > 2 * workers:
                    future, first = pending.pop(0)
                    yield made(future.result, first)
            while pending:
                future, first = pending.pop(0)
                yield made(future.result, first)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
