"""JSON whose first record is not like the others: no record stands for all.

huggingface/datasets#7092: a schema made of what comes first misreads the rest. huggingface/datasets#7169: records
without a column that others have.
"""

import itertools
import json

import pytest

from tests.support.own_files import own_files, read, refusal

PAIR = {"premise": "a", "hypothesis": "b", "label": "x"}
OTHER = {"premise": "c", "hypothesis": "d", "label": "y"}


def written(records, as_array: bool) -> str:
    lines = [json.dumps(record) for record in records]
    return "[" + ",\n".join(lines) + "]" if as_array else "\n".join(lines)


@pytest.mark.parametrize("as_array", [False, True])
@pytest.mark.parametrize("column", PAIR)
def test_a_record_without_a_column_is_refused_wherever_it_stands(tmp_path, column, as_array):
    without = {key: value for key, value in PAIR.items() if key != column}
    for order in itertools.permutations([without, PAIR, OTHER]):
        args = own_files(tmp_path, train=written(order, as_array), suffix=".json" if as_array else ".jsonl")
        place = f"{'record' if as_array else 'line'} {order.index(without) + 1}"
        assert f"{place}: no text in {column}" in refusal(args)


@pytest.mark.parametrize("order", [1, -1])
def test_a_column_that_only_some_records_have_may_be_another_s(tmp_path, order):
    records = [PAIR, {**OTHER, "source": "web"}][::order]
    train, _, _ = read(own_files(tmp_path, train=written(records, False), suffix=".jsonl"))
    assert sorted(zip(train.sentence1, train.sentence2, strict=True)) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("column", "values"), [("label", (1, "1")), ("label", (True, "x")), ("premise", ("a", 4)), ("label", (1, True))]
)
def test_a_column_of_two_types_is_refused_in_any_order(tmp_path, column, values, order):
    records = [{**PAIR, column: values[0]}, {**OTHER, column: values[1]}][::order]
    message = refusal(own_files(tmp_path, train=written(records, False), suffix=".jsonl"))
    assert f"column {column} " in message and "line 1" in message and "line 2" in message


@pytest.mark.parametrize("first", ["train", "validation"])
def test_a_second_text_that_only_one_of_the_files_has_is_missed_in_the_other(tmp_path, first):
    pairs, single = "premise,hypothesis,label\na,b,x\nc,d,y\n", "premise,label\na,x\nc,y\n"
    contents = {"train": pairs, "validation": single} if first == "train" else {"train": single, "validation": pairs}
    assert "no column hypothesis" in refusal(own_files(tmp_path, **contents))


def test_a_column_that_all_files_have_wins_over_one_that_some_have(tmp_path):
    args = own_files(tmp_path, train="text,label\na,x\nb,y\n", validation="sentence1,text,label\n1,c,x\n2,d,y\n")
    train, evaluation, _ = read(args)
    assert (train.sentence1, evaluation.sentence1) == (["a", "b"], ["c", "d"])


def test_files_may_call_their_columns_otherwise(tmp_path):
    args = own_files(tmp_path, train="text,label\na,x\nb,y\n", validation="sentence1,label\nc,x\nd,y\n")
    train, evaluation, _ = read(args)
    assert (train.sentence1, evaluation.sentence1) == (["a", "b"], ["c", "d"])


def test_numbers_with_and_without_decimals_are_one_type_and_one_class(tmp_path):
    lines = written([{**PAIR, "label": 1}, {**OTHER, "label": 1.0}, {**OTHER, "label": 0}], False)
    train, _, _ = read(own_files(tmp_path, train=lines, suffix=".jsonl"))
    assert train.labels.tolist() == [1, 1, 0]
