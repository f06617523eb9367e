"""The probability of every class for every row of a test set, beside the predictions.

huggingface/transformers#1100 (2019): predictions and the probabilities of each class in a file, in the order of the
input.
"""

import numpy as np
import pandas
import pytest
import torch
from scipy.special import softmax
from transformers import AutoTokenizer, BartForSequenceClassification

from tests.support.glue_files import write_task
from tests.support.in_process import glue
from tests.support.tiny import TEACHER_LABELS, tiny_bart

SHARED = ("--use_cpu", "--disable_tqdm", "--report_to", "none", "--do_predict", "--predict_proba")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probabilities")
    tiny_bart(folder / "model")
    return folder / "model"


def by_stock(model, pairs) -> pandas.DataFrame:
    """Probabilities of the pairs, one at a time; a column a label."""
    stock, tokenizer = BartForSequenceClassification.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    rows = []
    for first, second in pairs:
        inputs = tokenizer([first], [second], return_tensors="pt")
        with torch.no_grad():
            rows.append(stock(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[0].double().numpy())
    return pandas.DataFrame(softmax(np.array(rows), axis=1), columns=list(TEACHER_LABELS))


def check(found: pandas.DataFrame, expected: pandas.DataFrame) -> None:
    columns = [name for name in found if name.startswith("probability_")]
    assert {name.removeprefix("probability_") for name in columns} == set(TEACHER_LABELS)
    for name in TEACHER_LABELS:
        np.testing.assert_allclose(found[f"probability_{name}"], expected[name], atol=1e-6)
    np.testing.assert_allclose(found[columns].sum(axis=1), 1, atol=1e-6)
    assert found["prediction"].tolist() == expected.idxmax(axis=1).tolist()


def test_mnli_has_a_file_a_set_beside_the_submissions(model, tmp_path):
    data, out = write_task(tmp_path / "MNLI", "mnli", rows=7), tmp_path / "out"
    write_task(tmp_path / "AX", "ax", rows=5)
    words = ("--model_name_or_path", model, "--task_name", "MNLI", "--data_dir", data, "--output_dir", out)
    assert glue(*SHARED, *words) == 0
    for name, file, submission in (
        ("predictions.tsv", "MNLI/test_matched.tsv", "MNLI-m.tsv"),
        ("predictions_mm.tsv", "MNLI/test_mismatched.tsv", "MNLI-mm.tsv"),
        ("predictions_ax.tsv", "AX/diagnostic.tsv", "AX.tsv"),
    ):
        texts = pandas.read_csv(tmp_path / file, sep="\t", quoting=3)
        found = pandas.read_csv(out / name, sep="\t")
        assert list(found)[:2] == ["index", "prediction"]
        check(found, by_stock(model, zip(texts["sentence1"], texts["sentence2"], strict=True)))
        submitted = pandas.read_csv(out / submission, sep="\t")
        assert submitted.equals(found[["index", "prediction"]])


def test_own_rows_have_their_ids_and_keep_their_numbers(model, tmp_path):
    texts = [("the cat sees", "a dog"), (None, "x"), ('a "big" dog', "not\ta dog"), ("a", "the house")]
    frame = pandas.DataFrame(texts, columns=["premise", "hypothesis"]).assign(
        id=['q"1', "q2", "q\t3", "007"], label="?"
    )
    frame.to_csv(tmp_path / "test.csv", index=False)
    out = tmp_path / "out"
    words = ("--model_name_or_path", model, "--test_file", tmp_path / "test.csv", "--output_dir", out)
    assert glue(*SHARED, *words, "--skip_bad_rows") == 0
    found = pandas.read_csv(out / "predictions.tsv", sep="\t", dtype={"id": str})
    assert found["index"].tolist() == [0, 2, 3] and found["id"].tolist() == ['q"1', "q 3", "007"]
    check(found, by_stock(model, [texts[row] for row in (0, 2, 3)]))
