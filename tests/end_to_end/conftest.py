"""What several files here start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_server import Hub
from tests.support.resuming import Uninterrupted
from tests.support.training_runs import Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A tiny student with dropout and its data; trainings go to folders in it, or to those of the test."""
    return Workshop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """What resumed trainings are compared with; they are trained in its `shop`."""
    return Uninterrupted(Workshop(tmp_path_factory.mktemp("shop")))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as hub:
        yield hub
