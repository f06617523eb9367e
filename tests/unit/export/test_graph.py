"""An exported graph is stock transformers' model: logits at any batch size and length, inputs; no path in it."""

import getpass

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.exports import needs_onnx, spoiled
from tests.support.tiny import ROOT

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = needs_onnx


@pytest.mark.parametrize("rows,longest", [(1, 3), (1, 128), (2, 5), (7, 64), (33, 128)])
def test_logits_are_stock_transformers_logits(exported, rows, longest):
    stock = AutoModelForSequenceClassification.from_pretrained(exported, dtype=torch.float32).eval()
    session = onnxruntime.InferenceSession(exported / "onnx/model.onnx")
    rng = np.random.default_rng(rows)
    ids, mask = np.full((rows, longest), 1), np.zeros((rows, longest), int)
    for row, length in enumerate(rng.integers(3, longest + 1, rows)):
        ids[row, :length], mask[row, :length] = rng.integers(3, 400, length), 1
        # Several </s> in a row at the end, and literal ones inside: another number in every row.
        ids[row, rng.integers(0, length, row % 4)] = 2
        ids[row, length - 1 - row % 3 : length] = 2
    (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    assert logits.dtype == np.float32
    for row in range(rows):
        real = torch.from_numpy(ids[row : row + 1, : mask[row].sum()])
        expected = stock(input_ids=real).logits[0].detach().numpy()
        np.testing.assert_allclose(logits[row], expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("name", ["model.onnx", "model_quantized.onnx"])
def test_inputs_outputs_and_what_the_file_says(exported, name):
    session = onnxruntime.InferenceSession(exported / "onnx" / name)
    assert [(each.name, each.type, each.shape) for each in session.get_inputs()] == [
        ("input_ids", "tensor(int64)", ["batch", "length"]),
        ("attention_mask", "tensor(int64)", ["batch", "length"]),
    ]
    assert [(each.name, each.shape) for each in session.get_outputs()] == [("logits", ["batch", 3])]
    content = (exported / "onnx" / name).read_bytes()
    for word in (str(ROOT), "site-packages", getpass.getuser() + "/", str(exported)):
        assert word.encode() not in content
    graph = onnx.load(exported / "onnx" / name)
    onnx.checker.check_model(graph)
    # What onnxruntime-web has: ONNX's own operators, and of Microsoft's the one that 4- and 8-bit models are made of.
    assert {node.op_type for node in graph.graph.node if node.domain} <= {"MatMulNBits"}


def test_a_graph_that_computes_something_else_is_refused(exported, tmp_path):
    from distilbart_mnli.errors import RunError
    from distilbart_mnli.export.export import load_for_export
    from distilbart_mnli.export.graph import check_graph
    from distilbart_mnli.options.fields import Arguments

    model = load_for_export(Arguments(model_name_or_path=str(exported))).model
    assert check_graph(exported / "onnx/model.onnx", model) <= 1e-5
    graph = spoiled(exported / "onnx/model.onnx")
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(RunError, match=r"model\.onnx"):
        check_graph(tmp_path / "model.onnx", model)
    graph.graph.output[0].name = "scores"
    graph.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["scores"]))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(RunError, match="scores"):
        check_graph(tmp_path / "model.onnx", model)
