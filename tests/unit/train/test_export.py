"""run_glue.py --export_onnx: onnx/ of the model that was saved, in the card; what it refuses before any training."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.support.exports import needs_onnx
from tests.support.in_process import train_here
from tests.support.tiny import tiny_bart, tiny_mnli

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = needs_onnx


@pytest.fixture
def options(tmp_path):
    tiny_bart(tmp_path / "student", encoder_layers=1)
    return {
        "model_name_or_path": str(tmp_path / "student"),
        "task_name": "MNLI",
        "data_dir": str(tiny_mnli(tmp_path / "data", matched=60)),
        "do_train": True,
        "do_eval": True,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
    }


def test_it_is_of_the_trained_model_and_the_next_training_removes_it(options, tmp_path, caplog):
    code, error = train_here({**options, "export_onnx": "int8"}, card=True)
    assert code == 0, error
    out = tmp_path / "out"
    figures = json.loads((out / "onnx/quantization.json").read_text())
    assert (figures["rows"], figures["data"]) == (60, "mnli")
    trained = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32).eval()
    ids = torch.tensor([[0, 5, 6, 7, 2, 2, 8, 2]])
    session = onnxruntime.InferenceSession(out / "onnx/model.onnx")
    (logits,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": np.ones((1, 8), int)})
    np.testing.assert_allclose(logits, trained(ids).logits.detach().numpy(), atol=1e-5)
    card = (out / "README.md").read_text()
    for word in (f"{100 * figures['agreement']:.2f} %", "model_quantized.onnx", "@huggingface/transformers"):
        assert word in card
    code, error = train_here({**options, "overwrite_output_dir": True})
    assert code == 0, error
    assert not list((out / "onnx").iterdir())


def test_what_it_refuses_before_any_training(options, tmp_path, monkeypatch):
    from distilbart_mnli.export import session

    for changes, subject in (
        ({"export_onnx": "int8", "do_eval": False}, "do_eval"),
        ({"export_onnx": "float32", "do_train": False}, "do_train"),
        ({"export_onnx": "int4"}, "export_onnx"),
    ):
        code, error = train_here({**options, **changes})
        assert code == 2 and subject in error, (changes, error)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/onnx").symlink_to(tmp_path / "data")  # a training removes what is in onnx/
    code, error = train_here(options)
    assert code == 2 and "onnx" in error
    (tmp_path / "out/onnx").unlink()
    monkeypatch.setattr(session, "PACKAGES", ("onnx", "not_installed_here"))
    code, error = train_here({**options, "export_onnx": "float32"})
    assert code == 2 and "not_installed_here" in error and "requirements-onnx.txt" in error
    assert not list((tmp_path / "out").iterdir())
