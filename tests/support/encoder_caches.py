"""A small set, models with frozen encoders, and the cache of the two."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.model import encoder_cache_build
from distilbart_mnli.model.bart import ShortCutBart, freeze
from distilbart_mnli.model.encoder_cache import EncoderCache
from distilbart_mnli.model.frozen_encoder import FrozenEncoder
from tests.support.tiny import tiny_bart

LENGTHS = [9, 30, 7, 128, 12, 64, 8, 8, 100, 33, 15]
BATCH_TOKENS = 130  # several batches for these few rows


def split_of(lengths, seed=0) -> TokenizedSplit:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(5, 400, offsets[-1]).astype(np.int32)
    for start, end in itertools.pairwise(offsets):
        ids[start], ids[start + 2], ids[start + 3], ids[end - 1] = 0, 2, 2, 2
    return TokenizedSplit("train", ids, offsets, rng.integers(0, 3, len(lengths)), digest_of(ids, offsets))


def student(seed=0, encoder_from=None, **config) -> ShortCutBart:
    """A short-cut model with a frozen encoder; `encoder_from`: whose encoder it keeps."""
    stock = tiny_bart(seed=seed, **config)
    if encoder_from is not None:
        stock.model.encoder.load_state_dict(encoder_from.model.encoder.state_dict())
    model = ShortCutBart(stock.config)
    model.load_state_dict(stock.state_dict())
    freeze(model, encoder=True, embeddings=True)
    return model.eval()


def encoder_of(model: ShortCutBart, dtype="float32", origin="") -> FrozenEncoder:
    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")

    return FrozenEncoder(model, dtype, autocast, origin)


def built(model: ShortCutBart, split, folder: Path, dtype="float32", origin="", **more) -> EncoderCache:
    """The cache of `model` and `split` below `folder`."""
    encoder = encoder_of(model, dtype, origin)
    return encoder_cache_build.build_cache(encoder, split, Path(folder) / encoder.key(split), **more)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".bin"}


@contextlib.contextmanager
def encoded_rows(model: ShortCutBart) -> Iterator[list[int]]:
    """A list that grows by the rows of every batch that `model` encodes inside."""
    seen, encode = [], model.encode
    model.encode = lambda ids, mask: seen.append(len(ids)) or encode(ids, mask)
    yield seen
    model.encode = encode
