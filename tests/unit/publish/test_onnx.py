"""onnx/ is published with the model, in the same commit and after the same test; one of other weights is not."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.publish.hub import publish
from distilbart_mnli.publish.smoke_test import Predictions, smoke_test
from distilbart_mnli.publish.staging import staged
from tests.support.exports import exported_student, needs_onnx, spoiled
from tests.support.publishing import REPO, ROWS, arguments

onnx = pytest.importorskip("onnx")
pytestmark = needs_onnx
FILES = ("onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/quantization.json")


@pytest.fixture
def run_with_onnx(run_dir):
    """A finished run whose model is the exported one, with its predictions."""
    exported = exported_student()
    for name in ("config.json", "model.safetensors", *FILES):
        (run_dir / name).parent.mkdir(exist_ok=True)
        shutil.copy(exported / name, run_dir / name)
    model = AutoModelForSequenceClassification.from_pretrained(run_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(run_dir)
    names = [model.config.id2label[index] for index in range(3)]
    lines = ["\t".join(["index", "label", "prediction", *(f"logit_{name}" for name in names)])]
    for index, row in enumerate(ROWS):
        with torch.no_grad():
            logits = model(**tokenizer(*row, return_tensors="pt")).logits[0].tolist()
        lines.append("\t".join([str(index), names[0], names[int(np.argmax(logits))], *(f"{v:.9g}" for v in logits)]))
    (run_dir / "eval_predictions_mnli.tsv").write_text("\n".join(lines) + "\n")
    return run_dir


def check(folder):
    predictions = Predictions(folder / "eval_predictions_mnli.tsv", ROWS, 128)
    with staged(folder, []) as copy:
        assert all((copy / name).exists() == (folder / name).exists() for name in FILES)
        smoke_test(copy, predictions)
        smoke_test(copy)


def test_one_commit_holds_it(run_with_onnx, hub):
    url = publish(run_with_onnx, arguments(run_with_onnx))
    assert url.endswith(hub.commits(REPO)[-1].oid)
    assert set(FILES) <= set(hub.files(REPO))
    for name in FILES:
        assert hub.files(REPO)[name] == (run_with_onnx / name).read_bytes()
    commits = len(hub.commits(REPO))
    assert publish(run_with_onnx, arguments(run_with_onnx)) == url  # recognised by its content
    assert len(hub.commits(REPO)) == commits


def test_float32_alone_passes(run_with_onnx):
    check(run_with_onnx)
    for name in FILES[1:]:
        (run_with_onnx / name).unlink()
    check(run_with_onnx)


@pytest.mark.parametrize("name", FILES[:2])
def test_other_weights_are_noticed(run_with_onnx, name):
    if name == FILES[1]:
        (run_with_onnx / FILES[0]).unlink()
    weights = load_file(run_with_onnx / "model.safetensors")
    weights["classification_head.out_proj.bias"] += 1e-6  # far less than the logits could tell
    save_file(weights, run_with_onnx / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=name):
        check(run_with_onnx)


def test_a_graph_that_computes_otherwise_is_noticed(run_with_onnx):
    graph = spoiled(run_with_onnx / FILES[0], 1.1)
    onnx.save(graph, run_with_onnx / FILES[0])
    with pytest.raises(RunError, match=r"onnx/model\.onnx"):
        check(run_with_onnx)


def test_figures_of_another_int8_file_are_noticed(run_with_onnx):
    path = run_with_onnx / FILES[2]
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}))
    with pytest.raises(RunError, match=r"quantization\.json"):
        check(run_with_onnx)


def test_a_linked_folder_is_refused(run_with_onnx, tmp_path):
    (run_with_onnx / "onnx").rename(tmp_path / "elsewhere")
    (run_with_onnx / "onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link"):
        check(run_with_onnx)
