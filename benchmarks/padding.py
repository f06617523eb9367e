"""How much of what is computed is real tokens: padded to 128, random batches, and batches grouped by length.

    python -m benchmarks.padding
    python -m benchmarks.padding --lengths_from glue_data/MNLI/train.tsv facebook/bart-large-mnli

On MNLI's 392,702 training rows (the built-in histogram, or as many rows of the given lengths), over several seeds and
epochs. Nothing is trained; it takes seconds.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.lengths import MAX_LENGTH, lengths_like
from benchmarks.options import check_options, make_parser, write_report
from distilbart_mnli.data.batches import XLA_BUCKETS, Padding, epoch_order, micro_batches
from distilbart_mnli.errors import run_command

TARGETS = {"grouped, unrounded": 0.95, "grouped, rounded to 8": 0.88}


def batches_of(lengths: np.ndarray, seed: int, epoch: int, per_device: int, effective: int) -> list[np.ndarray]:
    """Rows of every micro-batch of an epoch of ours."""
    order = epoch_order(lengths, seed, epoch, effective, "group_by_length")
    return [batch.rows for step in order for batch in micro_batches(step, per_device, 1, 0)]


def random_batches(lengths: np.ndarray, seed: int, epoch: int, per_device: int) -> list[np.ndarray]:
    """Rows of every batch of a script that shuffles and cuts."""
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    return [order[start : start + per_device] for start in range(0, len(order), per_device)]


def padding_efficiency(lengths: np.ndarray, batches: Sequence[np.ndarray], padding: Padding) -> float:
    """Share of real tokens among those that are computed, for batches of rows."""
    real = sum(int(lengths[rows].sum()) for rows in batches)
    return real / sum(len(rows) * padding.length(int(lengths[rows].max())) for rows in batches)


def shares(lengths: np.ndarray, seeds: int, epochs: int, per_device: int, effective: int) -> dict[str, list[float]]:
    """Share of real tokens in every epoch, for every way to batch."""
    unrounded, eight, buckets = Padding(MAX_LENGTH), Padding(MAX_LENGTH, 8), Padding(MAX_LENGTH, buckets=XLA_BUCKETS)

    def grouped(effective: int, padding: Padding) -> Callable[[int, int], float]:
        return lambda seed, epoch: padding_efficiency(
            lengths, batches_of(lengths, seed, epoch, per_device, effective), padding
        )

    def shuffled(padding: Padding) -> Callable[[int, int], float]:
        return lambda seed, epoch: padding_efficiency(
            lengths, random_batches(lengths, seed, epoch, per_device), padding
        )

    ways: dict[str, Callable[[int, int], float]] = {
        f"padded to {MAX_LENGTH}": lambda seed, epoch: float(lengths.mean()) / MAX_LENGTH,
        f"random batches of {per_device}, padded to the longest": shuffled(unrounded),
    }
    for size in sorted({per_device, effective}):
        for name, padding in (("unrounded", unrounded), ("rounded to 8", eight), ("in buckets", buckets)):
            ways[f"grouped, {name}, {size} examples a step"] = grouped(size, padding)
    return {name: [way(seed, epoch) for seed in range(seeds) for epoch in range(epochs)] for name, way in ways.items()}


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    parser = make_parser("padding", __doc__)
    parser.add_argument("--lengths_from", nargs=2, metavar=("TSV", "TOKENIZER"))
    parser.add_argument("--rows", type=int, default=392_702)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--effective_batch_size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args(arguments)
    check_options(options)
    lengths = lengths_like(options.lengths_from, options.rows)
    print(f"{options.rows} rows, {lengths.mean():.1f} tokens on average; buckets {', '.join(map(str, XLA_BUCKETS))}")
    result = shares(lengths, options.seeds, options.epochs, options.batch_size, options.effective_batch_size)
    print(f"{'real tokens':<55} {'lowest':>8} {'mean':>8} {'target':>8}")
    for name, values in result.items():
        target = next((f"{100 * value:.0f} %" for key, value in TARGETS.items() if name.startswith(key)), "")
        print(f"{name:<55} {100 * min(values):>6.2f} % {100 * np.mean(values):>6.2f} % {target:>8}")
    write_report(options, result)
    return result


if __name__ == "__main__":
    sys.exit(run_command(main))
