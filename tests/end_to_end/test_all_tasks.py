"""Each of GLUE's tasks is trained, evaluated and predicted by run_glue's own code, on files with GLUE's layout.

All runs start from one three-way NLI model, so every other task gets a new head by --reinit_classifier.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import BartConfig, BartForSequenceClassification

from tests.support.glue_files import LABEL_NAMES, LAYOUTS, ONE_SET_EACH, write_task
from tests.support.in_process import glue
from tests.support.tiny import GLUE_LABELS, TEACHER_LABELS, tiny_bart

# The fixture trains nine models: on one worker, once.
pytestmark = pytest.mark.xdist_group("tasks")

ROWS = 40
TRAINED = [*ONE_SET_EACH, "mnli"]
TEST_FILE = {"mnli": "test_matched.tsv", "ax": "diagnostic.tsv"}
SUBMISSION = {
    "cola": "CoLA",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "stsb": "STS-B",
    "qqp": "QQP",
    "mnli": "MNLI-m",
    "qnli": "QNLI",
    "rte": "RTE",
    "wnli": "WNLI",
    "ax": "AX",
}


def flags(model: Path, task: str, data: Path, out: Path, *more: object) -> list[object]:
    return [
        *("--model_name_or_path", model, "--task_name", task, "--data_dir", data, "--output_dir", out),
        *("--max_seq_length", 64, "--use_cpu", "--disable_tqdm", "--report_to", "none", "--fp16", "false"),
        *("--per_device_train_batch_size", 8, "--learning_rate", 3e-3, "--save_strategy", "no", *more),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Folders out-<task> of all runs."""
    root = tmp_path_factory.mktemp("tasks")
    tiny_bart(root / "teacher")
    for name in TRAINED:
        data = write_task(root / name, name, rows=ROWS)
        more = ("--do_train", "--do_eval", "--do_predict", "--reinit_classifier", "--num_train_epochs", 12)
        assert glue(*flags(root / "teacher", name, data, root / f"out-{name}", *more)) == 0
    data = write_task(root / "ax", "ax", rows=ROWS)
    assert glue(*flags(root / "out-mnli", "ax", data, root / "out-ax", "--do_eval", "--do_predict")) == 0
    return root


def results(root: Path, name: str) -> dict[str, float]:
    return results_in(root / f"out-{name}" / f"eval_results_{name}.txt")


def results_in(path: Path) -> dict[str, float]:
    return {key: float(value) for key, value in (line.split(" = ") for line in path.read_text().splitlines())}


def predictions(root: Path, name: str) -> tuple[list[str], list[str]]:
    """The columns label and prediction of eval_predictions."""
    lines = (root / f"out-{name}" / f"eval_predictions_{name}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    assert lines[0].split("\t")[:3] == ["index", "label", "prediction"]
    assert [row[0] for row in rows] == [str(i) for i in range(ROWS)]
    return [row[1] for row in rows], [row[2] for row in rows]


@pytest.mark.parametrize("name", [*TRAINED, "ax"])
def test_the_scores_are_those_of_the_written_predictions_against_the_file_s_labels(root, name):
    labels, predicted = predictions(root, name)
    scores = results(root, name)
    assert scores["eval_samples"] == ROWS
    if name == "stsb":
        truth, values = np.array(labels, float), np.array(predicted, float)
        np.testing.assert_array_equal(truth, np.resize([0.0, 2.5, 5.0], ROWS))
        assert scores["eval_pearson"] == pytest.approx(stats.pearsonr(truth, values).statistic, abs=1e-6)
        assert scores["eval_spearmanr"] == pytest.approx(stats.spearmanr(truth, values).statistic, abs=1e-6)
        return
    names = LABEL_NAMES[name]
    assert labels == [names[i % len(names)] for i in range(ROWS)]
    if name in ("cola", "ax"):
        assert scores["eval_matthews_correlation"] == pytest.approx(matthews_corrcoef(labels, predicted))
    if name != "cola":
        assert scores["eval_accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    if name in ("mrpc", "qqp"):
        assert scores["eval_f1"] == pytest.approx(f1_score(labels, predicted, pos_label=names[1]))


@pytest.mark.parametrize("name", TRAINED)
def test_the_labels_are_learned_which_they_are_not_where_rows_or_columns_are_mixed_up(root, name):
    key = {"stsb": "eval_pearson", "cola": "eval_matthews_correlation"}.get(name, "eval_accuracy")
    assert results(root, name)[key] > {"stsb": 0.5, "mnli": 0.6}.get(name, 0.9)


@pytest.mark.parametrize("name", [*TRAINED, "ax"])
def test_the_submission_file_says_what_the_evaluation_says_of_the_same_texts(root, name):
    # The generated evaluation and test files hold the same texts, so the predictions must be the same, in file labels.
    _, predicted = predictions(root, name)
    lines = (root / f"out-{name}" / f"{SUBMISSION[name]}.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    submitted = [line.split("\t")[1] for line in lines[1:]]
    if name == "stsb":
        np.testing.assert_allclose(np.array(submitted, float), np.clip(np.array(predicted, float), 0, 5), atol=1e-6)
        return
    labelled = next(file for file, (_, _, labels) in LAYOUTS[name].items() if labels)
    in_file = dict(zip(LABEL_NAMES[name], LAYOUTS[name][labelled][2], strict=True))
    assert submitted == [in_file[word] for word in predicted]


@pytest.mark.parametrize("name", ["rte", "stsb", "mnli"])
def test_a_new_head_carries_the_task_s_labels_and_the_old_one_stays_where_it_fits(root, name):
    config = BartConfig.from_pretrained(root / f"out-{name}")
    names = {"rte": ("entailment", "not_entailment"), "stsb": ("LABEL_0",), "mnli": TEACHER_LABELS}[name]
    assert config.id2label == dict(enumerate(names))
    assert config.num_labels == len(names)
    model = BartForSequenceClassification.from_pretrained(root / f"out-{name}")
    assert model.classification_head.out_proj.weight.shape[0] == len(names)


def test_a_head_of_other_labels_is_refused_and_nothing_is_written(root, capsys):
    out = root / "refused"
    assert glue(*flags(root / "teacher", "rte", root / "rte", out, "--do_train")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert all(label in line for label in TEACHER_LABELS) and "--reinit_classifier true" in line
    assert not out.exists()


def test_a_model_with_another_label_order_predicts_the_same_file(root):
    # The same weights with the head's rows turned round: a swap anywhere would change the file.
    model = BartForSequenceClassification.from_pretrained(root / "out-mnli")
    order = [TEACHER_LABELS.index(name) for name in GLUE_LABELS]
    head = model.classification_head.out_proj
    head.weight.data, head.bias.data = head.weight.data[order], head.bias.data[order]
    model.config.id2label = dict(enumerate(GLUE_LABELS))
    model.config.label2id = {name: index for index, name in enumerate(GLUE_LABELS)}
    model.save_pretrained(root / "turned")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (root / "turned" / file).write_bytes((root / "out-mnli" / file).read_bytes())
    words = flags(root / "turned", "mnli", root / "mnli", root / "out-turned", "--do_predict", "--do_eval")
    assert glue(*words) == 0
    for file in ("MNLI-m.tsv", "MNLI-mm.tsv"):
        text = (root / "out-turned" / file).read_text()
        assert text == (root / "out-mnli" / file).read_text()
        assert len({line.split("\t")[1] for line in text.splitlines()[1:]}) == 3
    assert results(root, "mnli") == pytest.approx(results_in(root / "out-turned/eval_results_mnli.txt"), rel=1e-6)


@pytest.mark.real_data
@pytest.mark.skipif("DISTILBART_REAL_DATA" not in os.environ, reason="DISTILBART_REAL_DATA is unset")
def test_a_predict_run_on_real_mnli_equals_eval_predictions_line_by_line(tmp_path):
    real = Path(os.environ["DISTILBART_REAL_DATA"])
    for kind in ("matched", "mismatched"):
        lines = (real / "glue_data" / "MNLI" / f"dev_{kind}.tsv").read_bytes().split(b"\n")[:301]
        (tmp_path / f"dev_{kind}.tsv").write_bytes(b"\n".join(lines))
        # As GLUE ships test files: the ten columns before the labels.
        (tmp_path / f"test_{kind}.tsv").write_bytes(b"\n".join(b"\t".join(line.split(b"\t")[:10]) for line in lines))
    model = real / "models" / "minibart-mnli-6-6"
    words = flags(model, "MNLI", tmp_path, tmp_path / "out", "--do_eval", "--do_predict")
    assert glue(*words, "--per_device_eval_batch_size", 32, "--max_seq_length", 128) == 0
    for evaluated, submitted in (("mnli", "MNLI-m"), ("mnli-mm", "MNLI-mm")):
        rows = (tmp_path / "out" / f"eval_predictions_{evaluated}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        expected = ["index\tprediction", *("\t".join(row.split("\t")[:3:2]) for row in rows)]
        assert (tmp_path / "out" / f"{submitted}.tsv").read_text().splitlines() == expected
        assert len(expected) == 301
