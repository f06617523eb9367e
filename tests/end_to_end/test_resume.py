"""A resumed training is the training that was interrupted: weights, log history, predictions and results, bit for bit.

Each configuration is trained once without interruption, with a checkpoint after every step. A run killed after step k
leaves those checkpoints up to k; that folder is resumed, and everything it leaves but times is compared. (Real kills
of real processes: test_signals.py and test_stress.py.)
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from distilbart_mnli.data import batches as batching
from distilbart_mnli.train import loop as training
from distilbart_mnli.train.device import Device
from tests.support.files import flip_bit
from tests.support.in_process import train_here
from tests.support.resuming import CONFIGURATIONS, DROPOUT, EARLY, FIRST, RANDOM, resumed
from tests.support.training_runs import Workshop, digest, only_checkpoint, outcome, run_list

pytestmark = pytest.mark.xdist_group("resume")


@pytest.fixture
def shop(uninterrupted) -> Workshop:
    return uninterrupted.shop


@pytest.mark.parametrize(
    ("name", "step"),
    [
        (FIRST, 1),  # mid-epoch
        (FIRST, 6),  # after an epoch's last, short step
        (FIRST, 10),
        (FIRST, 18),  # after the last step of all: only evaluating and saving were missing
        (RANDOM, 5),
        (RANDOM, 12),
        (DROPOUT, 8),
        (EARLY, 5),  # between two evaluations, one of them without improvement
        (EARLY, 8),  # after the evaluation that stopped it
    ],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(shop, uninterrupted, tmp_path, name, step):
    expected = uninterrupted(name)
    found = resumed(shop, expected, name, step, tmp_path)
    assert outcome(found) == outcome(expected)


def test_the_runs_above_do_what_their_names_say(uninterrupted):
    """Guards the comparisons: dropout is felt, the best is not the last, early stopping stopped."""
    first, early = outcome(uninterrupted(FIRST)), outcome(uninterrupted(EARLY))
    assert first["global_step"] == 18 and first["best_global_step"] < 18
    assert first["weights"] == digest(
        uninterrupted(FIRST) / f"checkpoint-{first['best_global_step']}/model.safetensors"
    )
    assert early["global_step"] == 8 and early["max_steps"] == 18
    assert outcome(uninterrupted(RANDOM))["weights"] != outcome(uninterrupted(DROPOUT))["weights"]
    assert list(Path(uninterrupted(FIRST).parent / "cache").glob("*/states.bin"))


def test_saving_changes_nothing(shop, uninterrupted):
    options = shop.options("one-save", **CONFIGURATIONS[RANDOM], save_strategy="no")
    assert train_here(options) == (0, "")
    assert outcome(Path(options["output_dir"])) == outcome(uninterrupted(RANDOM))
    assert not list(Path(options["output_dir"]).glob("checkpoint-*"))


def test_without_the_saved_random_states_the_comparison_fails(shop, uninterrupted, tmp_path, monkeypatch):
    expected = uninterrupted(RANDOM)
    monkeypatch.setattr(Device, "set_random_state", lambda self, states: None)
    found = resumed(shop, expected, RANDOM, 5, tmp_path)
    assert outcome(found)["weights"] != outcome(expected)["weights"]


def test_a_run_interrupted_three_times_ends_as_the_uninterrupted_one(shop, uninterrupted, tmp_path, monkeypatch):
    expected = uninterrupted(FIRST)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    options["save_steps"] = 2
    whole_save = training.Training._save
    for last in (3, 8, 13):

        def save_and_die(self, last=last):
            if self.state.progress.step > last:
                raise KeyboardInterrupt
            whole_save(self)

        with monkeypatch.context() as patch:
            patch.setattr(training.Training, "_save", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                train_here(options, ("--resume_from_checkpoint",))
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == outcome(expected)


# ---------------------------------------------------------------------------------------------------------------------
# What resuming costs and what it needs


def test_examples_already_seen_are_neither_tokenised_nor_collated_again(shop, uninterrupted, tmp_path, monkeypatch):
    expected = uninterrupted(FIRST)  # before its rows could be watched
    rows: list[int] = []

    class Watched(batching.Collator):
        def __call__(self, batch):
            rows.extend(batch.rows[batch.weights > 0].tolist())
            return super().__call__(batch)

    monkeypatch.setattr(training, "Collator", Watched)
    resumed(shop, expected, FIRST, 10, tmp_path)
    # Steps 11 and 12 end the second epoch with 8 + 4 examples; the third epoch has every example once.
    seen = Counter(rows)
    assert sum(seen.values()) == 12 + 44
    assert sorted(seen) == list(range(44)) and sorted(seen.values()) == [1] * 32 + [2] * 12


def test_a_missing_encoder_cache_is_built_again_and_the_bits_stay(shop, uninterrupted, tmp_path):
    expected = uninterrupted(FIRST)
    found = resumed(shop, expected, FIRST, 4, tmp_path, encoder_cache_dir=str(tmp_path / "empty"))
    assert outcome(found) == outcome(expected)
    assert len(list((tmp_path / "empty").glob("*/states.bin"))) == 3


def test_the_checkpoint_decides_about_the_encoder_cache(shop, uninterrupted, tmp_path):
    """`auto` could decide otherwise the second time, because the disk filled up; other bits would be the result."""
    expected = uninterrupted(FIRST)
    changes = {"encoder_cache_dir": str(tmp_path / "cache"), "encoder_cache_max_gb": 0.0}
    only_checkpoint(expected, tmp_path / "out", 4)
    options = shop.options(tmp_path / "out", **{**CONFIGURATIONS[FIRST], **changes})
    code, error = train_here(options, ("--resume_from_checkpoint",))
    assert code == 2 and "encoder_cache_max_gb" in error


# ---------------------------------------------------------------------------------------------------------------------
# Two processes


def damaged_cache(shop, folder: Path) -> Path:
    """A copy of the encoder cache with a flipped bit in every tenth of its states, and in its checksums."""
    shutil.copytree(shop.folder / "cache", folder / "cache")
    files = [path for path in (folder / "cache").glob("*/*.bin") if path.stat().st_size]
    for path in files:
        for tenth in range(10):
            flip_bit(path, tenth * path.stat().st_size // 10)
    assert any(path.name == "states.bin" for path in files)
    return folder / "cache"


def test_two_processes_resume_to_the_same_bits(shop, uninterrupted, tmp_path):
    """One launch of two gloo processes: two configurations, each uninterrupted and then resumed from a checkpoint; a
    checkpoint of one process, which two must refuse; and an encoder cache that was damaged meanwhile."""

    def options(name: str, output_dir: str, **more) -> dict:
        return shop.options(tmp_path / output_dir, **{**CONFIGURATIONS[name], **more})

    def resume(name: str, source: Path, output_dir: str, step: int) -> dict:
        copy = [str(source), str(tmp_path / output_dir), step]
        return options(name, output_dir, copy=copy, resume_from_checkpoint=True)

    codes = run_list(
        tmp_path,
        [
            options(FIRST, "fp32"),
            resume(FIRST, tmp_path / "fp32", "fp32-4", 4),
            resume(FIRST, tmp_path / "fp32", "fp32-6", 6),
            options(RANDOM, "bf16", per_device_train_batch_size=4),
            {**resume(RANDOM, tmp_path / "bf16", "bf16-8", 8), "per_device_train_batch_size": 4},
            resume(FIRST, uninterrupted(FIRST), "one process", 5),
            {
                **resume(FIRST, tmp_path / "fp32", "damaged", 4),
                "encoder_cache_dir": str(damaged_cache(shop, tmp_path)),
            },
        ],
        processes=2,
    )
    assert codes[:5] == [[0, ""]] * 5
    assert outcome(tmp_path / "fp32-4") == outcome(tmp_path / "fp32")
    assert outcome(tmp_path / "fp32-6") == outcome(tmp_path / "fp32")
    assert outcome(tmp_path / "bf16-8") == outcome(tmp_path / "bf16")
    assert codes[6] == [0, ""] and outcome(tmp_path / "damaged") == outcome(tmp_path / "fp32")
    assert codes[5][0] == 2 and "num_processes: 1 -> 2" in codes[5][1]
