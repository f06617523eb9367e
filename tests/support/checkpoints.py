"""Checkpoints with next to nothing in them, whole all the same.

checkpoint = write_checkpoint(output_dir, step=3, run_id="mine", best=2)
"""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from distilbart_mnli.train import checkpoints
from distilbart_mnli.train.record import Record
from distilbart_mnli.train.state import Progress

FILES = [
    "config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "random_states.safetensors",
    "trainer_state.json",
]


def record(step: int, best: int | None = None, **changes) -> dict:
    """A checkpoint's `resume` object."""
    values = {
        "run_id": "a",
        "run_started": 1.0,
        "position": step,
        "progress": Progress(step=step, best_step=best),
        "optimizer_groups": [],
        "scheduler": {},
        "scaler": None,
        "encoder_cache": False,
        "encoder_cache_dtype": None,
        "recipe": {"load_best_model_at_end": best is not None},
        "versions": {},
    }
    return dataclasses.asdict(Record(**{**values, **changes}))


def write_checkpoint(
    output_dir: Path, step: int, run_id: str = "a", started: float = 1.0, best: int | None = None
) -> Path:
    """A whole checkpoint with next to nothing in it."""

    def write(folder: Path) -> None:
        for name in FILES[1:4]:
            save_file({"0/cpu": torch.arange(step, step + 40, dtype=torch.uint8)}, folder / name)
        (folder / "config.json").write_text('{"model_type": "bart"}')
        resume = record(step, best, run_id=run_id, run_started=started)
        name = f"checkpoint-{best}" if best else None
        state = {"global_step": step, "best_model_checkpoint": name, "resume": resume}
        (folder / "trainer_state.json").write_text(json.dumps(state))

    output_dir.mkdir(exist_ok=True)
    final = output_dir / f"checkpoint-{step}"
    checkpoints.write_checkpoint(final, write, final.name, "nothing else is whole")
    return final


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
