"""Students in a few words, and the proof that a refusal wrote nothing."""

from pathlib import Path

import pytest

from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.student import Student, StudentPlan, create_student
from tests.support.files import everything_in


def student_of(teacher: Path | str, save_path: Path | str, overwrite: bool = False, **layers) -> Student:
    """create_student; `layers`: the other fields of StudentPlan."""
    return create_student(StudentPlan(str(teacher), **layers), Path(save_path), overwrite)


def assert_refused(
    folder: Path, told: str, teacher: Path | str, save_path: Path | str, error: type[CommandError] = InputError, **more
) -> None:
    """student_of raises `error` in one line that has `told` in it, and everything in `folder` is as it was."""
    before = everything_in(folder)
    more = more or {"decoder_layers": 1}
    with pytest.raises(error, match=told) as raised:
        student_of(teacher, save_path, **more)
    assert "\n" not in str(raised.value)
    assert everything_in(folder) == before
