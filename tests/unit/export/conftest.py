"""The exported student, and MNLI's rows as batches of token ids."""

from pathlib import Path

import pytest

from tests.support.exports import exported_student


@pytest.fixture
def exported() -> Path:
    return exported_student()
