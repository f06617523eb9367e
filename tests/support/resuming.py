"""Trainings of a few configurations, each once without interruption, for all that is resumed and compared with them.

uninterrupted = Uninterrupted(shop)
outcome(resumed(shop, uninterrupted(FIRST), FIRST, 7, tmp_path)) == outcome(uninterrupted(FIRST))
"""

import json
from pathlib import Path

from tests.support.in_process import train_here
from tests.support.training_runs import Workshop, only_checkpoint, sign_manifest

CONFIGURATIONS = {
    # 44 examples in steps of 8: an epoch is 6 steps, the last one of half the examples.
    "lengths grouped, accumulated, encoder cached, best kept": {
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "eval_steps": 1,
        "early_stopping_patience": 50,
    },
    "all trained, random order, bf16, cosine": {
        "freeze_encoder": False,
        "freeze_embeds": False,
        "bf16": True,
        "train_sampling_strategy": "random",
        "lr_scheduler_type": "cosine",
        "per_device_train_batch_size": 8,
    },
    "encoder computed with dropout, as in 2020": {"frozen_encoder_dropout": True, "label_smoothing_factor": 0.1},
    "stopped early": {"eval_steps": 2, "early_stopping_patience": 3, "early_stopping_threshold": 5.0},
}


FIRST, RANDOM, DROPOUT, EARLY = CONFIGURATIONS


class Uninterrupted:
    """The folder of a configuration's uninterrupted run, trained when it is first asked for. Not to be changed."""

    def __init__(self, shop: Workshop):
        self.shop = shop
        self._done: dict[str, Path] = {}

    def __call__(self, name: str) -> Path:
        if name not in self._done:
            options = self.shop.options(f"uninterrupted-{len(self._done)}", **CONFIGURATIONS[name])
            assert train_here(options) == (0, "")
            self._done[name] = Path(options["output_dir"])
        return self._done[name]


def resumed(shop: Workshop, folder: Path, name: str, step: int, tmp_path: Path, **changes) -> Path:
    """Where the run that was killed after `step` ends after resuming."""
    only_checkpoint(folder, tmp_path / "out", step)
    options = shop.options(tmp_path / "out", **{**CONFIGURATIONS[name], **changes})
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    return tmp_path / "out"


def edit_state(checkpoint: Path, change) -> None:
    """Change what a checkpoint's trainer_state.json says, checksum included."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    change(state)
    path.write_text(json.dumps(state), encoding="utf-8")
    sign_manifest(checkpoint)
