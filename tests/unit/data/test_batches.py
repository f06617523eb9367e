"""The order of the data is a function of (seed, epoch, effective batch); nothing is lost, repeated or padded much.

Tensors are compared with stock padding, the share of real tokens with a count by hand.
"""

import threading
import time

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding

from distilbart_mnli.data.batches import (
    XLA_BUCKETS,
    Collator,
    MicroBatch,
    Padding,
    epoch_order,
    micro_batches,
    prefetch,
    steps_per_epoch,
)
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from tests.support.tiny import tiny_tokenizer

STRATEGIES = ("group_by_length", "random")


def mnli_like_lengths(rows: int = 40_000, seed: int = 0) -> np.ndarray:
    """Lengths with MNLI's shape in BART tokens: mean 40, median 37, 95 % below 73, 99 % below 97."""
    rng = np.random.default_rng(seed)
    return np.clip(np.round(np.exp(rng.normal(np.log(36.6), 0.415, rows))), 9, 128).astype(np.int64)


def ragged(lengths, labels=True, seed=0) -> TokenizedSplit:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, 400, offsets[-1]).astype(np.int32)
    return TokenizedSplit(
        "train", ids, offsets, rng.integers(0, 3, len(lengths)) if labels else None, digest_of(ids, offsets)
    )


def test_the_synthetic_lengths_have_mnli_s_shape():
    lengths = mnli_like_lengths()
    assert abs(lengths.mean() - 40) < 1 and abs(np.median(lengths) - 37) < 1
    assert abs(np.percentile(lengths, 95) - 73) < 2 and abs(np.percentile(lengths, 99) - 97) < 3


# ---------------------------------------------------------------------------------------------------------------------
# Order


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("rows", "size"), [(1000, 8), (1003, 8), (7, 8), (8, 8), (1, 1), (401, 1)])
def test_every_example_is_in_one_step_of_an_epoch(strategy, rows, size):
    steps = epoch_order(mnli_like_lengths(rows), 1, 0, size, strategy)
    assert sorted(np.concatenate(steps).tolist()) == list(range(rows))
    assert len(steps) == steps_per_epoch(rows, size)
    assert [len(step) for step in steps[:-1]] == [size] * (len(steps) - 1)
    assert len(steps[-1]) == (rows % size or size)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_is_a_pure_function_of_seed_and_epoch(strategy):
    lengths = mnli_like_lengths(1000)

    def order(seed, epoch):
        return np.concatenate(epoch_order(lengths, seed, epoch, 8, strategy)).tolist()

    expected = order(1, 2)
    np.random.seed(7)
    torch.manual_seed(7)
    np.random.rand(3)
    assert order(1, 2) == expected
    assert order(1, 3) != expected and order(2, 2) != expected and order(2, 1) != expected


def test_the_order_is_the_same_on_every_machine():
    """By hand, from PCG64's permutation for [42, 0]: 3 0 7 2 | 4 6 1 5 | 8, then 0 1 for the order of the steps."""
    lengths = np.array([5, 9, 3, 7, 4, 8, 6, 2, 5])
    grouped, random = (epoch_order(lengths, 42, 0, 4, strategy) for strategy in STRATEGIES)
    assert [step.tolist() for step in random] == [[7, 2, 0, 3], [4, 6, 5, 1], [8]]
    assert [step.tolist() for step in grouped] == [[7, 2, 4, 0], [6, 3, 5, 1], [8]]


def test_grouped_steps_hold_like_lengths_and_random_ones_do_not():
    lengths = mnli_like_lengths()
    spread = {s: np.mean([np.ptp(lengths[x]) for x in epoch_order(lengths, 0, 0, 32, s)]) for s in STRATEGIES}
    assert spread["group_by_length"] < 6 < 60 < spread["random"]


def test_the_order_of_grouped_steps_does_not_follow_their_length():
    """A loop that went from short to long would train on a drifting distribution and log a drifting loss."""
    lengths = mnli_like_lengths(64_000)
    means = np.array([lengths[step].mean() for step in epoch_order(lengths, 0, 0, 32, "group_by_length")])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.1
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rows", [960, 973])
def test_any_number_of_processes_takes_the_same_examples_in_every_step(strategy, rows):
    lengths = mnli_like_lengths(rows)
    sets = []
    # 48 examples a step, as 1 x 48, 3 x 16, 2 x 8 x 3, 4 x 4 x 3
    for processes, per_device in ((1, 48), (1, 16), (2, 8), (4, 4), (3, 16)):
        sets.append([])
        for step in epoch_order(lengths, 3, 1, 48, strategy):
            shares = [micro_batches(step, per_device, processes, index) for index in range(processes)]
            assert len({len(share) for share in shares}) == 1
            real = [batch.rows[batch.weights == 1] for share in shares for batch in share]
            sets[-1].append(sorted(np.concatenate(real).tolist()))
            assert sum(float(batch.weights.sum()) for share in shares for batch in share) == len(step)
            assert all(len(batch.rows) <= per_device for share in shares for batch in share)
            assert all(len(batch.rows) >= 1 for share in shares for batch in share)
    assert all(other == sets[0] for other in sets[1:])
    assert sets[0] == [sorted(step.tolist()) for step in epoch_order(lengths, 3, 1, 48, strategy)]


def test_batches_of_the_same_moment_have_like_lengths_on_all_processes():
    lengths = mnli_like_lengths()
    padding = Padding(128)
    waste = []
    for step in epoch_order(lengths, 0, 0, 128, "group_by_length"):
        shares = [micro_batches(step, 8, 4, index) for index in range(4)]
        for together in zip(*shares, strict=True):
            cost = [len(batch.rows) * padding.length(int(lengths[batch.rows].max())) for batch in together]
            waste.append(1 - np.mean(cost) / max(cost))
    assert np.mean(waste) < 0.02


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize(("padding", "least"), [(Padding(128), 0.95), (Padding(128, multiple_of=8), 0.88)])
def test_at_least_95_percent_of_the_tokens_are_real_and_88_rounded_to_8(padding, least, processes):
    lengths = mnli_like_lengths()
    batches = [
        batch.rows
        for step in epoch_order(lengths, 0, 0, 128, "group_by_length")
        for index in range(processes)
        for batch in micro_batches(step, 32, processes, index)
    ]
    unit = padding.multiple_of
    computed = sum(len(rows) * -(-lengths[rows].max() // unit) * unit for rows in batches)
    assert lengths.sum() / computed >= least


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("processes", [1, 3])
def test_two_epochs_on_xla_have_no_more_shapes_than_buckets(strategy, processes):
    split = ragged(mnli_like_lengths(1999))
    collate = Collator(split, 1, Padding(128, buckets=XLA_BUCKETS))
    shapes = set()
    for epoch in range(2):
        for step in epoch_order(split.lengths, 0, epoch, 16 * processes, strategy):
            for index in range(processes):
                for batch in micro_batches(step, 8, processes, index, fill=True):
                    tensors = collate(batch)
                    shapes.add(tuple(tensors["input_ids"].shape))
                    assert float(tensors["weights"].sum()) == len(set(batch.rows[batch.weights == 1].tolist()))
    assert 1 < len(shapes) <= len(XLA_BUCKETS)
    assert {shape[0] for shape in shapes} == {8}
    assert {shape[1] for shape in shapes} <= set(XLA_BUCKETS)


# ---------------------------------------------------------------------------------------------------------------------
# Padding and collating


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (Padding(128), {1: 1, 37: 37, 128: 128}),
        (Padding(128, multiple_of=8), {1: 8, 37: 40, 40: 40, 128: 128}),
        (Padding(100, multiple_of=8), {97: 100, 96: 96}),
        (Padding(128, to_max_length=True), {1: 128, 37: 128}),
        (Padding(128, buckets=XLA_BUCKETS), {1: 16, 17: 24, 40: 40, 97: 128, 128: 128}),
        (Padding(50, buckets=XLA_BUCKETS), {33: 40, 45: 48, 49: 50}),
        (Padding(200, buckets=XLA_BUCKETS), {128: 128, 129: 200}),
    ],
)
def test_a_batch_becomes_as_long_as_its_padding_says(padding, expected):
    assert {longest: padding.length(longest) for longest in expected} == expected


def test_a_batch_is_what_stock_padding_makes():
    tokenizer = tiny_tokenizer()
    split = ragged([5, 12, 7, 9, 3])
    rows = np.array([3, 0, 1])
    batch = Collator(split, 1, Padding(128, multiple_of=8))(MicroBatch(rows, np.ones(3, np.float32)))
    stock = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)(
        [{"input_ids": split.ids[split.offsets[r] : split.offsets[r + 1]].tolist()} for r in rows]
    )
    assert torch.equal(batch["input_ids"], stock["input_ids"])
    assert torch.equal(batch["attention_mask"], stock["attention_mask"])
    assert batch["labels"].tolist() == split.labels[rows].tolist()
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64
    assert batch["weights"].dtype == torch.float32


def test_a_set_without_labels_gives_batches_without():
    assert "labels" not in Collator(ragged([4, 5], labels=False), 1, Padding(8))(
        MicroBatch(np.array([0, 1]), np.ones(2))
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_prefetched_batches_come_in_order_whoever_is_faster(workers):
    def make(item):
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item

    assert list(prefetch(make, range(20), workers)) == list(range(20))


def test_prefetching_works_ahead_but_not_without_bound():
    made = []
    stream = prefetch(lambda item: made.append(item) or item, range(1000), workers=2)
    assert next(stream) == 0
    time.sleep(0.1)
    assert 2 <= len(made) <= 6
    stream.close()
    assert len(made) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_in_a_prefetching_thread_reaches_the_loop():
    def make(item):
        if item == 3:
            raise RuntimeError("the disk went away")
        return item

    stream = prefetch(make, range(10), workers=2)
    with pytest.raises(RuntimeError, match="the disk went away"):
        list(stream)
