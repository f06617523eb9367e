"""ZeroShotClassifier answers as transformers' pipeline does, called in the same ways; the rest is refused."""

import sys

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BartForSequenceClassification, pipeline

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.zero_shot import ZeroShotClassifier
from tests.support.tiny import GLUE_LABELS, TEACHER_LABELS, sentence, tiny_bart

TOPICS = ["cat", "old house", "garden"]
TEMPLATE = "the bird sees {}."


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three orders and numbers of labels; at most 64 tokens."""
    folder = tmp_path_factory.mktemp("models")
    for name, labels in (
        ("teacher", TEACHER_LABELS),
        ("glue", GLUE_LABELS),
        ("two", ("not_entailment", "entailment")),
    ):
        tiny_bart(folder / name, labels=labels, max_position_embeddings=64)
        AutoTokenizer.from_pretrained(folder / name, model_max_length=64).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(1)
    return ["the cat </s> sees", " ", *(sentence(rng, 1, 30) for _ in range(8)), sentence(rng, 200, 201)]


def assert_same(ours, theirs, atol=1e-4):
    for found, expected in zip(ours, theirs, strict=True):
        assert list(found) == list(expected) and found["sequence"] == expected["sequence"]
        assert found["labels"] == expected["labels"]
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=atol)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("model", ["teacher", "glue", "two"])
def test_answers_are_the_pipelines(models, texts, model, multi_label):
    stock = pipeline("zero-shot-classification", model=str(models / model), device="cpu")
    ours = ZeroShotClassifier(str(models / model), dtype="float32")
    kept = texts[1:] if model == "two" else texts
    options = {"hypothesis_template": TEMPLATE, "multi_label": multi_label}
    # Stock refuses a batch whose rows have unequal numbers of </s>, and so is asked text by text.
    assert_same(ours(kept, TOPICS, **options), [stock(text, TOPICS, **options) for text in kept])


def test_it_is_called_in_every_way_that_the_pipeline_is(models):
    stock = pipeline("zero-shot-classification", model=str(models / "teacher"), device="cpu")
    ours = ZeroShotClassifier(str(models / "teacher"), dtype="float32")
    for arguments, options in (
        (("a cat", "cat, old house,"), {}),
        ((["a cat"], TOPICS), {}),
        (("a cat",), {"candidate_labels": TOPICS, "multi_label": True}),
        (("a cat", "garden"), {}),  # one label: for itself
        ((["a cat", "a dog"], ["garden"]), {"hypothesis_template": TEMPLATE}),
    ):
        found, expected = ours(*arguments, **options), stock(*arguments, **options)
        assert type(found) is type(expected)
        assert_same(*([answer] if isinstance(answer, dict) else answer for answer in (found, expected)))
    assert ours([], TOPICS) == []


def test_bfloat16_is_near_float32(models, texts):
    exact, fast = (
        ZeroShotClassifier(str(models / "teacher"), dtype=dtype)(texts, TOPICS) for dtype in ("float32", "bfloat16")
    )
    for one, other in zip(exact, fast, strict=True):
        both = [dict(zip(answer["labels"], answer["scores"], strict=True)) for answer in (one, other)]
        np.testing.assert_allclose(*([scores[label] for label in TOPICS] for scores in both), atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("", TOPICS), "empty"),
        ((["a", ""], TOPICS), "text 2"),
        (("a", ["cat", "dog", "cat"]), "cat"),
        (("a", ["cat", " "]), "candidate_labels"),
        (("a", ","), "candidate_labels"),
        (("a", TOPICS, "no place"), "hypothesis_template"),
        (("a", TOPICS, "{} and {}"), "hypothesis_template"),
        (("a", ["cat", "big old " * 40]), "big old"),
    ],
)
def test_what_cannot_be_answered_is_refused(models, arguments, told):
    with pytest.raises(InputError, match=told):
        ZeroShotClassifier(str(models / "teacher"), dtype="float32")(*arguments)


def test_models_and_backends_that_cannot_be_used_are_refused(models, tmp_path, monkeypatch):
    tiny_bart(tmp_path / "no", labels=("a", "b", "c"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name, options, told in (
        (tmp_path / "no", {}, "entail"),
        (tmp_path / "none", {}, "none"),
        (models / "teacher", {"dtype": "int8"}, "int8"),
        (models / "teacher", {"kind": "onnx", "dtype": "bfloat16"}, "bfloat16"),
        (models / "teacher", {"kind": "onnx", "device": "cuda"}, "cuda"),
        (models / "teacher", {"kind": "onnx"}, "requirements-onnx.txt"),
    ):
        with pytest.raises(InputError, match=told):
            ZeroShotClassifier(str(name), **options)


def test_onnx_runtime_gives_the_same_answers(models, texts, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = models / "teacher"
    classify = ZeroShotClassifier(str(folder), dtype="float32")
    with pytest.raises(InputError, match=r"onnx/model\.onnx"):
        ZeroShotClassifier(str(folder), kind="onnx")
    (folder / "onnx").mkdir()
    model = BartForSequenceClassification.from_pretrained(folder).eval()
    model.config.use_cache = False
    names, ids = ["input_ids", "attention_mask"], torch.tensor([[0, 5, 2, 2, 6, 2]] * 2)
    torch.onnx.export(
        model, (ids, torch.ones_like(ids)), folder / "onnx" / "model.onnx", dynamo=False, input_names=names,
        output_names=["logits"], dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
    )  # fmt: skip
    onnx = ZeroShotClassifier(str(folder), kind="onnx")
    # This graph is stock's: it cannot take rows with unequal numbers of </s> in one batch.
    assert_same(onnx(texts[1:], TOPICS), classify(texts[1:], TOPICS))
    with pytest.raises(RunError, match=r"model\.onnx"):
        onnx(texts, TOPICS)
    (folder / "onnx" / "model_quantized.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="model_quantized"):
        ZeroShotClassifier(str(folder), kind="onnx", dtype="int8")
    assert onnx.backend.digest() != classify.backend.digest()
