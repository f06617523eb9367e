"""Weight files: an index that leaves its folder, numbers that are no weights, tables that encoder and decoder share.

keras-team/keras-hub#3075: facebook/bart-large-cnn stores its one table under the decoder's name alone; any of the
three names has to do. Two tables that differ are no BART: its own code ties them when it is saved, and one is lost.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartForSequenceClassification

from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.options.fields import Arguments
from tests.support.files import edit_config
from tests.support.students import assert_refused, student_of
from tests.support.tiny import tiny_bart

SHARED, ENCODER, DECODER = "model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    tiny_bart(folder := tmp_path_factory.mktemp("whole") / "start")
    return folder


@pytest.fixture
def model(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "start"))


def edit_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def loaded(folder: Path) -> BartForSequenceClassification:
    return load(Arguments(model_name_or_path=str(folder), do_train=True), TASKS["mnli"]).model


def refused(folder: Path, told: str) -> None:
    with pytest.raises(InputError, match=told):
        loaded(folder)
    assert_refused(folder.parent, told, folder, folder.parent / "student")


def sharded(folder: Path, name: object) -> None:
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, name)})
    )


def test_shards_beside_their_index_are_read(model, whole):
    sharded(model, "shard.safetensors")
    assert torch.equal(loaded(model).model.shared.weight, loaded(whole).model.shared.weight)


@pytest.mark.parametrize("name", ["../shard.safetensors", "{folder}/shard.safetensors", "..", "", None, 3, "gone"])
def test_an_index_that_names_anything_else_is_refused(model, name):
    sharded(model, name.format(folder=model) if isinstance(name, str) else name)
    shutil.copy(model / "shard.safetensors", model.parent)  # what is named can be read
    refused(model, r"index\.json names")


@pytest.mark.parametrize("content", ["[]", "null", '{"weight_map": null}', '{"weight_map": {}}', "{", ""])
def test_an_index_of_another_shape_is_refused(model, content):
    sharded(model, "shard.safetensors")
    (model / "model.safetensors.index.json").write_text(content)
    refused(model, "weight_map|cannot be read")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_numbers_that_are_no_weights_are_refused(model, dtype, file):
    edit_weights(model, lambda tensors: tensors.update({f"{SHARED}.weight": tensors[f"{SHARED}.weight"].to(dtype)}))
    if file == "pytorch_model.bin":
        torch.save(load_file(model / "model.safetensors"), model / file)
        (model / "model.safetensors").unlink()
    refused(model, f"{file}: {SHARED}.weight is of {dtype}")


def test_values_that_are_not_finite_are_refused_also_where_no_row_reads_them(model):
    edit_weights(model, lambda tensors: tensors[f"{SHARED}.weight"][399].fill_(float("inf")))  # no token has this id
    refused(model, r"shared\.weight .*finite")


@pytest.mark.parametrize("name", [SHARED, ENCODER, DECODER])
def test_one_table_does_under_any_of_its_names(model, whole, name):
    edit_weights(model, lambda tensors: tensors.update({f"{name}.weight": tensors.pop(f"{SHARED}.weight")}))
    assert torch.equal(loaded(model).model.shared.weight, loaded(whole).model.shared.weight)


@pytest.mark.parametrize("tied", [True, False])
def test_equal_tables_become_one_and_others_are_refused(model, whole, tied):
    def apart(tensors: dict, add: float) -> None:
        table = tensors[f"{SHARED}.weight"]
        tensors.update({f"{ENCODER}.weight": table + add, f"{DECODER}.weight": table.clone()})

    edit_config(model, tie_word_embeddings=tied)
    edit_weights(model, lambda tensors: apart(tensors, 0.0))
    student_of(model, model.parent / "tied", decoder_layers=2)
    stock = BartForSequenceClassification.from_pretrained(model.parent / "tied")
    tables = (stock.model.shared, stock.model.encoder.embed_tokens, stock.model.decoder.embed_tokens)
    assert len({table.weight.data_ptr() for table in tables}) == 1
    assert torch.equal(stock.model.shared.weight, loaded(whole).model.shared.weight)
    edit_weights(model, lambda tensors: apart(tensors, 1.0))
    refused(model, "one table")
