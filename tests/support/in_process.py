"""Run the stages of run_glue.py inside the test's process: many small trainings in the time of one start of Python."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.options.rules import check_together
from distilbart_mnli.train import stages
from distilbart_mnli.train.loop import Training


@contextlib.contextmanager
def as_in_a_new_process() -> Iterator[None]:
    """What a run sets for its whole process is put back: accelerate's state and the log handlers."""
    root = logging.getLogger()
    handlers, level, verbosity = root.handlers[:], root.level, transformers.logging.get_verbosity()
    AcceleratorState._reset_state(True)
    # The run replaces the handlers of the root logger, and pytest's caplog is one of them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "basicConfig", lambda **options: root.setLevel(options["level"]))
        try:
            yield
        finally:
            AcceleratorState._reset_state(True)
            root.handlers[:] = handlers
            root.setLevel(level)
            transformers.logging.set_verbosity(verbosity)


def arguments(**options: Any) -> Arguments:
    """Options of run_glue.py, paths as text, checked as the command line's are."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    args = Arguments(**{"task_name": "MNLI", "use_cpu": True, "disable_tqdm": True, **values})
    check_together(args)
    return args


def run(**options: Any) -> Path:
    """All stages; returns output_dir."""
    args = arguments(**options)
    with as_in_a_new_process():
        stages.run_stages(args)
    return Path(args.output_dir or "")


def train(**options: Any) -> Training:
    """The training alone, without its card; returns its state."""
    args = arguments(**{"do_train": True, **options})
    with as_in_a_new_process(), stages.prepared(args) as (run, sets):
        return stages.train(run, sets)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trainer_state.json").read_text())


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "all_results.json").read_text())
