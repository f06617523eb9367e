"""int8: the weights are the nearest of their grid, and the figures beside the file are those of the file."""

import csv
import hashlib
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from transformers import AutoConfig, AutoTokenizer

from tests.support.exports import needs_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = needs_onnx


def tensors(path) -> dict[str, np.ndarray]:
    return {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def test_a_token_is_at_most_half_a_step_from_its_own(exported):
    whole, quantized = (tensors(exported / "onnx" / name) for name in ("model.onnx", "model_quantized.onnx"))
    tables = [name.removesuffix("_int8") for name in quantized if name.endswith("_int8")]
    assert sorted(whole[name].shape for name in tables) == [(130, 16), (130, 16), (400, 16)]
    for name in tables:
        steps = np.abs(whole[name]).max(axis=1, keepdims=True) / 127
        assert quantized[f"{name}_int8"].dtype == np.int8
        found = quantized[f"{name}_int8"] * quantized[f"{name}_scales"]
        assert np.all(np.abs(found - whole[name]) <= steps * 0.5001)
        assert name not in quantized  # the float32 table is gone


def test_figures_are_those_of_the_files(exported):
    figures = json.loads((exported / "onnx/quantization.json").read_text())
    config, tokenizer = AutoConfig.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    with (exported / "data/dev_matched.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    predicted = {}
    for name in ("model.onnx", "model_quantized.onnx"):
        session = onnxruntime.InferenceSession(exported / "onnx" / name)
        predicted[name] = []
        for row in rows:  # one at a time: no batch, no padding
            inputs = dict(tokenizer(row["sentence1"], row["sentence2"], return_tensors="np"))
            (logits,) = session.run(None, {key: inputs[key] for key in ("input_ids", "attention_mask")})
            predicted[name].append(config.id2label[int(logits.argmax())])
    whole, quantized = predicted["model.onnx"], predicted["model_quantized.onnx"]
    gold = [row["gold_label"] for row in rows]
    assert figures["agreement"] == accuracy_score(whole, quantized)
    assert (figures["accuracy"], figures["accuracy_float32"]) == (
        accuracy_score(gold, quantized),
        accuracy_score(gold, whole),
    )
    assert (figures["rows"], figures["data"], figures["min_agreement"]) == (60, "mnli", 0.9)
    content = (exported / "onnx/model_quantized.onnx").read_bytes()
    assert figures["sha256"] == hashlib.sha256(content).hexdigest()
    assert figures["mb"] == len(content) / 1e6
