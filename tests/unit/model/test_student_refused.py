"""What create_student refuses: a place that is not free, layers that are not there, a teacher that cannot be used.

Each time one line says why, nothing is written, nothing is deleted, and nothing that a file holds is executed.
"""

import json
import pickle
from pathlib import Path

import pytest
import torch
from transformers import BertConfig

import distilbart_mnli.model.student
from distilbart_mnli.errors import HubError, RunError
from tests.support.files import Payload, edit_config
from tests.support.students import assert_refused, student_of
from tests.support.tiny import tiny_bart, tiny_tokenizer


@pytest.fixture
def teacher(tmp_path):
    folder = tmp_path / "in" / "teacher-6-6"
    tiny_bart(folder, encoder_layers=6, decoder_layers=6)
    return folder


# ---- where it is written


def test_overwrite_replaces_a_model_and_leaves_nothing_of_it(teacher, tmp_path):
    folder = tmp_path / "student"
    student_of(teacher, folder, decoder_layers=3)
    (folder / "all_results.json").write_text("{}")
    student_of(teacher, folder, overwrite=True, decoder_layers=1)
    assert json.loads((folder / "config.json").read_text())["decoder_layers"] == 1
    assert not (folder / "all_results.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "student"]


def test_overwrite_keeps_the_old_model_when_the_new_one_does_not_read_back(teacher, tmp_path, monkeypatch):
    folder = tmp_path / "student"
    student_of(teacher, folder, decoder_layers=3)

    def damaged(folder, model):
        raise RunError("the saved student gives logits that are not finite")

    monkeypatch.setattr(distilbart_mnli.model.student, "verify_saved", damaged)
    assert_refused(tmp_path, "not finite", teacher, folder, RunError, overwrite=True, decoder_layers=1)


def test_nothing_is_left_when_the_disk_fills_up(teacher, tmp_path, monkeypatch):
    def full(self, folder, **options):
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.BartForSequenceClassification.save_pretrained", full)
    assert_refused(tmp_path, "save_path .*No space left", teacher, tmp_path / "a" / "b", RunError)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"notes.txt": "mine"}, r"config\.json"),
        ({"config.json": "{}", "model.safetensors": ""}, r"config\.json"),
        ({"config.json": '{"model_type": "bart"}'}, "weights"),
        ({"config.json": '{"model_type": "bart"}', "model.safetensors": "", "work/notes.txt": "mine"}, "work"),
    ],
)
def test_overwrite_refuses_to_delete_what_does_not_look_like_a_model(teacher, tmp_path, content, told):
    folder = tmp_path / "precious"
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert_refused(tmp_path, "precious: .*--overwrite", teacher, folder)
    assert_refused(tmp_path, f"precious: .*{told}", teacher, folder, overwrite=True, decoder_layers=1)


def test_the_teacher_is_never_replaced_by_its_student(teacher, tmp_path):
    for folder in (teacher, teacher.parent):
        assert_refused(tmp_path, "of which the student is made", teacher, folder, overwrite=True, decoder_layers=1)


def test_a_save_path_that_is_a_file_or_lies_under_one_or_is_the_current_folder_is_refused(
    teacher, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert_refused(tmp_path, "file: is a file", teacher, tmp_path / "file")
    assert_refused(tmp_path, "file is a file", teacher, tmp_path / "file" / "a" / "b")
    assert_refused(tmp_path, "current folder", teacher, ".")


def test_a_folder_that_cannot_be_made_is_bad_input(teacher, tmp_path):
    # Even root cannot make a folder in /proc, which says it is writable.
    assert_refused(tmp_path, "save_path /proc/student", teacher, "/proc/student")


# ---- layers and teachers that cannot be used


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ({"decoder_layers": 7}, "decoder: .*7"),
        ({"encoder_layers": 0}, "encoder: .*0"),
        ({"decoder_layer_ids": [0, 6]}, "decoder_layer_ids: .*layer 6"),
        ({"encoder_layer_ids": [-1]}, "encoder_layer_ids: .*layer -1"),
        ({"decoder_layer_ids": [0, 0]}, "decoder_layer_ids: layer 0"),
        ({"decoder_layer_ids": [0, 1], "decoder_layers": 3}, "student_decoder_layers is 3.*decoder_layer_ids"),
    ],
)
def test_layers_that_do_not_fit_the_teacher_are_refused(teacher, tmp_path, layers, told):
    assert_refused(tmp_path, told, teacher, tmp_path / "student", **layers)


def test_a_model_of_another_kind_is_refused_by_name(teacher, tmp_path):
    student = tmp_path / "student"
    edit_config(teacher, architectures=["BartForConditionalGeneration"])
    assert_refused(tmp_path, "teacher-6-6: is BartForConditionalGeneration", teacher, student)
    edit_config(teacher, architectures=None)
    assert_refused(tmp_path, "teacher-6-6: is no architecture", teacher, student)
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(teacher)
    assert_refused(tmp_path, "is BertForSequenceClassification .model type bert.", teacher, student)
    edit_config(teacher, model_type="of-our-own", auto_map={"AutoConfig": "code.Config"})
    assert_refused(tmp_path, "model type of-our-own", teacher, student)


def test_a_damaged_teacher_is_refused_with_what_is_wrong(teacher, tmp_path):
    good = {path.name: path.read_bytes() for path in teacher.iterdir()}

    def refused(told, files=None, **config):
        for path in teacher.iterdir():
            path.unlink()
        for name, content in {**good, **(files or {})}.items():
            if content is not None:
                (teacher / name).write_bytes(content)
        if config:
            edit_config(teacher, **config)
        assert_refused(tmp_path, f"teacher .*teacher-6-6: .*{told}", teacher, tmp_path / "student")

    refused("config.json", {"config.json": None})
    refused("config.json", {"config.json": b"{"})
    refused("cannot be read", {"config.json": b"[1]"})
    refused("model.safetensors", {"model.safetensors": None})
    refused("cannot be read", {"model.safetensors": good["model.safetensors"][:-8]})
    refused("tokenizer.json", {"tokenizer.json": None, "tokenizer_config.json": None})
    refused("model.decoder.layers.6", decoder_layers=8)
    refused("model.decoder.layers.0.fc1.bias", decoder_ffn_dim=48)
    refused("", decoder_layers="six")
    refused("ids up to 338", vocab_size=100)


def test_a_teacher_with_nan_weights_gives_no_student(tmp_path):
    teacher = tiny_bart()
    teacher.model.decoder.layers[0].fc1.weight.data[0, 0] = float("nan")
    teacher.save_pretrained(tmp_path / "teacher")
    tiny_tokenizer(tmp_path / "teacher")
    assert_refused(tmp_path, "fc1.weight .*NaN", tmp_path / "teacher", tmp_path / "student")


def test_a_teacher_that_is_nowhere_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "file").write_text("")
    for name, told in (
        ("some-body/bart-of-nobody", "no such folder here, and not in the Hub's cache"),
        ("./no/such/folder", "no such folder, and it is not a name on the Hub"),
        ("no such name", "no such folder, and it is not a name on the Hub"),
        (str(tmp_path / "file"), "is a file"),
    ):
        assert_refused(tmp_path, f"teacher {name}: .*{told}", name, tmp_path / "student")


def test_a_hub_that_cannot_be_reached_is_the_hubs_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens on "discard"
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's pauses between its attempts
    name = "some-body/bart-of-nobody"
    assert_refused(tmp_path, f"teacher {name}: .*cannot be reached", name, tmp_path / "student", HubError)


@pytest.mark.parametrize("form", ["zip", "bare pickle"])
def test_a_payload_in_pytorch_model_bin_does_not_run(tmp_path, form):
    teacher, proof = tmp_path / "teacher", tmp_path / "it-ran"
    tiny_bart(teacher)
    (teacher / "model.safetensors").unlink()
    if form == "zip":
        torch.save({"model.shared.weight": Payload(proof)}, teacher / "pytorch_model.bin")
    else:
        (teacher / "pytorch_model.bin").write_bytes(pickle.dumps({"model.shared.weight": Payload(proof)}))
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists(), "the payload would work"
    proof.rmdir()
    assert_refused(tmp_path, f"teacher {teacher}: .*(not loaded|cannot be read)", teacher, tmp_path / "student")
    assert not proof.exists()
