"""The user's own CSV, TSV and JSON lines files become splits with labels from the data or from the model."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distilbart_mnli.data.labels import adopt_model_labels, match_labels
from distilbart_mnli.data.splits import get_task, load_evaluation, load_test, load_train
from distilbart_mnli.data.tables import read_columns
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments

MNLI = TASKS["mnli"]


def own(tmp_path, content: str, suffix: str = ".csv", **more) -> Arguments:
    file = tmp_path / f"train{suffix}"
    file.write_text(content, encoding="utf-8")
    return Arguments(train_file=str(file), do_train=True, **more)


def test_own_csv_pairs_with_quotes_and_line_feeds_in_the_text(tmp_path):
    args = own(tmp_path, 'premise,hypothesis,label\r\n"a, ""b""\nc",d,yes\r\n\r\ne,f,no\r\n')
    task = get_task(args)
    train = load_train(args, task)
    assert task.label_names == ("no", "yes")
    assert (train.sentence1, train.sentence2) == (['a, "b"\nc', "e"], ["d", "f"])
    np.testing.assert_array_equal(train.labels, [1, 0])


def test_own_tsv_has_csv_s_quoting(tmp_path):
    args = own(tmp_path, 'text\tlabel\n"He said ""hi""\tand"\tx\nb "c"\ty\n', ".tsv")
    train = load_train(args, get_task(args))
    assert (train.sentence1, train.sentence2) == (['He said "hi"\tand', 'b "c"'], None)


def test_own_json_lines_with_numbers_for_labels_sort_them_by_value(tmp_path):
    lines = "".join(f'{{"q": "text {n}", "r": "other", "y": {n}}}\n' for n in (10, 9, 100, 9))
    args = own(tmp_path, lines, ".jsonl", sentence1_key="q", sentence2_key="r", label_key="y")
    task = get_task(args)
    assert task.label_names == ("9", "10", "100")
    np.testing.assert_array_equal(load_train(args, task).labels, [1, 0, 2, 0])


def test_own_evaluation_and_test_files_are_read_with_the_same_labels(tmp_path):
    args = own(tmp_path, "sentence,label\na,x\nb,z\n")
    for name, content in (("validation", "sentence,label\nc,y\n"), ("test", "label,sentence\n,d\n")):
        (tmp_path / f"{name}.csv").write_text(content)
        setattr(args, f"{name}_file", str(tmp_path / f"{name}.csv"))
    task = get_task(args)
    assert task.label_names == ("x", "y", "z")
    (evaluation,), (test,) = load_evaluation(args, task), load_test(args, task)
    np.testing.assert_array_equal(evaluation.labels, [1])
    assert (test.sentence1, test.labels) == (["d"], None)


def test_a_second_text_that_one_file_lacks_is_missed(tmp_path):
    args = own(tmp_path, "sentence1,sentence2,label\na,b,x\nc,d,y\n")
    args.test_file = str(tmp_path / "test.csv")
    Path(args.test_file).write_text("sentence1,label\na,x\n")
    with pytest.raises(InputError, match=r"test.csv: no column sentence2"):
        load_test(args, get_task(args))


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [
        ("text,label\na,0.5\nb,1.5\n", ".csv", "line 2: expected the name of a class in label, found '0.5'"),
        ("text,label\na,\nb,x\n", ".csv", "line 2: no text in label"),
        ("text,label\na,x\nb,x\n", ".csv", "only one label, x"),
        ("text,label\na\n", ".csv", "line 2: 1 fields, expected 2"),
        ('text,label\n"a,x\nb,y\n', ".csv", "line 2: not CSV"),
        ('text,label\nc,z\n"a" b,x\n', ".csv", "line 3: not CSV"),
        ("text,label\ra,x\rb,y\r", ".csv", "lines end at carriage returns alone"),
        ("body,label\na,x\nb,y\n", ".csv", "no column sentence1 or premise or text or sentence (for sentence1)"),
        ('{"text": "a"\n', ".jsonl", "line 1: not a JSON object"),
        ("[1]\n", ".jsonl", "record 1: not a JSON object"),
        ('[{"text": "a"}\n,\n', ".json", "line 3: not JSON"),
        ("{}\n", ".jsonl", "line 1: an object without keys"),
        ('{"text": "a", "label": "x"}\n{"text": "b"}\n', ".jsonl", "line 2: no text in label"),
        ('{"text": "a", "label": ["x"]}\n', ".jsonl", "line 1: several values in label"),
        ('{"text": "\\ud800", "label": "x"}\n', ".jsonl", "line 1: not a JSON object"),
        ("text,label\na,x\n", ".xlsx", "unknown kind of file"),
    ],
)
def test_a_faulty_own_file_is_named_with_its_line(tmp_path, content, suffix, message):
    args = own(tmp_path, content, suffix)
    with pytest.raises(InputError) as caught:
        load_train(args, get_task(args))
    assert message in str(caught.value)
    assert "train" + suffix in str(caught.value)


def test_a_missing_own_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv: no such file"):
        get_task(Arguments(validation_file=str(tmp_path / "nowhere.csv")))


def test_own_data_with_fewer_labels_than_the_model_takes_the_model_s(tmp_path):
    args = own(tmp_path, "premise,hypothesis,label\na,b,Neutral\nc,d,Entailment\n")
    task = get_task(args)
    teacher = {0: "contradiction", 1: "neutral", 2: "entailment"}
    adopted = adopt_model_labels(task, teacher)
    assert [name.lower() for name in adopted.label_names] == ["contradiction", "neutral", "entailment"]
    np.testing.assert_array_equal(load_train(args, adopted).labels, [1, 2])
    np.testing.assert_array_equal(match_labels(adopted, teacher, "model"), [0, 1, 2])
    assert adopt_model_labels(MNLI, teacher) is MNLI
    other = dataclasses.replace(task, label_names=("yes", "no"))
    assert adopt_model_labels(other, teacher) is other


def test_an_own_test_file_without_labels_takes_the_model_s(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"text": "a"}\n')
    args = Arguments(test_file=str(tmp_path / "test.jsonl"))
    task = get_task(args)
    assert task.label_names == ()
    assert adopt_model_labels(task, {0: "no", 1: "yes"}).label_names == ("no", "yes")
    assert load_test(args, task)[0].labels is None


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, None])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_first_rows_of_what_was_read_are_those_that_a_limit_reads(tmp_path, kind, limit):
    """With a bad row and one without a label before, among and after them."""
    values = [("a", "x"), (None, "x"), ("b", "y"), ("c", "-"), ("d", "x"), ("e", None), ("f", "y")]
    path = tmp_path / f"train.{kind}"
    frame = pd.DataFrame(values, columns=["text", "label"])
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_json(path, orient="records", lines=True)
    wanted = {"sentence1": ("text",), "label": ("label",)}
    how = {"skip_bad_rows": True, "ignore_label": "-"}
    assert read_columns(path, wanted, **how).first(limit) == read_columns(path, wanted, **how, limit=limit)


def test_each_file_that_has_labels_is_read_once(tmp_path, monkeypatch):
    files = {}
    for name in ("train", "validation"):
        files[f"{name}_file"] = str(tmp_path / f"{name}.csv")
        pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}).to_csv(files[f"{name}_file"], index=False)
    args = Arguments(**files)
    task = get_task(args)
    for file in files.values():
        Path(file).unlink()
    assert load_train(args, task).sentence1 == load_evaluation(args, task)[0].sentence1 == ["a", "b"]
