"""One bad row does not lose the others, and what is dropped is said.

nyu-mll/jiant#1082: rows that do not fit are skipped without a word. ludwig-ai/ludwig#201: the wish to skip them, and
to hear how many they were.
"""

import logging

import pandas
import pytest

from distilbart_mnli.data.splits import get_task
from tests.support.in_process import glue
from tests.support.own_files import own_files, read, refusal
from tests.support.tiny import tiny_bart

SKIP = {"skip_bad_rows": True}


def dropped(caplog) -> list[int]:
    """Levels of the lines that say how many rows were dropped."""
    return [record.levelno for record in caplog.records if "dropped" in record.getMessage()]


@pytest.mark.parametrize("skip", [False, True])
def test_a_row_may_end_before_a_column_that_nobody_asked_for(tmp_path, skip):
    content = "text,label,comment,source\n" + "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(23))
    train, _, _ = read(own_files(tmp_path, train=content + "last,x,well,web\n", skip_bad_rows=skip))
    assert len(train) == 24


def test_a_row_that_ends_before_a_wanted_column_is_bad(tmp_path):
    content = "comment,text,label\n,a,x\n,b,y\nno,c\n"
    assert "line 4: 2 fields, expected 3" in refusal(own_files(tmp_path, train=content))
    train, _, _ = read(own_files(tmp_path, train=content, **SKIP))
    assert train.sentence1 == ["a", "b"]


@pytest.mark.parametrize(
    ("suffix", "bad", "lines"),
    [
        (".csv", '"c" d,x\n', 1),
        (".csv", '"c, d,x\n', 1),  # never closed: the rows after it are whole
        (".csv", '"c\nd" e,x\n', 2),
        (".csv", "c,x,more\n", 1),
        (".tsv", '"c" d\tx\n', 1),
        (".tsv", '"c\tx\n', 1),
        (".jsonl", '{"text": "c", "label": }\n', 1),
        (".jsonl", '["c", "x"]\n', 1),
        (".jsonl", "c,x\n", 1),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_syntax_error_is_a_bad_row(tmp_path, caplog, suffix, bad, lines, place):
    caplog.set_level("INFO")
    header, row = {
        ".csv": ("text,label\n", "{},{}\n"),
        ".tsv": ("text\tlabel\n", "{}\t{}\n"),
        ".jsonl": ("", '{{"text": "{}", "label": "{}"}}\n'),
    }[suffix]
    rows = [row.format(text, label) for text, label in ("ax", "by", "fx", "gy")]
    content = header + "".join([*rows[:place], bad, *rows[place:]])
    if (suffix, bad[0], place) == (".jsonl", "[", 0):
        return  # then the file is an array
    assert f"line {place + 2 - (not header)}: not" in refusal(own_files(tmp_path, train=content, suffix=suffix)) or (
        "3 fields, expected 2" in refusal(own_files(tmp_path, train=content, suffix=suffix))
    )
    train, _, _ = read(own_files(tmp_path, train=content, suffix=suffix, **SKIP))
    assert train.sentence1 == ["a", "b", "f", "g"]
    assert f"dropped {lines} bad rows" in caplog.text


def test_a_class_that_only_dropped_rows_have_is_no_class(tmp_path):
    args = own_files(tmp_path, train="text,label\na,x\nb,y\n,z\n", **SKIP)
    assert get_task(args).label_names == ("x", "y")


def test_predictions_of_an_evaluation_set_name_the_rows_of_its_file(tmp_path):
    tiny_bart(tmp_path / "model")
    validation = "premise,hypothesis,label\na,b,neutral\nbad\nc,d,-\ne,f,entailment\n"
    args = own_files(tmp_path, validation=validation)
    words = ("--do_eval", "--validation_file", args.validation_file, "--skip_bad_rows", "--ignore_label", "-")
    out = tmp_path / "out"
    assert glue("--use_cpu", "--model_name_or_path", tmp_path / "model", "--output_dir", out, *words) == 0
    written = pandas.read_csv(out / "eval_predictions_validation.tsv", sep="\t")
    assert written["index"].tolist() == [0, 3] and written["label"].tolist() == ["neutral", "entailment"]


@pytest.mark.parametrize(("bad", "level"), [(1, logging.INFO), (2, logging.WARNING)])
def test_more_than_five_in_a_hundred_is_a_warning(tmp_path, caplog, bad, level):
    caplog.set_level("INFO")
    good = "".join(f"text {i},{'xy'[i % 2]}\n" for i in range(21 - bad))
    train, _, _ = read(own_files(tmp_path, train="text,label\n" + good + "bad\n" * bad, **SKIP))
    assert len(train) == 21 - bad and set(dropped(caplog)) == {level}


def test_lines_that_a_quote_swallowed_are_counted(tmp_path, caplog):
    content = 'text,label\na,x\n"b,y\nc,x\nd,y\n"e" f,x\ng,y\n'
    train, _, _ = read(own_files(tmp_path, train=content, **SKIP))
    assert train.sentence1 == ["a", "g"] and "dropped 4 bad rows (line 3)" in caplog.text
