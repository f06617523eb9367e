"""Two spellings of one label are not two classes, and a class without a training row is said.

apple/turicreate#1531: "Stilettos " and "Stilettos". apple/turicreate#1946: a label that only the validation set has.
"""

import pytest

from distilbart_mnli.data.splits import get_task
from tests.support.own_files import own_files, read, refusal


def rows(*labels) -> str:
    return "text,label\n" + "".join(f"t,{label}\n" for label in labels)


def test_spaces_around_a_label_are_no_part_of_it(tmp_path):
    args = own_files(tmp_path, train=rows("good ", "good", " bad"), validation=rows("good", "bad  "))
    assert get_task(args).label_names == ("bad", "good")
    train, evaluation, _ = read(args)
    assert train.labels.tolist() == [1, 1, 0] and evaluation.labels.tolist() == [1, 0]


@pytest.mark.parametrize("other", ["Good", "GOOD", "\uff47ood"])
def test_labels_that_differ_only_in_case_or_width_are_refused_with_both_places(tmp_path, other):
    message = refusal(own_files(tmp_path, train=rows("good", "bad"), validation=rows("bad", other)))
    assert "validation.csv, line 3" in message and "train.csv, line 2" in message


def test_a_label_that_only_the_validation_file_has_is_a_warning(tmp_path, caplog):
    args = own_files(tmp_path, train=rows("x", "y"), validation=rows("x", "z", "z"))
    assert get_task(args).label_names == ("x", "y", "z")
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "'z'" in record.getMessage() and "2 rows" in record.getMessage()
