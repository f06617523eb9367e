"""Whatever bytes a data file holds, reading it ends in rows or in an InputError of one line: nothing else, ever."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilbart_mnli.data.splits import get_task, load_test, load_train
from distilbart_mnli.data.tables import read_columns
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import Arguments

HEADER = b"index\tsentence1\tsentence2\tlabel\n"
# Pieces that a reader could stumble over, in any order, between any bytes.
PIECES = [b"\t", b"\n", b"\r", b"\r\n", b'"', b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3", "\u2028\x85".encode()]
PIECES += [
    b"entailment",
    b"not_entailment",
    b"-1",
    b"sentence1",
    b"label",
    b"a",
    b"0.5",
    b"{",
    b"}",
    b":",
    b",",
    b"[" * 50,
]
soup = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=40).map(b"".join)
pytestmark = pytest.mark.slow
many = settings(max_examples=300, deadline=None, database=None, derandomize=True)


def outcome(read) -> object:
    """What `read` returns, or None if it refused in one line."""
    try:
        return read()
    except InputError as error:
        assert "\n" not in str(error)
        return None


def check(split) -> None:
    for text in [*split.sentence1, *(split.sentence2 or [])]:
        assert isinstance(text, str)
        text.encode("utf-8")
    assert len(split.sentence1) == len(split.index) > 0
    assert split.labels is None or len(split.labels) == len(split)


@many
@given(content=soup, header=st.booleans(), skip=st.booleans(), limit=st.none() | st.integers(1, 3))
def test_any_bytes_in_a_tsv_file_of_any_task(content, header, skip, limit):
    with tempfile.TemporaryDirectory() as folder:
        for file in ("train.tsv", "test.tsv"):
            (Path(folder) / file).write_bytes(HEADER * header + content)
        for name in ("rte", "cola", "stsb"):
            args = Arguments(task_name=name, data_dir=folder, skip_bad_rows=skip, max_train_samples=limit)
            split = outcome(lambda args=args: load_train(args, get_task(args)))
            if split is not None:
                check(split)
                assert split.labels is not None
                assert limit is None or len(split) <= limit
            for split in outcome(lambda args=args: load_test(args, get_task(args))) or []:
                check(split)


@many
@given(content=soup, suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]), skip=st.booleans())
def test_any_bytes_in_a_file_of_one_s_own(content, suffix, skip):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"train{suffix}"
        start = {".csv": b"text,label\n", ".tsv": b"text\tlabel\n", ".jsonl": b'{"text": "a", "label": "x"}\n'}
        file.write_bytes(start[suffix] + content)
        args = Arguments(train_file=str(file), do_train=True, skip_bad_rows=skip)
        split = outcome(lambda: load_train(args, get_task(args)))
        if split is not None:
            check(split)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)


@many
@given(records=st.lists(st.dictionaries(st.sampled_from(["text", "label", "x"]), json_values), min_size=1, max_size=5))
def test_any_json_value_in_any_place_of_json_lines(records):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        args = Arguments(train_file=str(file))
        split = outcome(lambda: load_train(args, get_task(args)))
        if split is not None:
            check(split)
            # Only texts, numbers and true or false pass for text; what was text is unchanged.
            for text, record in zip(split.sentence1, records, strict=True):
                assert isinstance(record["text"], str | int | float)
                assert not isinstance(record["text"], str) or text == record["text"]


texts = st.text(st.characters(exclude_characters="\t\n", exclude_categories=["Cs"]), max_size=20)


@many
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=10), ending=st.sampled_from(["\n", "\r\n"]))
def test_every_text_without_tab_and_line_feed_comes_back_as_it_was_written(pairs, ending):
    with tempfile.TemporaryDirectory() as folder:
        lines = ["sentence1\tsentence2\tlabel", *(f"{a}\t{b}\tentailment" for a, b in pairs)]
        (Path(folder) / "train.tsv").write_bytes(ending.join(lines).encode("utf-8"))
        args = Arguments(task_name="rte", data_dir=folder)
        split = load_train(args, get_task(args))
        assert list(zip(split.sentence1, split.sentence2, strict=True)) == pairs
        np.testing.assert_array_equal(split.labels, np.zeros(len(pairs)))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"text": ' + "9" * 5000 + "}", '{"text": "\\ud800"}', "null"])
def test_json_that_breaks_parsers_is_refused(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"a\.jsonl, line 1"):
        read_columns(tmp_path / "a.jsonl", {"sentence1": ["text"]})


def test_a_csv_field_beyond_the_csv_module_s_limit_is_a_text_like_any_other(tmp_path):
    (tmp_path / "a.csv").write_text("text\na\n" + "b" * 200_000 + "\n")
    assert read_columns(tmp_path / "a.csv", {"sentence1": ["text"]}).values["sentence1"] == ["a", "b" * 200_000]
