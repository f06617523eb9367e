"""Trainings for the tests of resume, signals and faults, and what two runs must share to be called equal.

    shop = Workshop(folder)                                 # a tiny student with dropout, tiny data
    code, error = train_here(shop.options("out"))           # in this process
    start(command(shop.options("out"), processes=2), environment(folder))       # in processes of their own
    run_list(folder, [shop.options("one"), shop.options("two")], processes=2)   # one after the other, in one launch

`outcome` is everything that a resumed run must share with an uninterrupted one.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.support import launch
from tests.support.in_process import results, state, train_here
from tests.support.tiny import ROOT, tiny_bart, tiny_mnli

TIMES = ("eval_runtime", "eval_samples_per_second")
RESULT_TIMES = ("runtime", "per_second", "time_share")


class Workshop:
    """A student with dropout and data for 6 optimizer steps an epoch, the last one of half the examples."""

    def __init__(self, folder: Path, train: int = 44, **config: Any):
        self.folder = folder
        tiny_bart(folder / "student", **{"dropout": 0.1, **config})
        tiny_mnli(folder / "data", train=train)

    def options(self, output_dir: str | Path, **changes: Any) -> dict[str, Any]:
        """Options of a training: 3 epochs, accumulation, a checkpoint after every step.

        Args:
            output_dir: below the workshop's folder, if it is not absolute.
        """
        return {
            "model_name_or_path": str(self.folder / "student"),
            "task_name": "MNLI",
            "data_dir": str(self.folder / "data"),
            "do_train": True,
            "do_eval": True,
            "output_dir": str(self.folder / output_dir),
            "num_train_epochs": 3,
            "per_device_train_batch_size": 4,
            "effective_batch_size": 8,
            "learning_rate": 1e-3,
            "warmup_steps": 2,
            "freeze_encoder": True,
            "freeze_embeds": True,
            "logging_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "save_steps": 1,
            "max_seq_length": 64,
            "encoder_cache_dir": str(self.folder / "cache"),
            "disable_tqdm": True,
            **changes,
        }


# ---------------------------------------------------------------------------------------------------------------------
# Running


def command(options: dict[str, Any], flags: tuple[str, ...] = (), processes: int = 1) -> list[str]:
    """The command that runs run_glue.py on `options`, which are written beside output_dir."""
    path = Path(options["output_dir"] + ".json")
    path.write_text(json.dumps(options), encoding="utf-8")
    return [*launch.torchrun(processes), str(ROOT / "run_glue.py"), str(path), *flags]


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """The environment of such a command: on the CPU, with caches in `folder`."""
    return launch.environment(**{"ACCELERATE_USE_CPU": "true", "HF_HOME": str(folder / "hf"), **changes})


def run_list(folder: Path, trainings: list[dict[str, Any]], processes: int) -> list[list[Any]]:
    """Several trainings in one launch: [exit code, line on stderr] of each, as its first process saw it.

    Args:
        trainings: options; "copy": [from, to, step] makes the folder that the training resumes in first.
    """
    path = folder / "list.json"
    path.write_text(json.dumps(trainings), encoding="utf-8")
    words = [*launch.torchrun(processes), "-m", "tests.support.training_runs", path]
    (done,) = launch.finish(launch.start(words, environment(folder), cwd=ROOT), timeout=300)
    assert done.returncode == 0, done.stdout
    return json.loads(path.with_suffix(".results.json").read_text(encoding="utf-8"))


def main() -> None:
    """The trainings of a list, in this launch."""
    import torch.distributed as dist

    from distilbart_mnli.processes import barrier, cpu_group

    path, ended = Path(sys.argv[1]), []
    for number, options in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        copy = options.pop("copy", None)
        if copy is not None and os.environ["RANK"] == "0":
            only_checkpoint(Path(copy[0]), Path(copy[1]), copy[2])
        if number:
            barrier()
        ended.append(train_here(options))
    assert dist.get_world_size() == int(os.environ["WORLD_SIZE"]) > 1
    if os.environ["RANK"] == "0":
        path.with_suffix(".results.json").write_text(json.dumps(ended), encoding="utf-8")
    cpu_group()
    barrier()


# ---------------------------------------------------------------------------------------------------------------------
# Looking


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run left, without times, speeds and the command: equal dictionaries mean equal runs."""
    kept = state(folder)
    keys = ("global_step", "max_steps", "epoch", "best_metric", "best_global_step", "best_model_checkpoint")
    return {
        "weights": digest(folder / "model.safetensors"),
        "log_history": [{k: v for k, v in entry.items() if k not in TIMES} for entry in kept["log_history"]],
        "predictions": {path.name: digest(path) for path in sorted(folder.glob("eval_*"))},
        "results": {k: v for k, v in results(folder).items() if not any(word in k for word in RESULT_TIMES)},
        **{key: kept[key] for key in keys},
    }


def only_checkpoint(source: Path, target: Path, step: int) -> None:
    """Make `target` what a run killed after checkpoint-<step> leaves: that checkpoint, those before it, and a lock."""
    target.mkdir(parents=True)
    for path in source.glob("checkpoint-*"):
        if int(path.name.partition("-")[2]) <= step:
            shutil.copytree(path, target / path.name)
    (target / ".lock").write_text("process 1 on elsewhere\n")


def sign_manifest(checkpoint: Path) -> None:
    """Let the manifest say that everything in the folder is right, as somebody who means harm would."""
    files = [path for path in checkpoint.iterdir() if path.name != "manifest.json"]
    sums = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in files}
    (checkpoint / "manifest.json").write_text(json.dumps(sums), encoding="utf-8")


if __name__ == "__main__":
    main()
