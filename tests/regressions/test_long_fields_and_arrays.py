"""Files that are sound and were refused: a very long text in CSV, JSON as one array.

pytorch/text#549: "field larger than field limit (131072)". huggingface/datasets#1784: one reader wants JSON lines, the
next one an array. huggingface/datasets#8241: a byte-order mark changes what is read of JSON lines.
"""

import json

import pandas
import pytest

from tests.support.own_files import own_files, read, refusal

LONG = 'a "quoted", ' * 30_000


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_text_of_any_length_is_read(tmp_path, suffix):
    frame = pandas.DataFrame({"text": [LONG, "b"], "label": ["x", "y"]})
    args = own_files(tmp_path, train=frame.to_csv(index=False, sep="," if suffix == ".csv" else "\t"), suffix=suffix)
    assert len(LONG) > 131_072 and read(args)[0].sentence1 == [LONG, "b"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_array_of_records_is_read(tmp_path, suffix, indent):
    records = [{"text": "a\u2028", "label": 1}, {"text": "[", "label": 0}]
    args = own_files(tmp_path, train="\ufeff\n " + json.dumps(records, indent=indent), suffix=suffix)
    train, _, _ = read(args)
    assert train.sentence1 == ["a\u2028", "["] and train.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".csv", "text,label\n\na,x\n  \nb,y\n\n"),
        (".tsv", "\ufefftext\tlabel\r\n\r\na\tx\r\n \r\nb\ty"),
        (".jsonl", '\ufeff{"text": "a", "label": "x"}\n \n\n{"text": "b", "label": "y"}'),
    ],
)
def test_blank_lines_and_a_byte_order_mark_are_no_fault(tmp_path, suffix, content):
    train, _, _ = read(own_files(tmp_path, train=content, suffix=suffix))
    assert train.sentence1 == ["a", "b"] and list(train.index) == [0, 1]


@pytest.mark.parametrize(
    "content", ["[]", "[1]", '[{"text": "a"}', '{"text": ["a", "b"], "label": ["x", "y"]}', '{\n"text": "a"\n}\n']
)
def test_json_of_another_shape_is_refused(tmp_path, content):
    assert "train.json, " in refusal(own_files(tmp_path, train=content, suffix=".json"))
