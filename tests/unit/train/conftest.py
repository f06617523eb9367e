"""What the tests of the loop, its losses, evaluations and caches start from: a student, data, a short training."""

from pathlib import Path

import pytest

from tests.support.plain_loop import ADAM, BATCH, EXAMPLES
from tests.support.tiny import tiny_bart, tiny_mnli


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """Students without and with dropout, and data. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    tiny_bart(folder / "student")
    tiny_bart(folder / "dropout", dropout=0.1)
    tiny_mnli(folder / "data", train=EXAMPLES)
    return folder


@pytest.fixture
def options(made, tmp_path):
    """Options of a training of 2 x 3 steps of 12 examples into a folder of its own."""
    return {
        "model_name_or_path": made / "student",
        "data_dir": made / "data",
        "output_dir": tmp_path / "out",
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 2.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "encoder_cache_dir": tmp_path / "cache",
        **ADAM,
    }
