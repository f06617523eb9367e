"""TSV that pandas wrote has CSV's quoting: read without it, texts keep doubled quotes, or rows are lost.

huggingface/datasets#821: a quote in kor_nli's TSV, read with the other rule than it was written with, swallows the
rows after it.
"""

import pandas
import pytest

from distilbart_mnli.data.splits import get_task, load_train
from tests.support.glue_files import glue_args
from tests.support.own_files import own_files, read, refusal

TEXTS = ['He said "hello"', '"Quoted" at the start', "a\ttab", "two\nlines", "plain"]


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".csv"])
def test_texts_with_quotes_are_what_pandas_wrote(tmp_path, suffix):
    frame = pandas.DataFrame({"text": TEXTS, "label": list("xyxyx")})
    args = own_files(tmp_path, train=frame.to_csv(index=False, sep="," if suffix == ".csv" else "\t"), suffix=suffix)
    train, _, _ = read(args)
    assert train.sentence1 == TEXTS


def test_a_quote_that_stands_alone_is_named_with_its_line(tmp_path):
    assert "train.tsv, line 3: " in refusal(own_files(tmp_path, 'text\tlabel\na\tx\n"b" c\ty\n', suffix=".tsv"))
    assert "train.tsv, line 2: " in refusal(own_files(tmp_path, 'text\tlabel\n"b\tx\nc\ty\n', suffix=".tsv"))


def test_glue_s_own_files_have_no_quoting(tmp_path):
    rows = '0\t"open\tHe said ""x""\tentailment\n1\t"a"\tb"\tnot_entailment\n'
    (tmp_path / "train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + rows)
    args = glue_args("rte", tmp_path)
    split = load_train(args, get_task(args))
    assert split.sentence1 == ['"open', '"a"'] and split.sentence2 == ['He said ""x""', 'b"']
