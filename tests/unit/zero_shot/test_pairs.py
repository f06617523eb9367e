"""Pairs that are put together from pieces have the ids that the tokenizer gives for the two texts; scores by hand."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from distilbart_mnli.errors import InputError
from distilbart_mnli.zero_shot.pairs import PairTokenizer, label_scores
from tests.support.tiny import sentence, tiny_config, tiny_tokenizer, tiny_wordpiece

LABELS = ["cat", "small old house", "big red old " * 4]
TEMPLATE = "the bird sees {}."
TEXTS = ["a", "the cat</s> sees", " a dog  and\tmore ", "é 東京 😀", "<s>"]


def stock_ids(tokenizer, text: str, label: str) -> list[int]:
    """As transformers' pipeline tokenises a pair."""
    try:
        return tokenizer([[text, TEMPLATE.format(label)]], truncation="only_first")["input_ids"][0]
    except Exception as error:  # tokenizers raises nothing more special, and the pipeline looks for this word too
        if "too short" not in str(error):
            raise
        return tokenizer([[text, TEMPLATE.format(label)]], truncation=False)["input_ids"][0]


@pytest.mark.parametrize("limit", [20, 24, 33, 60])
@pytest.mark.parametrize("make", [tiny_tokenizer, tiny_wordpiece])
@pytest.mark.parametrize("changes", [{}, {"truncation_side": "left"}, {"split_special_tokens": True}])
def test_pairs_are_the_tokenizers(tmp_path, make, limit, changes):
    make(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, model_max_length=limit, **changes)
    rng = np.random.default_rng(limit)
    texts = TEXTS + [sentence(rng, 1, 40) for _ in range(30)]
    pairs = PairTokenizer(tokenizer, tiny_config(max_position_embeddings=60), LABELS, TEMPLATE).pairs(texts)
    found = [pairs.ids[start:end].tolist() for start, end in zip(pairs.offsets, pairs.offsets[1:], strict=False)]
    assert found == [stock_ids(tokenizer, text, label) for text in texts for label in LABELS]


def test_a_label_that_leaves_no_place_for_a_text_is_refused_before_any_text():
    with pytest.raises(InputError, match="old house"):
        PairTokenizer(
            tiny_tokenizer(), tiny_config(max_position_embeddings=12), ["cat", "big red old house"], TEMPLATE
        )


def test_scores_by_hand():
    logits = np.log(np.array([[1, 2, 3], [4, 5, 1], [2, 2, 2], [1, 1, 6]], np.float32))  # two texts, two labels
    one = label_scores(logits, 2, tiny_config())  # contradiction, neutral, entailment
    np.testing.assert_allclose(one, [[3 / 4, 1 / 4], [2 / 8, 6 / 8]], rtol=1e-6)
    each = label_scores(logits, 2, tiny_config(), multi_label=True)
    np.testing.assert_allclose(each, [[3 / 4, 1 / 5], [2 / 4, 6 / 7]], rtol=1e-6)
