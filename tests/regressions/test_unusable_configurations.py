"""Configurations that stock cannot run, or would train into nonsense, are one line with code 2 before training.

huggingface/transformers#25773: pad_token_id -1, as some releases write it, which torch takes for the last row of the
table. An encoder of -1 layers is none at all, and trains.
"""

import json
from pathlib import Path

import pytest

from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.options.fields import Arguments
from tests.support.students import assert_refused
from tests.support.tiny import tiny_bart

SIZES = [f"{stack}_{name}" for stack in ("encoder", "decoder") for name in ("layers", "attention_heads", "ffn_dim")]
NO_SIZE = (None, 0, -1, True, 1.5, "2", [2], float("nan"), 10**9, 2**70)
NO_SHARE = (-0.1, 5, "0.1", True, float("nan"), float("inf"))
NO_ID = (None, -1, 400, True, 2.0, "2", [2])
UNUSABLE = {
    **dict.fromkeys([*SIZES, "d_model", "vocab_size", "max_position_embeddings", "num_hidden_layers"], NO_SIZE),
    **dict.fromkeys(["dropout", "attention_dropout", "activation_dropout", "classifier_dropout"], NO_SHARE),
    "decoder_layerdrop": NO_SHARE,
    **dict.fromkeys(["pad_token_id", "eos_token_id", "decoder_start_token_id"], NO_ID),
    "bos_token_id": ([0], "0", True),
    "hidden_size": (18,),  # four heads
    "quantization_config": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, {}),
    "encoder_layer_ids": ("0,1", [0, "1"], [-1], [True], {"0": 1}, [0.0]),
    "decoder_layer_ids": (["<b>0</b>"], 1),
    "teacher_name_or_path": (["ann/teacher"], 3),
    "activation_function": ("no_such_function", None, 3),
    "init_std": (float("nan"), -1, "0.02"),
    "tie_word_embeddings": (None, "yes", 1),
    "dtype": ("int8", "load", 16, ["float32"]),
    "problem_type": ("guessing", ["regression"]),
    "num_labels": (0, -3, "3", 10**9),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "start"
    tiny_bart(folder)
    return folder


@pytest.mark.parametrize("key", UNUSABLE)
def test_it_is_refused_in_one_line_that_names_the_key(model, tmp_path, key):
    path = model / "config.json"
    good = path.read_text()
    without_names = {name: value for name, value in json.loads(good).items() if name not in ("id2label", "label2id")}
    for value in UNUSABLE[key]:
        path.write_text(json.dumps({**(without_names if key == "num_labels" else json.loads(good)), key: value}))
        try:
            with pytest.raises(InputError) as caught:
                load(Arguments(model_name_or_path=str(model), do_train=True), TASKS["mnli"])
            assert_refused(tmp_path, str(model), model, tmp_path / "student")
        finally:
            path.write_text(good)
        named = {"num_hidden_layers": "encoder_layers", "hidden_size": "d_model"}.get(key, key)
        assert named in str(caught.value) and "\n" not in str(caught.value), value
