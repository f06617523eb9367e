"""What the tests of the Hub's data set share."""

from pathlib import Path

import pytest


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """load_dataset takes a folder of that name, below the working directory, for the data set."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "nyu-mll" / "glue"
