"""The user's own CSV, TSV and JSON lines files are trained on, evaluated and predicted like a task of GLUE."""

import csv
import json

import pytest
from transformers import BartConfig

from tests.support.in_process import glue
from tests.support.tiny import TEACHER_LABELS, tiny_bart

pytestmark = pytest.mark.xdist_group("own files")

SHARED = ("--use_cpu", "--disable_tqdm", "--report_to", "none", "--save_strategy", "no", "--learning_rate", 3e-3)
LABELS = ("Entailment", "Contradiction")  # two of the teacher's three, in capitals
TEXTS = ("the cat sees", "not a bird")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Own pairs in three formats, and four runs on them."""
    root = tmp_path_factory.mktemp("own")
    tiny_bart(root / "teacher")
    rows = [(f'the "dog", {i}', TEXTS[i % 2], LABELS[i % 2]) for i in range(24)]
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("premise", "hypothesis", "label"), *rows])
    lines = ["label\thypothesis\tpremise", *(f"{label}\t{b}\t{a}" for a, b, label in rows)]
    (root / "validation.tsv").write_text("\n".join(lines))
    records = [json.dumps({"premise": a, "hypothesis": b}) + "\n" for a, b, _ in rows]
    (root / "test.jsonl").write_text("".join(records))
    files = {"train": "train.csv", "validation": "validation.tsv", "test": "test.jsonl"}

    def words(out, model, *kinds):
        given = [*SHARED, "--model_name_or_path", root / model, "--output_dir", root / out]
        for kind in kinds:
            stage = {"train": "--do_train", "validation": "--do_eval", "test": "--do_predict"}[kind]
            given += [stage, f"--{kind}_file", root / files[kind]]
        return given

    assert glue(*words("kept", "teacher", *files), "--num_train_epochs", 6) == 0
    assert glue(*words("new", "teacher", *files), "--reinit_classifier", "--num_train_epochs", 6) == 0
    assert glue(*words("only-test", "kept", "test")) == 0
    return root


def predictions(root, out):
    lines = (root / out / "predictions.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    return [line.split("\t")[1].lower() for line in lines[1:]]


def test_a_model_that_knows_the_labels_keeps_its_head_and_their_names(root):
    config = BartConfig.from_pretrained(root / "kept")
    assert config.id2label == dict(enumerate(TEACHER_LABELS))


def test_a_new_head_has_the_labels_of_the_data_sorted(root):
    config = BartConfig.from_pretrained(root / "new")
    assert config.id2label == {0: "Contradiction", 1: "Entailment"}


@pytest.mark.parametrize("out", ["kept", "new"])
def test_the_labels_are_learned_and_predicted_for_the_test_file(root, out):
    scores = dict(line.split(" = ") for line in (root / out / "eval_results_validation.txt").read_text().splitlines())
    assert scores["eval_samples"] == "24"
    assert float(scores["eval_accuracy"]) > 0.9
    right = sum(word == LABELS[i % 2].lower() for i, word in enumerate(predictions(root, out)))
    assert right == pytest.approx(24 * float(scores["eval_accuracy"]))


def test_a_test_file_alone_takes_its_label_names_from_the_model(root):
    assert predictions(root, "only-test") == predictions(root, "kept")
