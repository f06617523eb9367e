"""create_student.py --encoder_from: another student's encoder before the teacher's decoder, as a stock model.

The reference is a stock model put together by hand from the two files of weights; and the encoder's digest, by which
caches are found, is the fitted model's.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BartForSequenceClassification

from distilbart_mnli.errors import InputError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.frozen_encoder import encoder_digest
from tests.support.files import edit_config
from tests.support.in_process import glue
from tests.support.students import assert_refused, student_of
from tests.support.tiny import tiny_bart, tiny_config, tiny_mnli, tiny_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A teacher of 4 + 3 layers, and a student of 2 + 1 whose encoder was fitted to it."""
    folder = tmp_path_factory.mktemp("made")
    tiny_bart(folder / "teacher", encoder_layers=4, decoder_layers=3)
    student_of(folder / "teacher", folder / "cut", encoder_layer_ids=[0, 3], decoder_layers=1)
    words = ["--model_name_or_path", folder / "cut", "--teacher_model_name_or_path", folder / "teacher"]
    words += ["--task_name", "MNLI", "--data_dir", tiny_mnli(folder / "data", train=12), "--do_train", "--fit_encoder"]
    words += ["--encoder_cache_dir", folder / "cache", "--output_dir", folder / "fitted", "--learning_rate", "1e-2"]
    assert glue(*words, "--num_train_epochs", "1", "--save_strategy", "no") == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def digest(folder: Path) -> str:
    return encoder_digest(ShortCutBart.from_pretrained(folder))


def test_the_student_is_the_fitted_encoder_and_the_teachers_decoder_in_a_stock_model(made, tmp_path):
    student_of(made / "teacher", tmp_path / "student", encoder_from=str(made / "fitted"), decoder_layer_ids=[2, 0])
    teacher, fitted = weights(made / "teacher"), weights(made / "fitted")
    by_hand = BartForSequenceClassification(tiny_config(encoder_layers=2, decoder_layers=2)).eval()
    layers = {f"model.decoder.layers.{i}.": f"model.decoder.layers.{origin}." for i, origin in enumerate((2, 0))}
    for name, tensor in by_hand.state_dict().items():
        start = next((start for start in layers if name.startswith(start)), "")
        origin = fitted if name.startswith("model.encoder.") else teacher
        name_there = name.replace(start, layers[start]) if start else name
        tensor.copy_(origin[name_there if name_there in origin else "model.shared.weight"])
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    assert type(student) is BartForSequenceClassification
    inputs = AutoTokenizer.from_pretrained(tmp_path / "student")("a dog", "not a bird", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(student(**inputs).logits, by_hand(**inputs).logits)
    for name, tensor in by_hand.state_dict().items():
        assert torch.equal(student.state_dict()[name], tensor), name
    # and the encoder is another one than a copied student's
    assert not torch.equal(fitted["model.encoder.layers.1.fc1.weight"], teacher["model.encoder.layers.3.fc1.weight"])


def test_students_share_the_fitted_encoder_its_digest_and_its_record(made, tmp_path):
    copied, before = weights(made / "cut"), json.loads((made / "fitted" / "config.json").read_text())
    for decoder_layers in (1, 3):
        folder = tmp_path / f"student-2-{decoder_layers}"
        student_of(made / "teacher", folder, encoder_from=str(made / "fitted"), decoder_layers=decoder_layers)
        assert digest(folder) == digest(made / "fitted") != digest(made / "cut")
        config = json.loads((folder / "config.json").read_text())
        assert (config["teacher_name_or_path"], config["encoder_layer_ids"]) == ("teacher", [0, 3])
        assert config["decoder_layer_ids"] == [0, 1, 2][:decoder_layers]
        (stage,) = config["distillation"]
        assert (stage["stage"], stage["teacher"], stage["trained"]) == ("encoder states", "teacher", "encoder")
        assert [stage] == before["distillation"]
        assert "nothing was trained" not in (folder / "README.md").read_text()
    # fit_encoder leaves the decoder and the token table as they were copied, bit for bit
    for name, tensor in weights(made / "fitted").items():
        if not name.startswith("model.encoder."):
            assert torch.equal(tensor, copied[name]), name


@pytest.mark.parametrize(("its", "theirs", "wider"), [(16, 32, 32), (32, 16, 32), (16, 16, 16)])
def test_neither_is_rounded_where_the_dtypes_differ(made, tmp_path, its, theirs, wider):
    """A teacher in float16 is usual; a fitted encoder is float32, and would lose its digest by rounding."""

    def cast(origin: Path, folder: Path, bits: int, every: bool) -> None:
        model = BartForSequenceClassification.from_pretrained(origin)
        if every:  # all of what will be in float32 has values of float16
            model.half().float()
        model.to(getattr(torch, f"float{bits}")).save_pretrained(folder)
        tiny_tokenizer(folder)

    cast(made / "teacher", tmp_path / "teacher", its, True)
    tiny = weights(tmp_path / "teacher")["model.shared.weight"]
    cast(made / "fitted", tmp_path / "fitted", theirs, False)
    tensors = weights(tmp_path / "fitted")
    tensors["model.shared.weight"] = tiny.to(tensors["model.shared.weight"].dtype)  # trained from that teacher
    save_file(tensors, tmp_path / "fitted" / "model.safetensors", {"format": "pt"})
    student_of(tmp_path / "teacher", tmp_path / "student", encoder_from=str(tmp_path / "fitted"), decoder_layers=1)
    found = weights(tmp_path / "student")
    assert {tensor.dtype for tensor in found.values()} == {getattr(torch, f"float{wider}")}
    assert json.loads((tmp_path / "student" / "config.json").read_text())["dtype"] == f"float{wider}"
    assert digest(tmp_path / "student") == digest(tmp_path / "fitted")


def of_another_width(folder: Path) -> str:
    tiny_bart(folder, encoder_layers=2, d_model=24)
    return "d_model is 24"


def with_another_vocabulary(folder: Path) -> str:
    tiny_bart(folder, encoder_layers=2, vocab_size=500)
    return "vocab_size is 500"


def with_other_labels(folder: Path) -> str:
    tiny_bart(folder, encoder_layers=2, labels=("entailment", "neutral", "contradiction"))
    return "id2label"


def with_another_tokenizer(folder: Path) -> str:
    tiny_bart(folder, encoder_layers=2)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["oncle"])
    tokenizer.save_pretrained(folder)
    return "tokenizer"


def with_other_embeddings(folder: Path) -> str:
    tiny_bart(folder, encoder_layers=2, seed=3)
    return "token embeddings"


def without_its_layers(folder: Path) -> str:
    tiny_bart(folder, encoder_layers=2)
    edit_config(folder, ["encoder_layer_ids"])
    return "encoder_layer_ids"


KINDS = (of_another_width, with_another_vocabulary, with_other_labels, with_another_tokenizer, with_other_embeddings)


@pytest.mark.parametrize("kind", [*KINDS, without_its_layers])
def test_an_encoder_that_is_not_of_this_teacher_is_refused(made, tmp_path, kind):
    told = kind(tmp_path / "other")
    if kind is not without_its_layers:
        edit_config(tmp_path / "other", encoder_layer_ids=[0, 3])
    more = {"encoder_from": str(tmp_path / "other"), "decoder_layers": 1}
    assert_refused(tmp_path, f"encoder_from .*other: .*{told}", made / "teacher", tmp_path / "student", **more)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"encoder_layers": 3}, "student_encoder_layers is 2, not 3"),
        ({"encoder_layer_ids": [0, 1]}, r"encoder_layer_ids is \[0, 3\]"),
    ],
)
def test_the_encoders_layers_are_those_of_the_fitted_model(made, tmp_path, asked, told):
    more = {"encoder_from": str(made / "fitted"), "decoder_layers": 1, **asked}
    assert_refused(tmp_path, told, made / "teacher", tmp_path / "student", **more)
    agreeing = {"encoder_layers": 2, "encoder_layer_ids": [0, 3]}
    student_of(made / "teacher", tmp_path / "student", encoder_from=str(made / "fitted"), **agreeing)


def test_the_fitted_model_is_not_replaced_by_the_student(made):
    before = (made / "fitted" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="of which the student is made"):
        student_of(made / "teacher", made / "fitted", overwrite=True, encoder_from=str(made / "fitted"))
    assert (made / "fitted" / "model.safetensors").read_bytes() == before
