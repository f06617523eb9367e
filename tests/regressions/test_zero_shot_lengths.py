"""Zero-shot texts and labels of any length give what transformers' pipeline gives, and never lose another model's row.

huggingface/transformers#13381: what the pipeline cuts, and what happens where a pair cannot be cut: only the text may
lose tokens, so a label that is longer than the limit is sent as it is, if the model has the positions for it.
cardiffnlp/xlm-t#3: the pipeline takes any model with a label that begins with entail, also one of two labels.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import pipeline

from distilbart_mnli.compare.compare import CompareOptions, compare_models
from distilbart_mnli.compare.zero_shot import ZeroShotData
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.bart import ShortCutBart
from tests.support.tiny import tiny_bart, tiny_mnli, tiny_tokenizer
from tests.support.zero_shot import scores_of

TEMPLATE = "the bird sees {}."
LONG = "big red old " * 12  # 42 tokens of a pair, with the template's own


def model_of(folder: Path, positions: int, limit: int, **config) -> Path:
    tiny_bart(folder, max_position_embeddings=positions, **config)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    return folder


# The first text is shorter than what would have to go, the second exactly as long, the others longer.
@pytest.mark.parametrize("limit", [24, 32, 48, 128])
def test_scores_are_the_pipelines_whatever_is_too_long(tmp_path, limit):
    folder = model_of(tmp_path / "model", 128, limit)
    texts = ["cat", *("the cat sees a dog " * n for n in (1, 2, 3, 5, 8))]
    labels = [LONG, "dog", "small old house"]
    data = ZeroShotData("topics", texts, np.zeros(len(texts), np.int64), labels, TEMPLATE)
    classify = pipeline("zero-shot-classification", model=str(folder), device="cpu")
    for row, answer in zip(
        scores_of(folder, data), classify(texts, labels, hypothesis_template=TEMPLATE), strict=True
    ):
        theirs = dict(zip(answer["labels"], answer["scores"], strict=True))
        np.testing.assert_allclose(row, [theirs[label] for label in labels], atol=1e-5)


def test_a_pair_that_no_position_is_left_for_is_refused_by_its_label(tmp_path):
    folder = model_of(tmp_path / "model", 32, 32)
    data = ZeroShotData("topics", ["a"], np.array([0]), [LONG, "dog"], TEMPLATE)
    with pytest.raises(InputError, match=r"big red old .*32 positions"):
        scores_of(folder, data)


def sheet_of(folder: Path, *models: Path, labels=("dog", "bird"), **options) -> dict:
    topics, data = folder / "topics.jsonl", folder / "data"
    topics.write_text("".join(json.dumps({"text": f"the cat {label}", "label": label}) + "\n" for label in labels))
    tiny_mnli(data, matched=12, mismatched=8)
    options = {"zero_shot": topics, "data_dir": str(data), "no_speed": True, "max_seq_length": 24, **options}
    compare_models(CompareOptions(models=list(map(str, models)), output_dir=folder / "sheet", **options))
    return json.loads((folder / "sheet" / "tradeoffs.json").read_text())


def test_a_label_too_long_for_one_model_leaves_the_others_their_rows(tmp_path):
    short, long = model_of(tmp_path / "short", 32, 32), model_of(tmp_path / "long", 128, 128)
    with pytest.raises(CommandError, match="left out: short") as caught:
        sheet_of(tmp_path, short, long, labels=(LONG, "dog"))
    written = json.loads((tmp_path / "sheet" / "tradeoffs.json").read_text())
    assert caught.value.exit_code == 2
    assert [row["model"] for row in written["models"]] == ["long"] and "32 positions" in written["left_out"]["short"]
    assert written["models"][0]["zero_shot"]["texts"] == 2


def test_a_model_of_two_labels_is_measured_on_topics_as_the_pipeline_measures_it(tmp_path):
    two = model_of(tmp_path / "two", 128, 128, labels=("entailment", "not_entailment"))
    three = model_of(tmp_path / "three", 128, 128)
    rows = {row["model"]: row for row in sheet_of(tmp_path, three, two)["models"]}
    classify = pipeline("zero-shot-classification", model=str(two), device="cpu")
    right = [classify(f"the cat {label}", ["bird", "dog"])["labels"][0] == label for label in ("dog", "bird")]
    assert rows["two"]["zero_shot"]["accuracy"] == np.mean(right)
    assert "accuracy_matched" not in rows["two"] and "accuracy_matched" in rows["three"]


def test_without_topics_such_a_model_is_refused_with_advice_that_the_command_has(tmp_path):
    two = model_of(tmp_path / "two", 128, 128, labels=("entailment", "not_entailment"))
    with pytest.raises(InputError) as caught:
        sheet_of(tmp_path, two, zero_shot=None)
    assert "--zero_shot" in str(caught.value) and "reinit" not in str(caught.value)


@pytest.mark.parametrize("where", ["tokenizer", "encoder", "decoder"])
def test_whatever_a_library_raises_stays_in_its_row(tmp_path, monkeypatch, where):
    """Two models with one encoder, and so evaluated together, of which the second fails; a third of its own."""
    first, second = (model_of(tmp_path / name, 128, 128) for name in ("first", "second"))
    third = model_of(tmp_path / "third", 128, 128, seed=1)
    stock = ShortCutBart.forward

    def failing(self, *inputs, **more):
        if Path(self.config.name_or_path) == second:
            raise IndexError("index out of range in self")
        return stock(self, *inputs, **more)

    if where == "decoder":
        monkeypatch.setattr(ShortCutBart, "forward", failing)
    elif where == "encoder":
        (second / "config.json").write_text((second / "config.json").read_text().replace('"gelu"', '"prelu"'))
    else:
        (second / "tokenizer.json").write_text('{"version": "1.0", "added_tokens": [], "model": {}}')
    with pytest.raises(CommandError, match="left out: second"):
        sheet_of(tmp_path, first, second, third)
    written = json.loads((tmp_path / "sheet" / "tradeoffs.json").read_text())
    assert [row["model"] for row in written["models"]] == ["first", "third"]
    assert all("zero_shot" in row and "accuracy_mismatched" in row for row in written["models"])
