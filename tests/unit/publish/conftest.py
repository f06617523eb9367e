"""What the tests of publishing start from: a finished student, a run to publish, a small Hub."""

import shutil
from pathlib import Path

import pytest

from distilbart_mnli.publish import card, curves
from distilbart_mnli.publish import hub as product
from tests.support import finished_run, publishing
from tests.support.hub_server import Hub


@pytest.fixture(scope="session")
def drawn() -> dict[str, bytes]:
    """The log of a run -> its curves."""
    return {}


@pytest.fixture(autouse=True)
def same_curves_drawn_once(drawn, monkeypatch):
    """Drawing takes longer than the rest of a card; most cards here are of runs with one and the same log."""

    def plot(folder: Path) -> Path | None:
        state = folder / "trainer_state.json"
        log = state.read_text(encoding="utf-8") if state.exists() else ""
        if log not in drawn:
            path = curves.plot_training_curves(folder)
            if path is not None:
                drawn[log] = path.read_bytes()
            return path
        (folder / curves.FILE_NAME).write_bytes(drawn[log])
        return folder / curves.FILE_NAME

    monkeypatch.setattr(card, "plot_training_curves", plot)


@pytest.fixture
def student(tmp_path) -> Path:
    """The folder of a fine-tuned distilbart-mnli-12-1, without weights: for its card."""
    return finished_run.finished_run(tmp_path / "distilbart-mnli-12-1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A run with weights, tokenizer and predictions. Not to be changed."""
    return publishing.finished_run(tmp_path_factory.mktemp("run") / "distilbart-mnli-2-1")


@pytest.fixture
def run_dir(finished, tmp_path) -> Path:
    """A copy of `finished`."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process is logged in to as ann, who may write to lab; waits run at fifty times their speed."""
    publishing.shorten_waits(monkeypatch)
    with Hub(tmp_path / "hub") as hub:
        publishing.log_in(monkeypatch, hub, hub.add_user("ann", orgs=["lab"]))
        yield hub


@pytest.fixture
def no_smoke(monkeypatch):
    """Without the smoke test, which test_smoke_test.py tests."""
    monkeypatch.setattr(product, "smoke_test", lambda *arguments: None)
