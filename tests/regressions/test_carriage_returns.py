"""A carriage return inside a text is text; where it ends all lines, that is said.

pandas-dev/pandas#10018 and #22678: what to_csv writes, read_csv takes for two rows. huggingface/datasets#713.
"""

import pytest

from tests.support.own_files import own_files, read, refusal


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("text", ["a\rb", "a\r", "\ra", '"a\rb"', '"a\r\nb"', '"a\r"'])
def test_a_carriage_return_in_a_text_is_text(tmp_path, text, end):
    train, _, _ = read(own_files(tmp_path, train=end.join(["text,label,n", f"{text},x,1", "b,y,2", ""])))
    assert train.sentence1 == [text.strip('"'), "b"]


def test_lines_that_end_at_carriage_returns_alone_are_refused(tmp_path):
    assert "carriage returns" in refusal(own_files(tmp_path, train="text,label\ra,x\rb,y\r"))
