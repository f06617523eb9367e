"""MNLI's lengths, and rows of random ids that have them.

The built-in histogram is of the pairs of MNLI in BART's tokens, cut at 128: mean 39.8, median 37, 99 % up to 96. It
was counted on 29,340 of the 392,702 training rows with facebook/bart-large's vocabulary. `--lengths_from TSV
TOKENIZER` counts anew.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.source import Source

MAX_LENGTH = 128
FIRST = 6
# Rows with 6, 7, 8, ... 128 tokens; the last entry holds the longer ones as well.
MNLI_HISTOGRAM = (
    2, 3, 12, 36, 61, 91, 157, 210, 265, 321, 374, 415, 483, 523, 557, 542, 611, 605, 639, 658, 687, 679, 702, 667,
    647, 698, 683, 672, 684, 722, 707, 640, 702, 739, 652, 665, 618, 586, 620, 575, 528, 535, 502, 497, 493, 416, 430,
    377, 376, 341, 348, 317, 281, 269, 281, 263, 232, 201, 188, 172, 179, 158, 140, 140, 118, 133, 111, 93, 91, 79, 72,
    77, 63, 64, 57, 47, 49, 45, 53, 32, 40, 32, 39, 25, 28, 20, 24, 26, 17, 25, 14, 15, 13, 21, 11, 10, 8, 10, 6, 12,
    8, 6, 11, 3, 10, 6, 7, 5, 5, 3, 1, 8, 8, 1, 4, 4, 4, 1, 7, 0, 3, 3, 78,
)  # fmt: skip


def mnli_lengths(rows: int, seed: int = 0) -> np.ndarray:
    """int64 [rows]: the histogram's own quantiles (no sampling noise), in an order drawn from the seed."""
    cumulated = np.cumsum(MNLI_HISTOGRAM) / sum(MNLI_HISTOGRAM)
    quantiles = (np.arange(rows) + 0.5) / rows
    lengths = FIRST + np.searchsorted(cumulated, quantiles)
    return np.random.default_rng(seed).permutation(lengths).astype(np.int64)


@functools.cache
def measured_lengths(tsv: Path, tokenizer_name_or_path: str) -> np.ndarray:
    """int64 [rows]: tokens of every pair (columns sentence1, sentence2) of a GLUE file, cut at 128.

    Raises:
        InputError: the file or the tokenizer cannot be read, or a column is missing.
    """
    from transformers import AutoTokenizer

    try:
        head, *rows = tsv.read_text(encoding="utf-8").rstrip("\n").split("\n")
        first, second = (head.rstrip("\r").split("\t").index(name) for name in ("sentence1", "sentence2"))
    except (OSError, ValueError) as error:
        raise InputError(f"--lengths_from {tsv}: no TSV file with sentence1 and sentence2: {error}") from None
    cells = [row.rstrip("\r").split("\t") for row in rows if row]
    with Source(tokenizer_name_or_path, "--lengths_from tokenizer").reading():
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name_or_path)
    texts = ([row[first] for row in cells], [row[second] for row in cells])
    ids = tokenizer(*texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return np.array([len(row) for row in ids], dtype=np.int64)


def lengths_like(source: Sequence[str] | None, rows: int, seed: int = 0) -> np.ndarray:
    """int64 [rows]: MNLI's lengths, or those of `--lengths_from TSV TOKENIZER`, at their quantiles, shuffled.

    Raises:
        InputError: as measured_lengths.
    """
    if not source:
        return mnli_lengths(rows, seed)
    lengths = measured_lengths(Path(source[0]), source[1])
    chosen = np.sort(lengths)[((np.arange(rows) + 0.5) / rows * len(lengths)).astype(np.int64)]
    return np.random.default_rng(seed).permutation(chosen)


def random_pairs(lengths: np.ndarray, vocab_size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random pairs `<s> A </s></s> B </s>` of the given lengths.

    Returns:
        ids int32 [tokens], offsets int64 [rows + 1], labels int64 [rows] of three classes.
    """
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(4, vocab_size, offsets[-1], dtype=np.int32)
    starts, ends = offsets[:-1], offsets[1:]
    ids[starts], ids[ends - 1] = 0, 2
    # Between the two texts, at least one token of each: MNLI's premises take about two thirds.
    between = starts + 2 + ((lengths - 6) * rng.uniform(0.5, 0.8, len(lengths))).astype(np.int64)
    ids[between], ids[between + 1] = 2, 2
    return ids, offsets, rng.integers(0, 3, len(lengths))
