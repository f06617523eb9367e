"""A head with generic names (LABEL_0, ...): a guess is a WARNING with the map; labels that are numbers need none.

huggingface/transformers#28589: names and ids of a head that knows no names are put together in an order that nobody
gave, and nobody is told.
"""

import json
import logging
from pathlib import Path

import pytest

from tests.support.in_process import run
from tests.support.tiny import tiny_bart, tiny_mnli


@pytest.fixture
def model(tmp_path) -> Path:
    tiny_bart(tmp_path / "start", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    return tmp_path / "start"


def trained_on(model: Path, folder: Path, *labels: str) -> dict[str, str]:
    """id2label of a model trained on texts with these labels."""
    rows = [f"the cat {word},{labels[number % len(labels)]}" for number, word in enumerate("abcdefgh")]
    (folder / "own.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    options = {"task_name": None, "train_file": folder / "own.csv", "do_train": True, "max_steps": 1}
    out = run(model_name_or_path=model, output_dir=folder / "out", **options)
    return json.loads((out / "config.json").read_text())["id2label"]


def warnings(caplog) -> str:
    return " ".join(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def test_named_labels_are_taken_in_order_with_a_warning_that_has_the_map(model, tmp_path, caplog):
    assert trained_on(model, tmp_path, "sport", "arts", "law") == {"0": "arts", "1": "law", "2": "sport"}
    assert "LABEL_0 for arts, LABEL_1 for law, LABEL_2 for sport" in warnings(caplog)


def test_glue_s_names_are_taken_in_its_order_with_the_same_warning(model, tmp_path, caplog):
    data = tiny_mnli(tmp_path / "data", train=8, matched=4, mismatched=4)
    run(model_name_or_path=model, output_dir=tmp_path / "out", data_dir=data, do_eval=True)
    assert "LABEL_0 for entailment, LABEL_1 for neutral, LABEL_2 for contradiction" in warnings(caplog)


@pytest.mark.parametrize("labels", [("2", "0", "1"), ("2", "0")])
def test_numbers_are_ids_also_where_the_file_lacks_one(model, tmp_path, caplog, labels):
    assert trained_on(model, tmp_path, *labels) == {"0": "0", "1": "1", "2": "2"}
    assert "LABEL_0" not in warnings(caplog)


def test_numbers_that_are_no_ids_are_a_guess(model, tmp_path, caplog):
    assert trained_on(model, tmp_path, "1", "2", "3") == {"0": "1", "1": "2", "2": "3"}
    assert "LABEL_0 for 1, LABEL_1 for 2, LABEL_2 for 3" in warnings(caplog)
