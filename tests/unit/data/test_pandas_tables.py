"""Whatever texts pandas writes, as CSV, TSV, JSON lines or a JSON array, are read as the strings they were."""

import tempfile
from pathlib import Path

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distilbart_mnli.data.tables import read_columns

many = settings(max_examples=50, deadline=None, database=None, derandomize=True)
# What a reader stumbles over, often; anything else that is text, sometimes.
AWKWARD = ['"', '""', ",", "\t", "\n", "\r\n", "\r", " ", "'", "\\", "nan", "None", "NA", "null", "1.0", "\u2028", "#"]
texts = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=3), min_size=1, max_size=5).map("".join).filter(bool)
tables = st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=6)
WRITERS = {
    "a.csv": lambda frame, path: frame.to_csv(path, index=False),
    "b.csv": lambda frame, path: frame.to_csv(path),  # with the column of row numbers that has no name
    "c.tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "d.txt": lambda frame, path: frame.to_csv(path, index=False, sep="\t", quoting=1),
    "e.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "f.json": lambda frame, path: frame.to_json(path, orient="records", lines=True, force_ascii=False),
    "g.json": lambda frame, path: frame.to_json(path, orient="records", indent=2),
}


def table(rows) -> pandas.DataFrame:
    frame = pandas.DataFrame(rows, columns=["premise", "hypothesis", "label"])
    # Something last: a carriage return at a row's end, which pandas does not quote, is a part of CRLF for everyone.
    return frame.assign(last="x")


@pytest.mark.parametrize("name", WRITERS)
@many
@example(rows=[('He said "hello"', "a\rb", "x"), ("\ufeff", '"', "\t")])
@given(rows=tables)
def test_texts_come_back_as_pandas_had_them(name, rows):
    frame = table(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        WRITERS[name](frame, path)
        found = read_columns(path, {column: (column,) for column in frame})
    assert {column: found.values[column] for column in frame} == frame.to_dict("list")
