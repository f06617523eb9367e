"""Trainings for the tests of resume, signals and faults: in this process, in one of their own, or in two at once.

    shop = Workshop(folder)                                 # a tiny student with dropout, tiny data
    code, error = train_here(shop.options("out"))           # run_glue.py without the start of a process
    start(shop.options("out"), processes=2)                 # run_glue.py itself
    torchrun -m tests.support.training_runs LIST.json       # several trainings, one after the other, in one launch

`outcome` is everything that a resumed run must share with an uninterrupted one.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.state import AcceleratorState

from distilbart_mnli.errors import CommandError
from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.train import stages
from tests.support.tiny import ROOT, tiny_bart, tiny_mnli

TIMES = ("eval_runtime", "eval_samples_per_second")
RESULT_TIMES = ("runtime", "per_second", "time_share")


class Workshop:
    """A student with dropout and data for 6 optimizer steps an epoch, the last one of half the examples."""

    def __init__(self, folder: Path, train: int = 44, **config: Any):
        self.folder = folder
        tiny_bart(folder / "student", **{"dropout": 0.1, **config})
        tiny_mnli(folder / "data", train=train)

    def options(self, output_dir: str, **changes: Any) -> dict[str, Any]:
        """Options of a training in folder/output_dir: 3 epochs, accumulation, a checkpoint after every step."""
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


@contextlib.contextmanager
def _borrowed(options: dict[str, Any], words: list[str], card: bool) -> Iterator[None]:
    """This process as a fresh one would be: no accelerator yet, logging and command line its own; undone after."""
    root, argv, threads = logging.getLogger(), sys.argv, torch.get_num_threads()
    handlers, level, write_card = root.handlers[:], root.level, stages.write_card
    cache, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, options["output_dir"] + "-datasets"
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state="RANK" not in os.environ)
    sys.argv = ["run_glue.py", *words]
    if not card:
        stages.write_card = lambda *_: None
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        root.handlers[:], root.level, sys.argv, stages.write_card = handlers, level, argv, write_card
        datasets.config.HF_DATASETS_CACHE = cache
        AcceleratorState._reset_state(reset_partial_state="RANK" not in os.environ)


def train_here(options: dict[str, Any], flags: tuple[str, ...] = (), card: bool = False) -> tuple[int, str]:
    """run_glue.py's work in this process: its exit code and its one line on stderr, 0 and "" when all went well.

    Args:
        card: write the model card, which plots curves for half a second.
    """
    path = Path(options["output_dir"] + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: two ranks write the same file, and neither may read what the other has only begun.
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    mine.write_text(json.dumps(options), encoding="utf-8")
    mine.replace(path)
    words = [str(path), *flags]
    with _borrowed(options, words, card):
        try:
            stages.run_stages(parse_arguments(words))
        except CommandError as error:
            return error.exit_code, str(error)
    return 0, ""


def command(options: dict[str, Any], flags: tuple[str, ...] = (), processes: int = 1) -> list[str]:
    """The command that runs run_glue.py on `options`, which are written beside output_dir."""
    path = Path(options["output_dir"] + ".json")
    path.write_text(json.dumps(options), encoding="utf-8")
    return [*launcher(processes), str(ROOT / "run_glue.py"), str(path), *flags]


def launcher(processes: int) -> list[str]:
    """What stands in front of a script (or of -m) to run it in so many processes."""
    if processes == 1:
        return [sys.executable]
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)),
        *("--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"),
    ]


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """This process's environment, offline, on the CPU, one thread a process, with caches in `folder`."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": paths,
        "HF_HOME": str(folder / "hf"),
        **changes,
    }


def start(options: dict[str, Any], flags: tuple[str, ...] = (), processes: int = 1, **popen: Any) -> subprocess.Popen:
    """run_glue.py in processes of its own, which have their own session; both streams go to a pipe, as text."""
    return subprocess.Popen(
        command(options, flags, processes),
        **{
            "env": environment(Path(options["output_dir"]).parent),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "start_new_session": True,
            **popen,
        },
    )


def run_list(folder: Path, trainings: list[dict[str, Any]], processes: int) -> list[list[Any]]:
    """Several trainings in one launch: [exit code, line on stderr] of each, as its first process saw it.

    Args:
        trainings: options; "copy": [from, to, step] makes the folder that the training resumes in first.
    """
    path = folder / "list.json"
    path.write_text(json.dumps(trainings), encoding="utf-8")
    done = subprocess.run(
        [*launcher(processes), "-m", "tests.support.training_runs", str(path)],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.with_suffix(".results.json").read_text(encoding="utf-8"))


def main() -> None:
    """The trainings of a list, in this launch."""
    import torch.distributed as dist

    from distilbart_mnli.processes import cpu_group, wait_for_all

    path, results = Path(sys.argv[1]), []
    for number, options in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        copy = options.pop("copy", None)
        if copy is not None and os.environ["RANK"] == "0":
            only_checkpoint(Path(copy[0]), Path(copy[1]), copy[2])
        if number:
            wait_for_all()
        results.append(train_here(options))
    assert dist.get_world_size() == int(os.environ["WORLD_SIZE"]) > 1
    if os.environ["RANK"] == "0":
        path.with_suffix(".results.json").write_text(json.dumps(results), encoding="utf-8")
    cpu_group()
    wait_for_all()


# ---------------------------------------------------------------------------------------------------------------------
# Looking


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run left, without times, speeds and the command: equal dictionaries mean equal runs."""
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    results = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    keys = ("global_step", "max_steps", "epoch", "best_metric", "best_global_step", "best_model_checkpoint")
    return {
        "weights": digest(folder / "model.safetensors"),
        "log_history": [{k: v for k, v in entry.items() if k not in TIMES} for entry in state["log_history"]],
        "predictions": {path.name: digest(path) for path in sorted(folder.glob("eval_*"))},
        "results": {k: v for k, v in results.items() if not any(word in k for word in RESULT_TIMES)},
        **{key: state[key] for key in keys},
    }


def only_checkpoint(source: Path, target: Path, step: int) -> None:
    """Make `target` what a run killed after checkpoint-<step> leaves: that checkpoint, those before it, and a lock."""
    target.mkdir(parents=True)
    for path in source.glob("checkpoint-*"):
        if int(path.name.partition("-")[2]) <= step:
            shutil.copytree(path, target / path.name)
    (target / ".lock").write_text("process 1 on elsewhere\n")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


if __name__ == "__main__":
    main()
