"""Names in one half of the label map: the other is made whole from it, in every script, or the model is refused.

huggingface/transformers#10449: a config.json from another checkpoint, whose id2label and label2id were not the
model's; transformers reads the names from id2label alone and makes up LABEL_0, ... where it is not there, so that a
model which knows its labels is evaluated with guessed ones.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BartForSequenceClassification, pipeline

from distilbart_mnli.compare.compare import CompareOptions, compare_models
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.options.fields import Arguments
from tests.support.files import edit_config
from tests.support.in_process import results, run
from tests.support.students import assert_refused, student_of
from tests.support.tiny import TEACHER_LABELS, tiny_bart, tiny_mnli

ID2LABEL = {str(number): name for number, name in enumerate(TEACHER_LABELS)}
LABEL2ID = {name: number for number, name in enumerate(TEACHER_LABELS)}
ONE_HALF = {
    "id2label deleted": {"id2label": None},
    "label2id deleted": {"label2id": None},
    "id2label empty": {"id2label": {}},
    "id2label holds ids": {"id2label": {"0": 2, "1": 1, "2": 0}},
    "label2id holds ids": {"label2id": {"0": 2, "1": 1, "2": 0}},
    "id2label with a gap": {"id2label": {"0": "contradiction", "2": "entailment"}},
    "id2label from 1": {"id2label": {"1": "contradiction", "2": "neutral", "3": "entailment"}},
    "id2label of two, as transformers wrote it": {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}},
    "label2id of nobody": {"label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}},
    "id2label a list": {"id2label": list(TEACHER_LABELS)},
    "id2label a word": {"id2label": "contradiction"},
    "one name for all": {"id2label": dict.fromkeys(ID2LABEL, "entailment")},
    "ids as text": {"label2id": {name: str(number) for name, number in LABEL2ID.items()}},
    "ids as decimals": {"label2id": {name: float(number) for name, number in LABEL2ID.items()}},
    "one id for all": {"label2id": dict.fromkeys(LABEL2ID, 0)},
    "another case": {"label2id": {name.upper(): number for name, number in LABEL2ID.items()}},
}
NO_HALF = {
    "a gap": {"id2label": {"0": "contradiction", "2": "entailment"}, "label2id": None},
    "two orders": {"id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"}},
    "one name twice": {"id2label": {"0": "a", "1": "a", "2": "b"}, "label2id": {"a": 1, "b": 2}},
    "nothing but ids": {"id2label": {"0": 0, "1": 1, "2": 2}, "label2id": None},
    "a tab": {"id2label": {"0": "a\tb", "1": "c", "2": "d"}, "label2id": None},
    "a line feed": {"id2label": {"0": "a\nb", "1": "c", "2": "d"}, "label2id": None},
    "a line separator": {"id2label": {"0": "a\u2028b", "1": "c", "2": "d"}, "label2id": None},
    "half a character": {"id2label": {"0": "\ud800", "1": "c", "2": "d"}, "label2id": None},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    tiny_bart(folder)
    tiny_mnli(folder.parent / "data", train=8, matched=30, mismatched=5)
    return folder


@pytest.fixture
def model(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit_labels(folder: Path, changes: dict) -> None:
    edit_config(folder, drop=[key for key, value in changes.items() if value is None], **changes)


def loaded(folder: Path, **options):
    return load(Arguments(model_name_or_path=str(folder), **options), TASKS["mnli"])


@pytest.mark.parametrize("damage", ONE_HALF)
def test_the_good_half_says_what_the_other_should(model, tmp_path, damage):
    edit_labels(model, ONE_HALF[damage])
    found = loaded(model)
    assert found.label_map.tolist() == [2, 1, 0]
    assert (found.model.config.id2label, found.model.config.label2id) == (dict(enumerate(TEACHER_LABELS)), LABEL2ID)
    student_of(model, tmp_path / "student", decoder_layers=1)
    saved = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (saved["id2label"], saved["label2id"]) == (ID2LABEL, LABEL2ID)


@pytest.mark.parametrize("damage", NO_HALF)
def test_where_no_half_is_good_the_model_is_refused_unless_its_head_is_replaced(model, tmp_path, damage):
    edit_labels(model, NO_HALF[damage])
    with pytest.raises(InputError, match=r"model .*label"):
        loaded(model, do_train=True)
    assert_refused(tmp_path, "label", model, tmp_path / "student")
    found = loaded(model, do_train=True, reinit_classifier=True)
    assert tuple(found.model.config.id2label.values()) == TASKS["mnli"].label_names
    assert not found.model.classification_head.out_proj.bias.any()  # a new one


def accuracy(folder: Path, data: Path) -> float:
    """Of stock transformers, by the names in the untouched model."""
    model, tokenizer = BartForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = [line.split("\t") for line in (data / "dev_matched.tsv").read_text().splitlines()[1:]]
    with torch.no_grad():
        ids = [int(model(**tokenizer([r[8]], [r[9]], return_tensors="pt")).logits.argmax()) for r in rows]
    return float(np.mean([model.config.id2label[number] == row[-1] for number, row in zip(ids, rows, strict=True)]))


def test_evaluation_training_and_comparison_agree_with_stock_on_the_whole_map(whole, model, tmp_path):
    edit_labels(model, {"id2label": None})
    data, right = whole.parent / "data", accuracy(whole, whole.parent / "data")
    options = {"model_name_or_path": model, "data_dir": data, "do_eval": True}
    folder = run(**options, output_dir=tmp_path / "evaluated")
    assert results(folder)["eval_accuracy"] == right
    sheet = compare_models(
        CompareOptions(models=[str(model)], output_dir=tmp_path / "sheet", data_dir=str(data), no_speed=True)
    )
    assert sheet.rows[0]["accuracy_matched"] == right
    trained = run(**options, output_dir=tmp_path / "trained", do_train=True, max_steps=1, learning_rate=0.0)
    classify = pipeline("text-classification", model=str(trained), device="cpu")
    assert classify.model.config.label2id == LABEL2ID


@pytest.mark.skipif("DISTILBART_REAL_DATA" not in os.environ, reason="needs the real mini teacher and MNLI")
def test_the_real_mini_teacher_keeps_its_accuracy(tmp_path):
    real = Path(os.environ["DISTILBART_REAL_DATA"])
    teacher = Path(shutil.copytree(real / "models" / "minibart-mnli-6-6", tmp_path / "teacher"))
    for path in (teacher, *teacher.iterdir()):
        path.chmod(0o755)
    edit_labels(teacher, {"id2label": None})
    options = {"model_name_or_path": teacher, "data_dir": real / "glue_data" / "MNLI", "max_eval_samples": 200}
    found = results(run(**options, do_eval=True, output_dir=tmp_path / "evaluated"))
    assert (found["eval_accuracy"], found["eval_accuracy_mm"]) == (0.705, 0.73)
