"""The short form of `make stress`, and that its comparison sees what it is there to see."""

import pytest

from tests.support.hub_server import Hub
from tests.support.stress import Stress

pytestmark = pytest.mark.xdist_group("stress")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Both tests compare with the same uninterrupted training."""
    folder = tmp_path_factory.mktemp("stress")
    with Hub(folder / "hub") as hub:
        yield {"folder": folder, "hub": hub}


def test_three_kills_leave_the_same_bits(place, capfd):
    stress = Stress(**place, kills=3, num_processes=1, steps=30, seed=1, dropped=None)
    assert stress.run() == 0, capfd.readouterr().out
    assert stress.finished >= 1 and stress.mismatches == 0
    assert sum(stress.counts.values()) == 3
    assert len(stress.counts) >= 2  # parts of the run


def test_a_run_whose_random_states_were_dropped_is_reported(place, capfd):
    stress = Stress(**place, kills=1, num_processes=1, steps=30, seed=1, dropped="random_states")
    assert stress.run() == 1
    assert stress.mismatches == stress.finished == 1
    assert "MISMATCH in weights" in capfd.readouterr().out
