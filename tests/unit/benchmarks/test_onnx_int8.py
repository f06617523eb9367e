"""Every setting of the int8 benchmark makes a file that ONNX Runtime runs, and the report says how each did."""

import json

import pytest

from tests.support.exports import exported_student, needs_onnx
from tests.support.in_process import as_in_a_new_process

onnx = pytest.importorskip("onnx")
pytestmark = needs_onnx


def test_every_setting_is_measured(tmp_path, monkeypatch):
    from benchmarks import onnx_int8

    folder = exported_student()
    monkeypatch.setattr(onnx_int8, "export_graph", lambda model: onnx.load(folder / "onnx/model.onnx"))
    words = [str(folder), "--data_dir", str(folder / "data"), "--rows", "20", "--calibration_rows", "16"]
    with as_in_a_new_process("onnx_int8", *words, "--output", tmp_path / "report.json"):
        onnx_int8.main()
    found = json.loads((tmp_path / "report.json").read_text())["settings"]
    assert len(found) == 1 + len(onnx_int8.settings(lambda: None)) == 10
    assert (found[0]["agreement"], found[0]["share"]) == (1.0, 1.0)
    ours = next(each for each in found if each["name"] == "blocks of 128, activations int8")
    assert ours["mb"] == pytest.approx((folder / "onnx/model_quantized.onnx").stat().st_size / 1e6, rel=0.01)
