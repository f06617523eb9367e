"""A student's place when others want it too: a second create_student.py, a training, one that was killed before."""

import json
import os
import threading

import pytest
from transformers import AutoModelForSequenceClassification

from distilbart_mnli import files
from distilbart_mnli.errors import InputError
from distilbart_mnli.files import lock_file
from distilbart_mnli.model import student
from tests.support.files import everything_in
from tests.support.students import assert_refused, student_of
from tests.support.tiny import tiny_bart


@pytest.fixture
def teacher(tmp_path):
    tiny_bart(tmp_path / "teacher")
    return tmp_path / "teacher"


def decoder_layers(folder) -> int:
    """As stock transformers reads it."""
    return len(AutoModelForSequenceClassification.from_pretrained(folder).model.decoder.layers)


@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_at_once_the_second_is_refused_and_the_first_is_whole(teacher, tmp_path, monkeypatch, overwrite):
    place, verify = tmp_path / "new" / "student", student.verify_saved
    started, go_on, ended = threading.Event(), threading.Event(), []

    def slowly(*both):
        started.set()
        assert go_on.wait(60)
        verify(*both)

    monkeypatch.setattr(student, "verify_saved", slowly)
    first = threading.Thread(target=lambda: ended.append(student_of(teacher, place, decoder_layers=2)))
    first.start()
    assert started.wait(60)
    with pytest.raises(InputError, match=f"process {os.getpid()} on "):
        student_of(teacher, place, overwrite=overwrite, decoder_layers=1)
    go_on.set()
    first.join()
    assert ended and decoder_layers(place) == 2
    assert [path.name for path in place.parent.iterdir()] == ["student"]


def test_one_that_is_finished_while_another_reads_its_teacher_is_not_replaced(teacher, tmp_path, monkeypatch):
    """The place was free when the second looked first, and is looked at again when it has it alone."""
    place, alone = tmp_path / "student", student._alone_at

    def after_another(path):
        monkeypatch.setattr(student, "_alone_at", alone)
        student_of(teacher, path, decoder_layers=2)
        return alone(path)

    monkeypatch.setattr(student, "_alone_at", after_another)
    with pytest.raises(InputError, match="not empty"):
        student_of(teacher, place, decoder_layers=1)
    assert decoder_layers(place) == 2


@pytest.fixture
def killed(teacher, tmp_path):
    """What SIGKILL between the two renames leaves of a student of 2 layers that was being replaced by one of 1."""
    student_of(teacher, tmp_path / "student", decoder_layers=2)
    student_of(teacher, tmp_path / "new", decoder_layers=1)
    (tmp_path / "student").rename(tmp_path / ".writing-old-student")
    (tmp_path / "new").rename(tmp_path / ".writing-f04138c792da668f-student")
    (tmp_path / ".writing-lock-student").write_text(f"process {os.getpid()} on here\n")  # containers count from 1
    return tmp_path


def test_a_student_that_a_killed_process_was_replacing_is_put_back_and_not_replaced_unasked(killed):
    with pytest.raises(InputError, match="not empty"):
        student_of(killed / "teacher", killed / "student", decoder_layers=1)
    assert sorted(path.name for path in killed.iterdir()) == ["student", "teacher"]
    assert decoder_layers(killed / "student") == 2


def test_one_that_is_told_to_replaces_it_and_clears_up(killed):
    student_of(killed / "teacher", killed / "student", overwrite=True, decoder_layers=1)
    assert sorted(path.name for path in killed.iterdir()) == ["student", "teacher"]
    assert decoder_layers(killed / "student") == 1


def test_a_folder_that_a_training_writes_into_is_not_replaced(teacher, tmp_path):
    student_of(teacher, tmp_path / "student", decoder_layers=2)
    with lock_file(tmp_path / "student" / ".lock"):
        assert_refused(tmp_path, "is writing to it", teacher, tmp_path / "student", overwrite=True, decoder_layers=1)


def test_a_refusal_removes_the_folders_that_were_made_for_the_lock(tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert_refused(tmp_path, "bert", tmp_path / "teacher", tmp_path / "a" / "b" / "student")


def test_on_a_disk_without_locks_a_student_is_built(teacher, tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", none)
    before = everything_in(teacher)
    student_of(teacher, tmp_path / "student", decoder_layers=1)
    assert decoder_layers(tmp_path / "student") == 1 and everything_in(teacher) == before
    assert "no locks" in caplog.text
