"""Rows without a gold label carry a mark, which would be a class of its own.

huggingface/datasets#296 and #2275: SNLI's -1 (a "-" in its own files), which nobody expected among 0, 1 and 2.
"""

import pytest

from compare_models import read_arguments
from distilbart_mnli.compare.compare import CompareOptions, compare_models
from distilbart_mnli.data.splits import get_task, load_evaluation, load_train
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.read import parse_arguments
from tests.support.glue_files import glue_args, write_task
from tests.support.own_files import label_words, own_files, read, refusal
from tests.support.tiny import tiny_bart, tiny_config, tiny_mnli


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def rows(labels) -> str:
    return "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels))


@pytest.mark.parametrize("mark", ["-1", "-", "-100", "?", "None", "nan"])
def test_a_mark_among_classes_is_a_warning_that_names_it_and_its_rows(tmp_path, caplog, mark):
    args = own_files(tmp_path, train=rows(["0", mark, "2", "1", mark]))
    assert mark in get_task(args).label_names
    (warning,) = warnings(caplog)
    assert repr(mark) in warning and "2 rows (line 3, line 6)" in warning and "--ignore_label" in warning


@pytest.mark.parametrize("labels", [("-1", "1"), ("entailment", "neutral"), ("negative", "none of these")])
def test_classes_that_are_no_marks_are_no_warning(tmp_path, caplog, labels):
    get_task(own_files(tmp_path, train=rows(labels)))
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("mark", "given"), [("-1", "-1"), ("-1.0", "-1"), ("-", "-"), ("", ""), ("None", "None"), ("x y", " x y")]
)
def test_ignore_label_leaves_the_rows_out_and_counts_them(tmp_path, caplog, mark, given):
    caplog.set_level("INFO")
    labels = ["0", mark, "2", "1", mark]
    args = own_files(tmp_path, train=rows(labels), validation=rows(labels), test=rows(labels), ignore_label=given)
    train, evaluation, test = read(args)
    assert get_task(args).label_names == ("0", "1", "2")
    for split in (train, evaluation):
        assert label_words(args, split) == ["0", "2", "1"]
        assert split.sentence1 == ["text 0", "text 2", "text 3"] and list(split.index) == [0, 2, 3]
    assert len(test) == 5  # they can be predicted
    assert "left out 2 rows" in caplog.text and not warnings(caplog)


def test_a_mark_where_the_model_has_names_is_refused_with_the_way_out(tmp_path):
    tiny_config().save_pretrained(tmp_path / "model")
    args = own_files(tmp_path, train=rows(["neutral", "entailment", "-"]), model_name_or_path=str(tmp_path / "model"))
    assert "--ignore_label - " in refusal(args)
    args.ignore_label = "-"
    assert read(args)[0].sentence1 == ["text 0", "text 1"]


def test_a_value_that_no_row_has_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    read(own_files(tmp_path, train=rows("xy"), ignore_label="?"))
    assert "left out 0 rows with the label '?'" in caplog.text


def test_a_row_that_is_left_out_needs_no_text_and_does_not_count_for_a_limit(tmp_path):
    args = own_files(tmp_path, train="text,label\n,-\na,x\n,-\nb,y\nc,x\n", ignore_label="-", max_train_samples=2)
    train, _, _ = read(args)
    assert train.sentence1 == ["a", "b"]


def test_all_rows_left_out_is_said(tmp_path):
    args = own_files(tmp_path, train=rows("xy"), validation=rows("--"), ignore_label="-")
    assert "validation.csv: no rows left, 2 without a label" in refusal(args)


def test_mnli_s_and_snli_s_own_mark_in_glue_s_files(tmp_path):
    folder = write_task(tmp_path, "mnli", rows=6)
    for name in ("train.tsv", "dev_matched.tsv"):
        lines = (folder / name).read_text().splitlines()
        lines[2] = lines[2].rpartition("\t")[0] + "\t-"
        (folder / name).write_text("\n".join(lines) + "\n")
    args = glue_args("mnli", folder)
    with pytest.raises(InputError, match=r"line 3: .*found '-' in gold_label; --ignore_label - "):
        load_train(args, get_task(args))
    args = glue_args("mnli", folder, ignore_label="-")
    train, (matched, mismatched) = load_train(args, get_task(args)), load_evaluation(args, get_task(args))
    for split in (train, matched):
        assert split.labels.tolist() == [0, 2, 0, 1, 2] and list(split.index) == [0, 2, 3, 4, 5]
    assert len(mismatched) == 6


def test_models_are_compared_without_rows_that_have_no_label(tmp_path):
    tiny_bart(tmp_path / "model")
    folder = tiny_mnli(tmp_path / "data", matched=9)
    lines = (folder / "dev_matched.tsv").read_text().splitlines()
    lines[4] = lines[4].rpartition("\t")[0] + "\t-"
    (folder / "dev_matched.tsv").write_text("\n".join([*lines, "bad"]) + "\n")
    words = [str(tmp_path / "model"), "--data_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--no_speed"]
    options = vars(read_arguments([*words, "--skip_bad_rows", "--ignore_label", "-"]))
    assert compare_models(CompareOptions(**options)).rows[0]["rows_matched"] == 8


@pytest.mark.parametrize("value", ["-1", "-", "", "none", "null", "?"])
def test_any_value_can_be_given_as_a_flag_and_in_a_file(tmp_path, value):
    words = ["--task_name", "MNLI", "--do_train", "--model_name_or_path", "m", "--output_dir", str(tmp_path / "o")]
    assert parse_arguments([*words, "--ignore_label", value]).ignore_label == value
    (tmp_path / "a.yaml").write_text(f"ignore_label: {value!r}\n")
    assert parse_arguments([str(tmp_path / "a.yaml"), *words]).ignore_label == value


def test_a_number_in_a_file_of_options_is_the_word(tmp_path):
    (tmp_path / "a.json").write_text('{"ignore_label": -1, "output_dir": "o", "push_to_hub": true}')
    assert parse_arguments([str(tmp_path / "a.json")]).ignore_label == "-1"
