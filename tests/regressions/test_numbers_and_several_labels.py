"""Labels that are numbers, and several labels a text.

huggingface/transformers#12822: 0, 1 and 2 of MNLI mean one thing in the data set and another in the model.
EducationalTestingService/skll#436: labels 2 and 2.0. huggingface/setfit#337: a list of labels for one text.
"""

import pandas
import pytest

from distilbart_mnli.data.splits import get_task
from tests.support.own_files import label_words, own_files, read, refusal
from tests.support.tiny import tiny_config

NUMBERS = "premise,hypothesis,label\na,b,0\nc,d,1\ne,f,2\n"


def model(folder, labels) -> str:
    tiny_config(labels=labels).save_pretrained(folder)
    return str(folder)


def test_a_column_that_pandas_made_floats_in_one_file_has_the_same_classes(tmp_path):
    # A missing value anywhere makes pandas write the whole column with decimals.
    train = pandas.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 2]}).to_csv(index=False)
    validation = pandas.DataFrame({"text": ["d", "e", "f"], "label": [2.0, None, 0.0]}).to_csv(index=False)
    args = own_files(tmp_path, train=train, validation=validation, ignore_label="")
    train, evaluation, _ = read(args)
    assert get_task(args).label_names == ("0", "1", "2")
    assert evaluation.labels.tolist() == [2, 0] and evaluation.sentence1 == ["d", "f"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["1", "2", "10"], ("1", "2", "10")),
        (["1.0", "2.0", "1"], ("1", "2")),
        (["01", "02", "10"], ("01", "02", "10")),
        (["01", "1", "2"], ("1", "2")),
        (["-1", "1", "-1.0"], ("-1", "1")),
        (["1e3", "a1", "a1"], ("1e3", "a1")),
    ],
)
def test_numbers_are_one_class_by_their_value_and_keep_their_spelling(tmp_path, labels, names):
    content = "text,label\n" + "".join(f"t,{label}\n" for label in labels)
    args = own_files(tmp_path, train=content)
    train, _, _ = read(args)
    assert get_task(args).label_names == names
    if names[0] != "1e3":
        assert [float(word) for word in label_words(args, train)] == [float(label) for label in labels]


@pytest.mark.parametrize(("data", "of_model"), [(("01", "00"), ("0", "1")), (("1", "0.0"), ("00", "01"))])
def test_numbers_of_data_and_model_are_matched_by_value(tmp_path, data, of_model):
    content = "text,label\n" + "".join(f"t,{label}\n" for label in data)
    args = own_files(tmp_path, train=content, model_name_or_path=model(tmp_path / "model", of_model))
    assert get_task(args).label_names == of_model
    assert read(args)[0].labels.tolist() == [1, 0]


def test_numbers_where_the_model_has_names_are_refused_with_the_map(tmp_path):
    teacher = model(tmp_path / "model", ("contradiction", "neutral", "entailment"))
    message = refusal(own_files(tmp_path, train=NUMBERS, model_name_or_path=teacher))
    assert "0: 'entailment', 1: 'neutral', 2: 'contradiction'" in message and "reinit_classifier" in message


def test_numbers_fit_a_model_with_numbers_and_a_new_head(tmp_path):
    args = own_files(tmp_path, train=NUMBERS, model_name_or_path=model(tmp_path / "model", ("2", "0", "1")))
    assert get_task(args).label_names == ("2", "0", "1")
    teacher = model(tmp_path / "teacher", ("contradiction", "neutral", "entailment"))
    args = own_files(tmp_path, train=NUMBERS, model_name_or_path=teacher, reinit_classifier=True)
    assert get_task(args).label_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("suffix", "content", "line"),
    [
        (".jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": ["x", "y"]}\n', 2),
        (".jsonl", '{"text": "a", "label": [1]}\n{"text": "b", "label": [0]}\n', 1),
        (".csv", "text,label\na,x\nb,\"['x', 'y']\"\n", 3),
        (".csv", 'text,label\na,x\nb,y\nc,"x, y"\n', 4),
        (".csv", "text,label\na,x\nb,x|y\nc,y\n", 3),
        (".tsv", "text\tlabel\na\t1\nb\t2\nc\t1;2\n", 4),
    ],
)
def test_several_labels_a_text_are_refused_with_the_row(tmp_path, suffix, content, line):
    message = refusal(own_files(tmp_path, train=content, suffix=suffix))
    assert f"line {line}: several" in message and "label" in message


@pytest.mark.parametrize("name", ["black, white", "and/or", "x|y", "(a)", "a;b"])
def test_a_name_with_a_separator_in_it_is_a_name(tmp_path, name):
    frame = pandas.DataFrame({"text": ["a", "b"], "label": [name, "x"]})
    assert set(get_task(own_files(tmp_path, train=frame.to_csv(index=False))).label_names) == {name, "x"}
