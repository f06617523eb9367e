"""The card says how a student was made: "No Teacher Distillation" where no teacher's answers were learnt, and nowhere
else; of a distilled one every stage, its teacher, loss, temperature and rows."""

import pytest

from distilbart_mnli.publish.card_facts import default_name
from distilbart_mnli.publish.hub import preflight
from tests.support.card_reading import table_rows, write
from tests.support.finished_run import (
    FITTED,
    LABELS,
    LOGITS,
    distilled,
    distilled_and_tuned,
    finished_run,
    tuned_on_labels,
    with_an_unreadable_record,
)
from tests.support.publishing import arguments

NO_TEACHER = "No Teacher Distillation"
TEACHER = "[facebook/bart-large-mnli](https://huggingface.co/facebook/bart-large-mnli)"
PUBLISHED = "distilbart-mnli-12-1"  # one of the four names of 2020


@pytest.mark.parametrize("make", [finished_run, tuned_on_labels])
def test_a_copied_student_that_learnt_labels_alone_says_that_no_teacher_was_asked(tmp_path, make):
    make(tmp_path / PUBLISHED)
    metadata, text = write(tmp_path / PUBLISHED)
    assert NO_TEACHER in text and "hinton" not in text
    assert metadata["tags"] == ["distilbart", "distilbart-mnli"]
    assert metadata["model-index"][0]["name"] == PUBLISHED


def test_a_distilled_student_names_its_stages(tmp_path):
    distilled(tmp_path / "distilbart-mnli-6-1")
    metadata, text = write(tmp_path / "distilbart-mnli-6-1")
    assert NO_TEACHER not in text and "knowledge-distillation" in metadata["tags"] and "hinton2015" in text
    (start,) = [number for number, row in enumerate(table_rows(text)) if row[0] == "Stage"]
    first, second = table_rows(text)[start + 1 : start + 3]
    assert first[2:] == [TEACHER, "mean squared error", "encoder", "392,702", "4"]
    assert second[2:] == [
        *(TEACHER, "KL divergence, temperature 2", "decoder and head", "392,702 and 5,000 without labels", "2")
    ]
    assert "encoder states" in first[1] and "logits" in second[1] and "0.75" in second[1]


def test_labels_learnt_after_a_teacher_make_no_copied_student_of_it(tmp_path):
    distilled_and_tuned(tmp_path / PUBLISHED)
    metadata, text = write(tmp_path / PUBLISHED)
    assert NO_TEACHER not in text and "knowledge-distillation" in metadata["tags"]
    assert ["3", "labels", "none"] in [row[:3] for row in table_rows(text)]


def test_where_the_record_cannot_be_read_neither_is_claimed(tmp_path):
    with_an_unreadable_record(tmp_path / PUBLISHED)
    metadata, text = write(tmp_path / PUBLISHED)
    assert NO_TEACHER not in text and "<b>" not in text
    assert "knowledge-distillation" not in metadata["tags"] and "hinton" not in text


def test_a_model_without_a_record_was_distilled_where_its_options_name_a_teacher(tmp_path):
    of_the_run = {"teacher_model_name_or_path": "/home/ada/models/minibart"}
    finished_run(tmp_path / "run", arguments=of_the_run)
    _, text = write(tmp_path / "run")
    assert NO_TEACHER not in text and "`minibart`" in text and "/home" not in text


@pytest.mark.parametrize(
    ("folder", "history", "expected"),
    [
        (PUBLISHED, [FITTED, LOGITS], PUBLISHED + "-kd"),
        (PUBLISHED, "damaged", PUBLISHED + "-kd"),
        (PUBLISHED, [LABELS], PUBLISHED),
        (PUBLISHED, [], PUBLISHED),
        ("distilbart-mnli-6-1", [FITTED, LOGITS], "distilbart-mnli-6-1"),
        ("mine", [LOGITS], "mine"),
    ],
)
def test_a_distilled_model_does_not_take_a_name_of_2020_by_itself(tmp_path, folder, history, expected):
    finished_run(tmp_path / folder, config={"distillation": history})
    assert default_name(tmp_path / folder) == expected
    metadata, _ = write(tmp_path / folder)
    assert metadata["model-index"][0]["name"] == expected
    metadata, _ = write(tmp_path / folder, "ann/distilbart-mnli-12-1")  # what somebody asks for is theirs
    assert metadata["model-index"][0]["name"] == PUBLISHED


def test_it_is_published_under_that_name(hub, tmp_path):
    made = tmp_path / "known" / PUBLISHED  # what a rehearsal knows before the training
    finished_run(made, config={"distillation": [LOGITS]})
    (tmp_path / PUBLISHED).mkdir()
    args = arguments(tmp_path / PUBLISHED, do_train=True, hub_model_id=None)
    assert preflight(args).repo_id == f"ann/{PUBLISHED}"
    assert preflight(args, "", made).repo_id == f"ann/{PUBLISHED}-kd"
    assert preflight(arguments(tmp_path / PUBLISHED, do_train=True, hub_model_id="lab/x"), "", made).repo_id == "lab/x"
