"""What the tests of the encoder cache share."""

import pytest

from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.model import frozen_encoder
from tests.support.encoder_caches import BATCH_TOKENS, LENGTHS, split_of


@pytest.fixture
def split(monkeypatch) -> TokenizedSplit:
    """A small set, to be encoded in several batches."""
    monkeypatch.setitem(frozen_encoder.BATCH_TOKENS, "cpu", BATCH_TOKENS)
    return split_of(LENGTHS)
