"""The quickstart comes out alike: three seeds of data and weights, and both float32 products.

References: scikit-learn's accuracy on the predictions that each run wrote; the issue of every answer is the text's own
topic. The bounds stand in examples/quickstart/seeds.py for a reader, and here again for the test.
"""

import json

import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

from distilbart_mnli.errors import InputError, RunError
from examples.quickstart import quickstart, seeds
from tests.support.in_process import as_in_a_new_process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("quickstart")]
STUDENTS = ("student-2-1", "student-2-2")


def accuracy(folder, name):
    """Percent of a run's own predictions, on each set."""
    tables = [pd.read_csv(folder / name / f"eval_predictions_{split}.tsv", sep="\t") for split in ("mnli", "mnli-mm")]
    assert [len(table) for table in tables] == [600, 600]
    return [100 * accuracy_score(table["label"], table["prediction"]) for table in tables]


def check_bounds(folder):
    teacher = accuracy(folder, "teacher")
    assert min(teacher) >= 95
    for of_teacher, of_copy in zip(teacher, accuracy(folder, "student-2-1-copied"), strict=True):
        assert of_copy <= of_teacher - 10
    for student in STUDENTS:
        assert accuracy(folder, student) == pytest.approx(teacher, abs=2.0)


def test_the_story_as_it_is_told(tmp_path, capsys):
    folder = tmp_path / "quickstart"
    with as_in_a_new_process("quickstart.py", "--output_dir", folder):
        quickstart.main()
    check_bounds(folder)
    told = capsys.readouterr()
    for text, topic in (("Ann sells violins at dawn", "music"), ("Today Tom buys pizza", "cooking")):
        assert any(text in line and topic in line and "wrong" not in line for line in told.out.splitlines())
    assert "Loading" not in told.out + told.err
    sheet = json.loads((folder / "sheet" / "tradeoffs.json").read_text())["models"]
    assert [row["model"] for row in sheet] == ["teacher", "student-2-1-copied", *STUDENTS]
    for row in sheet:
        found = [100 * row["accuracy_matched"], 100 * row["accuracy_mismatched"]]
        assert found == pytest.approx(
            accuracy(folder, row["model"]), abs=0.2
        )  # other batches: a tie may fall the other way
    with Image.open(folder / "sheet" / "tradeoffs.png") as picture:
        assert picture.width > 400
    commands = [line for line in told.out.splitlines() if line.startswith("$ python ")]
    assert len(commands) == 9 and sum(" run_glue.py " in line for line in commands) == 5


@pytest.mark.parametrize(("product", "seed"), [("MKL", 1), ("oneDNN", 2)])
def test_the_bounds_hold_with_other_seeds_and_either_product(tmp_path, product, seed):
    with as_in_a_new_process():
        outcome = seeds.outcome(tmp_path / "run", product, seed)
    check_bounds(tmp_path / "run")
    assert outcome.faults() == [] and outcome.right == 10


def outcome(**scores):
    good = {"teacher": (99.0, 98.0), "student-2-1-copied": (60.0, 60.0), **dict.fromkeys(STUDENTS, (98.0, 98.0))}
    named = {name.replace("_", "-"): values for name, values in scores.items()}
    return seeds.Outcome("MKL", 0, {**good, **named}, 10, 1.0)


@pytest.mark.parametrize(
    ("scores", "count"),
    [
        ({}, 0),
        ({"teacher": (94.9, 98.0), "student_2_1": (94.0, 98.0), "student_2_2": (95.0, 98.0)}, 1),
        ({"student_2_1_copied": (60.0, 88.1)}, 1),
        ({"student_2_2": (96.9, 100.1)}, 2),
    ],
)
def test_a_bound_that_does_not_hold_is_named(scores, count):
    assert len(outcome(**scores).faults()) == count


def test_the_table_ends_with_exit_code_1_where_a_bound_does_not_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(seeds, "outcome", lambda *_: outcome(student_2_1_copied=(60.0, 88.1)))
    with pytest.raises(RunError, match="student-2-1-copied"):
        seeds.show(tmp_path, 2)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4 + 1 and "60.0 / 88.1" in rows[-1]


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="output_dir"):
        quickstart.prepare(tmp_path)
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"
