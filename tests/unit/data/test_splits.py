"""Every GLUE task is read as its files really are, and every fault in a file is named with its file and line.

The layouts of the files (tests/support/glue_files.py) are written out independently of the product's table.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from distilbart_mnli.data.labels import match_labels
from distilbart_mnli.data.splits import get_task, load_evaluation, load_test, load_train
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError
from tests.support.glue_files import LABEL_NAMES, LAYOUTS, ONE_SET_EACH, glue_args, write_task


def load(folder: Path, task_name: str, what=load_train, **more):
    args = glue_args(task_name, folder, **more)
    return what(args, get_task(args))


def rte_file(folder: Path, content: bytes, name: str = "train.tsv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


RTE = b"index\tsentence1\tsentence2\tlabel\n"


# --- names


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        *(("MNLI", "mnli"), ("mnli", "mnli"), ("mnli-mm", "mnli-mm"), ("MNLI_mismatched", "mnli-mm")),
        *(("SST-2", "sst2"), ("sst2", "sst2"), ("Sst_2", "sst2"), ("STS-B", "stsb"), ("stsb", "stsb")),
        *(("CoLA", "cola"), ("MRPC", "mrpc"), ("qqp", "qqp"), ("QNLI", "qnli"), ("rte", "rte"), ("WNLI", "wnli")),
        *(("AX", "ax"), ("diagnostic", "ax")),
    ],
)
def test_a_task_is_known_by_every_spelling_of_its_name(spelling, name):
    assert get_task(glue_args(spelling)).name == name


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"unknown task MNIL.*did you mean mnli"):
        get_task(glue_args("MNIL"))


# --- the files of every task


@pytest.mark.parametrize("name", ONE_SET_EACH)
def test_texts_and_labels_of_every_task_come_from_the_right_columns(tmp_path, name):
    write_task(tmp_path, name, rows=5)
    task = get_task(glue_args(name, tmp_path))
    train, (evaluation,), (test,) = (load(tmp_path, name, what) for what in (load_train, load_evaluation, load_test))
    pairs = "{b}" in LAYOUTS[name]["train.tsv"][1]
    assert task.label_names == LABEL_NAMES[name]
    assert (train.name, evaluation.name, test.name) == ("train", name, name)
    for split in (train, evaluation):
        if pairs:
            assert split.sentence1[3] == 'the "small dog 3'
            assert split.sentence2[3].endswith("in the garden 3")
        else:
            assert split.sentence1[3].rstrip(" ").endswith('in the garden 3 the "small dog 3')
            assert split.sentence2 is None
        expected = np.array([0.0, 2.5, 5.0, 0.0, 2.5], np.float32) if name == "stsb" else np.arange(5) % 2
        assert split.labels.dtype == (np.float32 if name == "stsb" else np.int64)
        np.testing.assert_array_equal(split.labels, expected)
    assert test.labels is None
    assert len(test) == 5
    assert (test.sentence2 is not None) == pairs


def test_mnli_has_two_evaluation_sets_and_gold_label_is_the_label(tmp_path):
    write_task(tmp_path / "MNLI", "mnli", rows=6)
    matched, mismatched = load(tmp_path / "MNLI", "mnli", load_evaluation)
    assert (matched.name, mismatched.name) == ("mnli", "mnli-mm")
    for split in (matched, mismatched):
        np.testing.assert_array_equal(split.labels, [0, 1, 2, 0, 1, 2])  # label1 is neutral in every row
    test = load(tmp_path / "MNLI", "mnli", load_test)
    assert [split.name for split in test] == ["mnli", "mnli-mm"]
    files = [Path(split.source).name for split in (matched, mismatched, *test)]
    assert files == ["dev_matched.tsv", "dev_mismatched.tsv", "test_matched.tsv", "test_mismatched.tsv"]


def test_mnli_predicts_the_diagnostic_set_too_where_its_file_lies_beside(tmp_path):
    write_task(tmp_path / "MNLI", "mnli")
    write_task(tmp_path / "AX", "ax", rows=7)
    splits = load(tmp_path / "MNLI", "mnli", load_test)
    assert [split.submission for split in splits] == ["MNLI-m", "MNLI-mm", "AX"]
    assert len(splits[2]) == 7


def test_mnli_mm_trains_on_mnli_and_evaluates_the_mismatched_set_alone(tmp_path):
    write_task(tmp_path, "mnli")
    assert len(load(tmp_path, "mnli-mm")) == 12
    assert [split.name for split in load(tmp_path, "mnli-mm", load_evaluation)] == ["mnli-mm"]
    assert [split.submission for split in load(tmp_path, "mnli-mm", load_test)] == ["MNLI-mm"]


def test_the_diagnostic_set_is_predicted_and_evaluated_but_not_trained_on(tmp_path):
    write_task(tmp_path, "ax", rows=6)
    (evaluation,), (test,) = load(tmp_path, "ax", load_evaluation), load(tmp_path, "ax", load_test)
    np.testing.assert_array_equal(evaluation.labels, [0, 1, 2, 0, 1, 2])
    assert evaluation.sentence1 == test.sentence1
    with pytest.raises(InputError, match="no training set; train on MNLI"):
        load(tmp_path, "ax")


def test_mrpc_is_read_as_microsoft_published_it(tmp_path):
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n".encode()
    for kind in ("train", "test"):
        rows = b'1\t1\t2\tHe said "yes\tSo he did .\r\n0\t3\t4\tA\tB\r\n'
        (tmp_path / f"msr_paraphrase_{kind}.txt").write_bytes(header + rows)
    for split in (
        load(tmp_path, "mrpc"),
        *load(tmp_path, "mrpc", load_evaluation),
        *load(tmp_path, "mrpc", load_test),
    ):
        assert split.sentence1 == ['He said "yes', "A"]
        assert split.sentence2 == ["So he did .", "B"]
        np.testing.assert_array_equal(split.labels, [1, 0])


def test_limits_take_the_first_examples(tmp_path):
    write_task(tmp_path, "rte")
    limits = {"max_train_samples": 5, "max_eval_samples": 4, "max_predict_samples": 3}
    for what, rows in ((load_train, 5), (load_evaluation, 4), (load_test, 3)):
        split, whole = load(tmp_path, "rte", what, **limits), load(tmp_path, "rte", what)
        split, whole = (split, whole) if what is load_train else (split[0], whole[0])
        assert split.sentence1 == whole.sentence1[:rows]
        assert len(whole) == 12


# --- TSV as it is in the wild


@pytest.mark.parametrize(
    "content",
    [
        RTE + b"0\ta\tb\tentailment\n1\tc\td\tnot_entailment",
        RTE + b"\n0\ta\tb\tentailment\n\n\n1\tc\td\tnot_entailment\n\n",
        (RTE + b"0\ta\tb\tentailment\n\n1\tc\td\tnot_entailment\n").replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + RTE + b"0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n",
        b"label\tsentence2\tx\tsentence1\nentailment\tb\t\ta\nnot_entailment\td\t\tc\n",
        RTE + b"0\ta\tb\tentailment\t\t\n1\tc\td\tnot_entailment\n",
    ],
    ids=["no final newline", "blank lines", "CRLF", "byte-order mark", "columns in another order", "trailing tabs"],
)
def test_files_of_every_habit_give_the_same_rows(tmp_path, content):
    split = load(rte_file(tmp_path, content), "rte")
    assert (split.sentence1, split.sentence2) == (["a", "c"], ["b", "d"])
    np.testing.assert_array_equal(split.labels, [0, 1])


@pytest.mark.parametrize(
    "text", ['"', '""a"', '"open', "a\rb", "a\u2028b", "a\x85b", "a\x0bb\x0c", "a\0b", "é 漢 🙂", ""]
)
def test_text_is_text_whatever_is_in_it(tmp_path, text):
    rows = f"0\t{text}\tb\tentailment\n1\tc\t{text}\tnot_entailment\n"
    split = load(rte_file(tmp_path, RTE + rows.encode()), "rte")
    assert (split.sentence1, split.sentence2) == ([text, "c"], ["b", text])


def refusal(tmp_path, content: bytes | None, what=load_train, task="rte", name="train.tsv", **more) -> str:
    """The message for a file with this content."""
    if content is not None:
        rte_file(tmp_path, content, name)
    with pytest.raises(InputError) as caught:
        load(tmp_path, task, what, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_row_with_too_few_fields_is_named_with_file_line_and_counts(tmp_path):
    message = refusal(tmp_path, RTE + b"0\ta\tb\tentailment\n\n1\tc\n")
    assert f"{tmp_path / 'train.tsv'}, line 4: 2 fields, expected 4" in message
    assert "skip_bad_rows" in message


def test_a_row_with_too_many_fields_is_refused_because_a_column_would_have_moved(tmp_path):
    # The tab in the first text moves label1 into gold_label's place: read by position it would pass unnoticed.
    write_task(tmp_path, "mnli", rows=3)
    file = tmp_path / "train.tsv"
    file.write_text(file.read_text().replace("dog 1", "dog\t1", 1))
    assert "line 3: 13 fields, expected 12" in refusal(tmp_path, None, task="mnli")


def test_skip_bad_rows_drops_them_says_how_many_and_keeps_the_row_numbers(tmp_path, caplog):
    content = (
        RTE + b"0\ta\tb\tentailment\n1\tc\n2\te\tf\tnot_entailment\n3\tg\th\ti\tentailment\n4\tj\tk\tentailment\n"
    )
    split = load(rte_file(tmp_path, content), "rte", skip_bad_rows=True)
    assert split.sentence1 == ["a", "e", "j"]
    np.testing.assert_array_equal(split.index, [0, 2, 4])
    assert "dropped 2 bad rows (line 3, line 5)" in caplog.text
    message = refusal(tmp_path, RTE + b"0\n1\n", skip_bad_rows=True)
    assert "no rows left, 2 bad ones dropped" in message


def test_an_unknown_label_is_named_with_line_and_known_labels(tmp_path):
    message = refusal(tmp_path, RTE + b"0\ta\tb\tentailment\n1\tc\td\tneutral\n")
    assert "train.tsv, line 3: expected entailment, not_entailment, found 'neutral' in label" in message


def test_a_gold_label_of_no_agreement_is_an_unknown_label(tmp_path):
    write_task(tmp_path, "mnli", rows=3)
    file = tmp_path / "dev_matched.tsv"
    file.write_text(file.read_text().replace("contradiction", "-"))
    message = refusal(tmp_path, None, load_evaluation, "mnli")
    assert "dev_matched.tsv, line 4: " in message and "found '-' in gold_label" in message


@pytest.mark.parametrize("score", ["", "high", "nan", "inf", "5.01", "-0.1"])
def test_a_score_that_is_no_number_from_0_to_5_is_refused(tmp_path, score):
    content = f"sentence1\tsentence2\tscore\na\tb\t5\nc\td\t{score}\n".encode()
    assert "line 3: expected a score from 0 to 5" in refusal(tmp_path, content, task="stsb")


def test_a_missing_column_is_refused_with_the_columns_found(tmp_path):
    message = refusal(tmp_path, b"index\tsentence1\tpremise\tlabel\n0\ta\tb\tentailment\n")
    assert "no column sentence2" in message
    assert "found index, sentence1, premise, label" in message


def test_a_column_that_stands_twice_is_refused(tmp_path):
    message = refusal(tmp_path, b"sentence1\tsentence2\tsentence1\tlabel\na\tb\tc\tentailment\n")
    assert "sentence1 stands twice" in message


@pytest.mark.parametrize("content", [b"", b"\n\n", RTE, RTE + b"\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_split_is_refused(tmp_path, content):
    message = refusal(tmp_path, content)
    assert "no rows" in message or "empty" in message


def test_invalid_utf8_is_named_with_line_and_byte(tmp_path):
    message = refusal(tmp_path, RTE + b"0\ta\tb\tentailment\n1\tcaf\xe9\td\tentailment\n")
    assert "train.tsv, line 3: byte 6 of the line (0xe9) is not UTF-8" in message
    assert "line 1: byte 1 of the line (0xff)" in refusal(tmp_path, "index\tlabel\n".encode("utf-16"))


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    folder = tmp_path / "my data" / "MNLI"
    message = refusal(folder, None, task="mnli")
    assert f"{folder / 'train.tsv'}: no such file" in message
    assert f"python download_glue_data.py --data_dir '{tmp_path / 'my data'}' --tasks MNLI" in message


def test_a_data_dir_one_level_too_high_is_recognised(tmp_path):
    write_task(tmp_path / "MNLI", "mnli")
    assert f"give --data_dir {tmp_path / 'MNLI'}" in refusal(tmp_path, None, task="mnli")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "train.tsv").mkdir()
    assert "train.tsv: cannot be read: Is a directory" in refusal(tmp_path, None)


# --- labels of model and task

MNLI = TASKS["mnli"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("contradiction", "neutral", "entailment"), [2, 1, 0]),  # facebook/bart-large-mnli
        (("entailment", "neutral", "contradiction"), [0, 1, 2]),
        (("CONTRADICTION", "ENTAILMENT", "NEUTRAL"), [1, 2, 0]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2]),
    ],
)
def test_labels_are_matched_by_name(names, expected):
    np.testing.assert_array_equal(match_labels(MNLI, dict(enumerate(names)), "model"), expected)


def test_labels_named_as_in_the_files_match():
    np.testing.assert_array_equal(match_labels(TASKS["cola"], {0: "1", 1: "0"}, "model"), [1, 0])


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("rte", ("contradiction", "neutral", "entailment")),
        ("mnli", ("entailment", "not_entailment")),
        ("mnli", ("contradiction", "neutral", "entails")),
        ("mnli", ("neutral", "neutral", "entailment")),
        ("mnli", ("LABEL_0", "LABEL_1")),
        ("mnli", ("LABEL_2", "LABEL_1", "LABEL_0")),
        ("stsb", ("contradiction", "neutral", "entailment")),
    ],
)
def test_a_head_of_other_labels_is_refused_with_the_way_out(task, names):
    with pytest.raises(InputError, match=r"some/model: .*--reinit_classifier true"):
        match_labels(TASKS[task], dict(enumerate(names)), "some/model", "; give --reinit_classifier true")


def test_regression_has_no_label_map():
    assert match_labels(TASKS["stsb"], {0: "LABEL_0"}, "model") is None


# --- real MNLI


@pytest.mark.real_data
@pytest.mark.skipif("DISTILBART_REAL_DATA" not in os.environ, reason="DISTILBART_REAL_DATA is unset")
def test_real_mnli_keeps_every_row_and_its_quotes():
    folder = Path(os.environ["DISTILBART_REAL_DATA"]) / "glue_data" / "MNLI"
    train, (matched, mismatched) = load(folder, "mnli"), load(folder, "mnli", load_evaluation)
    for split, file in ((train, "train.tsv"), (matched, "dev_matched.tsv"), (mismatched, "dev_mismatched.tsv")):
        assert len(split) == (folder / file).read_bytes().count(b"\n") - 1
    assert any(text.count('"') % 2 for text in train.sentence1)
    assert len(matched) == 9815
