"""export_onnx.py: its files, its gate, what it refuses before any work, and that it leaves no half of an export."""

import os
import shutil
import sys

import pytest

from tests.support.exports import export_here, needs_onnx, spoiled
from tests.support.tiny import tiny_bart, tiny_bert, tiny_config, tiny_tokenizer

onnx = pytest.importorskip("onnx")
pytestmark = needs_onnx


@pytest.fixture
def graph_is_at_hand(exported, monkeypatch):
    """torch's exporter takes a dozen seconds; the graph that it made for the same weights is read instead."""
    from distilbart_mnli.export import export

    monkeypatch.setattr(export, "export_graph", lambda model: onnx.load(exported / "onnx/model.onnx"))


def copy(exported, folder):
    return shutil.copytree(exported, folder, ignore=shutil.ignore_patterns("onnx", "data"))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_another_folder_gets_what_a_client_reads(exported, graph_is_at_hand, tmp_path):
    code, said = export_here(exported, "--output_dir", tmp_path / "new/web")
    assert code == 0, said
    assert files(tmp_path / "new/web") == ["config.json", "onnx/model.onnx", "tokenizer.json", "tokenizer_config.json"]
    umask = os.umask(0)
    os.umask(umask)
    for path in (tmp_path / "new/web").rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_below_the_gate_int8_is_not_written_and_an_old_one_goes(exported, graph_is_at_hand, monkeypatch, tmp_path):
    from distilbart_mnli.export import export

    folder = copy(exported, tmp_path / "student")
    shutil.copytree(exported / "onnx", folder / "onnx")
    monkeypatch.setattr(export, "agreement", lambda logits, reference: 0.984)
    code, said = export_here(folder, "--quantize", "int8", "--data_dir", exported / "data")
    assert code == 1 and "98.40 %" in said and "min_agreement" in said
    assert [name for name in files(folder) if name.startswith("onnx")] == ["onnx/model.onnx"]
    code, said = export_here(folder, "--quantize", "int8", "--data_dir", exported / "data", "--min_agreement", "0.984")
    assert code == 0, said
    assert "onnx/model_quantized.onnx" in files(folder) and "onnx/quantization.json" in files(folder)


def test_a_wrong_graph_leaves_the_old_export(exported, monkeypatch, tmp_path):
    from distilbart_mnli.export import export

    folder = copy(exported, tmp_path / "student")
    shutil.copytree(exported / "onnx", folder / "onnx")
    before = {name: (folder / name).read_bytes() for name in files(folder)}

    def wrong(model):
        return spoiled(exported / "onnx/model.onnx")

    monkeypatch.setattr(export, "export_graph", wrong)
    code, said = export_here(folder)
    assert code == 1 and "model.onnx" in said
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before


def test_what_is_refused_before_any_work(exported, monkeypatch, tmp_path):
    from distilbart_mnli.export import export

    def no_work(model):
        raise AssertionError("it began to export")

    monkeypatch.setattr(export, "export_graph", no_work)
    bert = tmp_path / "bert"
    tiny_bert(bert)
    no_head = tmp_path / "no-head"
    tiny_config(architectures=["BartModel"]).save_pretrained(no_head)
    tiny_tokenizer(no_head)
    other = tmp_path / "other"
    tiny_bart(other, labels=("a", "b"))
    file = tmp_path / "file"
    file.write_text("")
    linked = copy(exported, tmp_path / "linked")
    (linked / "onnx").symlink_to(tmp_path)
    int8 = ("--quantize", "int8", "--data_dir", exported / "data")
    for words, subject in (
        ([bert], "bert"),
        ([no_head], "BartModel"),
        ([tmp_path / "nowhere"], "output_dir"),
        ([tmp_path / "nowhere", "--output_dir", tmp_path / "out"], "nowhere"),
        ([exported, "--output_dir", file], "file"),
        ([exported, "--output_dir", other], "other"),
        ([linked], "onnx"),
        ([other, *int8], "labels"),
        ([exported, "--quantize", "int8", "--data_dir", tmp_path], "dev_matched.tsv"),
        ([exported, *int8, "--task_name", "stsb"], "stsb"),
        ([exported, *int8, "--min_agreement", "98.5"], "min_agreement"),
        ([exported, "--quantize", "int4"], "quantize"),
        ([exported, "--int8"], "--quantize int8"),
    ):
        code, said = export_here(*words)
        assert code == 2 and subject in said and "\n" not in said, (words, code, said)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write(exported, tmp_path):
    folder = copy(exported, tmp_path / "student")
    folder.chmod(0o555)
    code, said = export_here(folder)
    folder.chmod(0o755)
    assert code == 2 and "student" in said


def test_without_onnx_runtime_one_line_says_what_to_install(exported, monkeypatch):
    from distilbart_mnli.export import session

    found = session.importlib.util.find_spec
    monkeypatch.setattr(
        session.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    code, said = export_here(exported)
    assert code == 2 and "onnxruntime" in said and "pip install -r requirements-onnx.txt" in said
    assert sys.executable in said
