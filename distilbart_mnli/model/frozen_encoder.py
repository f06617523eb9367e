"""An encoder whose outputs are constants of its input: what decides their bits, and computing them.

    encoder = FrozenEncoder(model, "bfloat16", accelerator.autocast)
    encoder.key(split)                              # names everything that decides the bits
    for states in encoder.encode(split, batches):   # [tokens of the batch, d_model], without padding

A batch's bits depend on which rows are in it (a matrix product may be cut differently for another number of rows), so
batches are a function of the lengths and of the kind of device alone: whoever computes a row again, in any process,
computes its whole batch, and gets the same bits.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import transformers

from distilbart_mnli.data.batches import Collator, MicroBatch, Padding
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.model.bart import ShortCutBart, encoder_as_written, weights_digest

VERSION = 1
"""Of the cache's layout (encoder_cache.py)."""

# Padded tokens of one encoder batch: enough to fill the device, little enough for its activations.
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}


def encoder_digest(model: ShortCutBart) -> str:
    """SHA-256 of the encoder's weights and of the configuration that its arithmetic depends on."""
    names = "d_model encoder_attention_heads encoder_layers activation_function scale_embedding pad_token_id".split()
    config = json.dumps({name: getattr(model.config, name) for name in names})
    return weights_digest(model.model.encoder, config)


def encoder_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Rows in length order, the longest first (so that a lack of memory shows at once), at most `batch_tokens` padded
    tokens a batch. A function of the lengths alone."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder whose outputs are constants of its input, and how the run computes them."""

    model: ShortCutBart  # on its device already: the kind of device is part of the key
    dtype: str  # of the states, as torch names it: what the decoder's cross-attention casts them to
    autocast: Callable[[], contextlib.AbstractContextManager]  # the context in which a training runs the encoder
    origin: str = ""  # the model's name, for `list`

    @functools.cached_property
    def digest(self) -> str:
        return encoder_digest(self.model)

    def key(self, split: TokenizedSplit) -> str:
        """The name of a cache's folder."""
        return digest_of(
            f"encoder-cache-{VERSION}",
            self.digest,
            split.digest,
            self.dtype,
            str(self.model.config._attn_implementation),
            self.model.device.type,
            torch.__version__,
            transformers.__version__,
        )[:32]

    @property
    def token_bytes(self) -> int:
        """Size of the states of one token."""
        return self.model.config.d_model * getattr(torch, self.dtype).itemsize

    def cache_bytes(self, split: TokenizedSplit) -> int:
        """Size of the states of all tokens."""
        return int(split.offsets[-1]) * self.token_bytes

    def batches(self, split: TokenizedSplit) -> list[np.ndarray]:
        """The rows of every batch."""
        return encoder_batches(split.lengths, BATCH_TOKENS.get(self.model.device.type, BATCH_TOKENS["cpu"]))

    def encode(self, split: TokenizedSplit, batches: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """The states [tokens, d_model] of every batch's rows, one row after the other, on the model's device."""
        model, device = self.model, self.model.device
        collate = Collator(split, model.config.pad_token_id, Padding(int(split.lengths.max())))
        was_training = model.training
        model.eval()
        for rows in batches:
            batch = collate(MicroBatch(rows, np.ones(len(rows), np.float32)))
            ids, real = batch["input_ids"], batch["attention_mask"]
            with torch.no_grad(), self.autocast(), encoder_as_written(model):
                states = model.encode(ids.to(device), real.to(device))
                kept = real.reshape(-1).nonzero().squeeze(1).to(device)
                states = states.reshape(-1, states.shape[-1]).index_select(0, kept)
            yield states
        model.train(was_training)

    def as_bytes(self, states: torch.Tensor) -> np.ndarray:
        """States [tokens, d_model] as they are kept: uint8 [tokens, token_bytes] on the CPU."""
        return states.to(getattr(torch, self.dtype)).cpu().contiguous().view(torch.uint8).numpy()
