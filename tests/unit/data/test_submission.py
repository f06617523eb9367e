"""Submission files hold the data set's labels for the right rows, whatever the model's label order, and zip to an
archive with GLUE's names."""

import hashlib
import sys
import zipfile

import numpy as np
import pytest

from distilbart_mnli.data.labels import match_labels
from distilbart_mnli.data.splits import Split, get_task, load_test
from distilbart_mnli.data.submission import main, write_submission, zip_submission
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError, RunError, run_command
from distilbart_mnli.model.predict import to_task_predictions
from tests.support.glue_files import ONE_SET_EACH, glue_args, write_task
from tests.support.tiny import GLUE_LABELS, ROOT, TEACHER_LABELS

GLUE_FILES = {
    *("AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv", "QQP.tsv", "RTE.tsv", "SST-2.tsv"),
    *("STS-B.tsv", "WNLI.tsv"),
}
WRITTEN = {
    **dict.fromkeys(("cola", "sst2", "mrpc", "qqp", "wnli"), ("0", "1")),
    **dict.fromkeys(("qnli", "rte"), ("entailment", "not_entailment")),
    "stsb": ("0.000000", "1.000000"),
    "mnli": ("entailment", "neutral"),
    "ax": ("entailment", "neutral"),
}


def predicted_sets(folder, name):
    args = glue_args(name, write_task(folder / name, name, rows=2))
    return load_test(args, get_task(args))


@pytest.mark.parametrize("name", [*ONE_SET_EACH, "mnli", "ax"])
def test_every_task_writes_its_file_with_the_labels_of_its_data(tmp_path, name):
    predictions = np.array([0.0, 1.0]) if name == "stsb" else np.array([0, 1])
    for split in predicted_sets(tmp_path, name):
        path = write_submission(tmp_path / "out", TASKS[name], split, predictions)
        assert path.name in GLUE_FILES
        first, second = WRITTEN[name]
        assert path.read_text() == f"index\tprediction\n0\t{first}\n1\t{second}\n"


@pytest.mark.parametrize("names", [GLUE_LABELS, TEACHER_LABELS])
def test_a_model_with_the_reverse_label_order_writes_the_same_file(tmp_path, names):
    meant = ["contradiction", "entailment", "neutral", "contradiction"]
    logits = np.array([[float(name == word) for name in names] for word in meant], np.float32)
    label_map = match_labels(TASKS["mnli"], dict(enumerate(names)), "model")
    split = Split("mnli", ["a"] * 4, ["b"] * 4, None, "test", submission="MNLI-m")
    predictions = to_task_predictions(logits, TASKS["mnli"], label_map)
    lines = write_submission(tmp_path, TASKS["mnli"], split, predictions).read_text().splitlines()
    assert [line.split("\t")[1] for line in lines[1:]] == meant


def test_scores_are_clipped_to_the_range_of_the_task_and_must_be_finite(tmp_path):
    split = Split("stsb", ["a"] * 3, ["b"] * 3, None, "test", submission="STS-B")
    path = write_submission(tmp_path, TASKS["stsb"], split, np.array([-0.3, 2.25, 7.0], np.float32))
    assert path.read_text() == "index\tprediction\n0\t0.000000\n1\t2.250000\n2\t5.000000\n"
    with pytest.raises(RunError, match="not finite"):
        write_submission(tmp_path, TASKS["stsb"], split, np.array([0.0, np.nan, 1.0]))
    assert path.read_text().startswith("index\tprediction\n0\t0.0")


def test_rows_that_were_dropped_keep_their_numbers_free(tmp_path):
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n0\ta\tb\n1\tbad\n2\tc\td\n")
    args = glue_args("rte", tmp_path, skip_bad_rows=True)
    (split,) = load_test(args, TASKS["rte"])
    path = write_submission(tmp_path, TASKS["rte"], split, np.array([1, 0]))
    assert path.read_text() == "index\tprediction\n0\tnot_entailment\n2\tentailment\n"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    split = Split("rte", ["a"], ["b"], None, "test", submission="RTE")
    with pytest.raises(RunError, match=r"RTE.tsv could not be written"):
        write_submission(tmp_path / "file", TASKS["rte"], split, np.array([1]))


def all_files(folder):
    for name in [*ONE_SET_EACH, "mnli", "ax"]:
        for split in predicted_sets(folder / "data", name):
            write_submission(folder / "out", TASKS[name], split, np.zeros(2, np.int64))
    return folder / "out"


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["submission", *map(str, arguments)])
        return run_command(main), *capsys.readouterr()

    return run


def test_the_command_zips_every_file_and_says_what_the_server_would_refuse(command, tmp_path):
    out = all_files(tmp_path)
    (out / "eval_predictions_mnli.tsv").write_text("not for submission\n")
    code, stdout, stderr = command(out)
    assert (code, stdout) == (0, f"{out / 'submission.zip'}\n")
    assert "MNLI-m.tsv has 2 rows, GLUE's test set 9,796" in stderr
    assert "missing" not in stderr
    with zipfile.ZipFile(out / "submission.zip") as archive:
        assert set(archive.namelist()) == GLUE_FILES
        assert archive.read("WNLI.tsv") == b"index\tprediction\n0\t0\n1\t0\n"


def test_several_folders_make_one_archive_with_the_same_bytes_each_time(tmp_path):
    out = all_files(tmp_path)
    (tmp_path / "other").mkdir()
    (out / "RTE.tsv").rename(tmp_path / "other" / "RTE.tsv")
    digests = set()
    for name in ("a.zip", "b.zip"):
        assert not any("missing" in remark for remark in zip_submission([out, tmp_path / "other"], tmp_path / name))
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    assert zip_submission([tmp_path / "other"], tmp_path / "c.zip")[-1].startswith("missing: AX.tsv, CoLA.tsv")
    (tmp_path / "other" / "QQP.tsv").write_bytes((out / "QQP.tsv").read_bytes())
    with pytest.raises(InputError, match=r"QQP.tsv is in .*out and in .*other"):
        zip_submission([out, tmp_path / "other"], tmp_path / "d.zip")
    assert not (tmp_path / "d.zip").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index\tprediction\n0\tneutral\n", "line 2: expected entailment, not_entailment, found 'neutral'"),
        ("index\tprediction\n1\tentailment\n", "line 2: expected row 0, found '1'"),
        ("0\tentailment\n", "line 1: expected the header"),
        ("index\tprediction\n0\tentailment", "line feed at the end"),
    ],
)
def test_a_file_that_is_no_submission_is_refused_with_its_line_and_no_archive_is_left(
    tmp_path, command, content, message
):
    (tmp_path / "RTE.tsv").write_text(content)
    code, _, errors = command(tmp_path)
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["RTE.tsv"]


@pytest.mark.parametrize("arguments", [["nowhere"], [], ["--bogus"], [str(ROOT)]])
def test_bad_arguments_end_with_one_line_and_code_2(command, arguments):
    code, output, errors = command(*arguments)
    assert (code, errors.count("\n"), output) == (2, 1, "")
