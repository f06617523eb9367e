"""The short form of `make stress`, and that its comparison sees what it is there to see."""

import pytest

from tests.support.stress import Stress

pytestmark = pytest.mark.xdist_group("stress")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both tests compare with the same uninterrupted training."""
    return tmp_path_factory.mktemp("stress")


def test_five_kills_leave_the_same_bits(folder, capfd):
    stress = Stress(folder, kills=5, num_processes=1, steps=40, seed=1, dropped=None)
    assert stress.run() == 0, capfd.readouterr().out
    assert stress.finished >= 1 and stress.mismatches == 0
    assert sum(stress.counts.values()) == 5
    assert stress.counts["save"] and stress.counts["encoder cache"]


def test_a_run_whose_random_states_were_dropped_is_reported(folder, capfd):
    stress = Stress(folder, kills=1, num_processes=1, steps=40, seed=1, dropped="random_states")
    assert stress.run() == 1
    assert stress.mismatches == stress.finished == 1
    assert "MISMATCH in weights" in capfd.readouterr().out
