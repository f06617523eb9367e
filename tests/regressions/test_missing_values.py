"""Every format has its own ways to say "nothing"; none of them is a text, and no word is one of them.

huggingface/datasets#4467: the word "null" in a transcript became None. pandas-dev/pandas#10205: an empty field becomes
NaN, whose text is "nan".
"""

import pandas
import pytest

from tests.support.own_files import own_files, read, refusal

NOTHING = {  # how a row says that its text, or its label, is missing; after two rows that are whole
    ".csv": ("text,label\na,x\nb,y\n", [",x\n", "c,\n", '"",x\n', "c\n"]),
    ".tsv": ("text\tlabel\na\tx\nb\ty\n", ["\tx\n", "c\t\n", "c\n"]),
    ".jsonl": (
        '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n',
        [
            *('{"text": null, "label": "x"}\n', '{"text": NaN, "label": "x"}\n', '{"label": "x"}\n'),
            *('{"text": "c", "label": null}\n', '{"text": "c", "label": NaN}\n', '{"text": "c"}\n'),
            *('{"text": Infinity, "label": "x"}\n', '{"text": 1e999, "label": "x"}\n', '{"text": "c", "label": ""}\n'),
        ],
    ),
}
CASES = [(suffix, whole, row) for suffix, (whole, rows) in NOTHING.items() for row in rows]


@pytest.mark.parametrize(("suffix", "whole", "row"), CASES)
def test_nothing_is_refused_with_its_line_and_dropped_if_asked(tmp_path, suffix, whole, row):
    line = whole.count("\n") + 1
    assert f"line {line}: " in refusal(own_files(tmp_path, train=whole + row, suffix=suffix))
    if '""}' in row:
        return  # an empty string in JSON is a text, only no class
    train, _, _ = read(own_files(tmp_path, train=whole + row + whole.splitlines(True)[-1], suffix=suffix, **SKIP))
    assert train.sentence1 == ["a", "b", "b"] and list(train.index) == [0, 1, 3]


SKIP = {"skip_bad_rows": True}


def test_words_that_look_like_nothing_are_texts_and_an_empty_string_of_json_is_one(tmp_path):
    words = ["nan", "NaN", "None", "NA", "N/A", "null", "NULL", "<NA>", "-", "0"]
    frame = pandas.DataFrame({"text": words, "label": ["x", "y"] * 5})
    for suffix, content in ((".csv", frame.to_csv(index=False)), (".tsv", frame.to_csv(index=False, sep="\t"))):
        train, _, _ = read(own_files(tmp_path, train=content, suffix=suffix))
        assert train.sentence1 == words
    frame["text"] = ["", *words[1:]]
    train, _, _ = read(own_files(tmp_path, train=frame.to_json(orient="records", lines=True), suffix=".jsonl"))
    assert train.sentence1 == ["", *words[1:]]


def test_what_pandas_writes_for_a_missing_value_is_nothing(tmp_path):
    frame = pandas.DataFrame({"text": ["a", None, "c", float("nan")], "label": ["x", "y", "y", "x"]})
    by_format = {
        ".csv": frame.to_csv(index=False),
        ".tsv": frame.to_csv(index=False, sep="\t"),
        ".jsonl": frame.to_json(orient="records", lines=True),
        ".json": frame.to_json(orient="records"),
    }
    for suffix, content in by_format.items():
        assert "no text in text" in refusal(own_files(tmp_path, train=content, suffix=suffix))
        train, _, _ = read(own_files(tmp_path, train=content, suffix=suffix, **SKIP))
        assert train.sentence1 == frame.dropna()["text"].tolist()
