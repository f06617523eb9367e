"""Predicting needs no labels, so whatever stands in a test file's label column is no reason to refuse it.

huggingface/transformers#576: the example script ends in a KeyError on test data, whose labels are placeholders.
"""

import json

import pandas
import pytest

from distilbart_mnli.data.splits import get_task, load_test
from tests.support.glue_files import glue_args, write_task
from tests.support.own_files import own_files, read

TRAIN = "text,label\na,x\nb,y\n"


@pytest.mark.parametrize("label", ["?", "hidden", "None", "-", "0.0", "-1", "", "nan", "[]", "a|b", "X "])
def test_a_placeholder_in_csv_is_predicted(tmp_path, label):
    _, _, test = read(own_files(tmp_path, train=TRAIN, test=f"text,label\nc,{label}\nd,{label}\n"))
    assert test.sentence1 == ["c", "d"] and test.labels is None


@pytest.mark.parametrize("label", [None, 0.5, [], ["x", "y"], {"a": 1}, float("nan"), "?", True])
def test_a_placeholder_in_json_is_predicted(tmp_path, label):
    lines = "".join(
        json.dumps(record) + "\n" for record in ({"text": "c", "label": label}, {"text": "d", "label": "x"})
    )
    train = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).to_json(orient="records", lines=True)
    _, _, test = read(own_files(tmp_path, train=train, test=lines, suffix=".jsonl"))
    assert test.sentence1 == ["c", "d"] and test.labels is None


@pytest.mark.parametrize(
    "test",
    [
        "text\nc\nd\n",
        "text,label\nc\nd\n",
        "label,text\n,c\n,d\n",
        "id,text\n7,c\n8,d\n",
        "label,text,label\nx,c,y\ny,d,x\n",
    ],
)
def test_a_file_without_labels_is_predicted(tmp_path, test):
    _, _, found = read(own_files(tmp_path, train=TRAIN, test=test))
    assert found.sentence1 == ["c", "d"] and found.labels is None


@pytest.mark.parametrize("label", ["?", "hidden", "-1", "", "entailment"])
def test_a_label_column_in_glue_s_test_file_changes_no_text(tmp_path, label):
    folder = write_task(tmp_path, "rte", rows=3)
    lines = (folder / "test.tsv").read_text().splitlines()
    args = glue_args("rte", folder)
    (before,) = load_test(args, get_task(args))
    (folder / "test.tsv").write_text("\n".join([lines[0] + "\tlabel", *(f"{line}\t{label}" for line in lines[1:])]))
    (after,) = load_test(args, get_task(args))
    assert (after.sentence1, after.sentence2) == (before.sentence1, before.sentence2)
    assert (after.labels is None) == (label != "entailment")
