"""A setting of the start model does not survive in the new one: the saved files are those of what was trained.

huggingface/transformers#14557: a head put in place of a multi-label model's is trained with cross-entropy, and its
config.json still says multi_label_classification, so that the scores of stock's pipeline do not sum to 1.
NVIDIA-NeMo/Megatron-Bridge#3924: auto_map comes along without the code that it names, which asks whoever loads the
model to trust code. huggingface/transformers#4501: pipelines send texts that are longer than the model's positions,
where the tokenizer was never told how long a text may be.
"""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, pipeline

from tests.support.files import edit_config, edit_json
from tests.support.in_process import run
from tests.support.students import student_of
from tests.support.tiny import tiny_bart, tiny_mnli, tiny_tokenizer

OF_CODE = {"auto_map": {"AutoConfig": "ann/code--c.C", "AutoTokenizer": ["t.T", None]}, "custom_pipelines": {"x": {}}}
OF_USE = {
    "finetuning_task": "toxicity",
    "task_specific_params": {"summarization": {"num_beams": 4}},
    "function_to_apply": "sigmoid",
    "return_dict": False,
    "output_hidden_states": True,
    "attn_implementation": "eager",
    "name_or_path": "ann/old",
    "torch_dtype": "float32",
}


def start(folder: Path, problem_type: str | None = "multi_label_classification", **config) -> Path:
    tiny_bart(folder, **config)
    edit_config(folder, **OF_CODE, **OF_USE, problem_type=problem_type)
    edit_json(folder / "tokenizer_config.json", ["model_max_length"], **OF_CODE, chat_template="{{ messages }}")
    return folder


def trained(model: Path, folder: Path, **options) -> Path:
    data = tiny_mnli(folder / "data", train=16, matched=6, mismatched=4)
    common = {"data_dir": data, "do_train": True, "max_steps": 1, "per_device_train_batch_size": 8}
    return run(model_name_or_path=model, output_dir=folder / "out", **common, **options)


@pytest.mark.parametrize("problem_type", ["multi_label_classification", "regression", None])
def test_scores_of_the_stock_pipeline_sum_to_1(tmp_path, problem_type):
    folder = trained(start(tmp_path / "start", problem_type), tmp_path)
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    scores = classify({"text": "the cat sees", "text_pair": "a dog"}, top_k=None)
    assert sum(entry["score"] for entry in scores) == pytest.approx(1)


def test_a_new_head_is_saved_as_what_it_is(tmp_path):
    model = start(tmp_path / "start", labels=("toxic", "obscene", "insult", "threat"))
    folder = trained(model, tmp_path, reinit_classifier=True)
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    assert sum(entry["score"] for entry in classify("the cat", top_k=None)) == pytest.approx(1)
    assert {entry["label"] for entry in classify("the cat", top_k=None)} == {"entailment", "neutral", "contradiction"}


def test_neither_student_nor_trained_model_names_code_or_an_old_use(tmp_path):
    model = start(tmp_path / "start")
    student_of(model, tmp_path / "student", decoder_layers=1)
    for folder in (tmp_path / "student", trained(tmp_path / "student", tmp_path)):
        config = json.loads((folder / "config.json").read_text())
        assert not (OF_CODE.keys() | OF_USE.keys()) & config.keys()
        assert not OF_CODE.keys() & json.loads((folder / "tokenizer_config.json").read_text()).keys()
        assert not list(folder.glob("*.jinja")) and not (folder / "generation_config.json").exists()


def test_stock_pipelines_cut_a_text_to_the_models_positions(tmp_path):
    student_of(start(tmp_path / "start", None, max_position_embeddings=64), tmp_path / "student", decoder_layers=1)
    classify = pipeline("zero-shot-classification", model=str(tmp_path / "student"), device="cpu")
    assert classify.tokenizer.model_max_length == 64
    assert sum(classify("the cat sees " * 60, ["dog", "bird"])["scores"]) == pytest.approx(1)


def test_a_shorter_limit_of_the_tokenizer_is_kept(tmp_path):
    tiny_bart(tmp_path / "start")
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 40
    tokenizer.save_pretrained(tmp_path / "start")
    student_of(tmp_path / "start", tmp_path / "student", decoder_layers=1)
    assert AutoTokenizer.from_pretrained(tmp_path / "student").model_max_length == 40
