"""run_glue.py inside the test's process: many small trainings in the time of one start of Python.

    code = glue("--task_name", "MNLI", ..., "--output_dir", out)    # the command line; its one line is on stderr
    code, error = train_here({"task_name": "MNLI", ...}, ("--do_eval",))    # a file of options, and flags
    folder = run(model_name_or_path=..., output_dir=...)            # options checked as the command line's are
    training = train(model_name_or_path=..., output_dir=...)        # the training alone, and its state

Log lines do not go to stderr here; pytest's caplog has them.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

import create_student
import run_glue
from distilbart_mnli.errors import CommandError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.options.rules import check_together
from distilbart_mnli.train import stages
from distilbart_mnli.train.loop import Training
from tests.support.tiny import ROOT


@contextlib.contextmanager
def as_in_a_new_process(*argv: object) -> Iterator[pytest.MonkeyPatch]:
    """What a run sets for its whole process is put back: accelerate's state, the log handlers, sys.argv.

    Yields a MonkeyPatch whose changes end with it. `argv`: what sys.argv is meanwhile, if it is given.
    """
    root = logging.getLogger()
    handlers, level, verbosity = root.handlers[:], root.level, transformers.logging.get_verbosity()
    alone = "RANK" not in os.environ  # one rank of several keeps its process group
    AcceleratorState._reset_state(reset_partial_state=alone)
    # The run replaces the handlers of the root logger, and pytest's caplog is one of them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "basicConfig", lambda **options: root.setLevel(options["level"]))
        if argv:
            patch.setattr(sys, "argv", [str(word) for word in argv])
        try:
            yield patch
        finally:
            AcceleratorState._reset_state(reset_partial_state=alone)
            root.handlers[:] = handlers
            root.setLevel(level)
            transformers.logging.set_verbosity(verbosity)


def glue(*words: object) -> int:
    """run_glue.py with this command line; returns its exit code."""
    with as_in_a_new_process("run_glue.py", *words):
        try:
            run_glue.main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def train_here(options: dict[str, Any], flags: tuple[str, ...] = (), card: bool = False) -> tuple[int, str]:
    """run_glue.py's work on a file of options: its exit code and its one line on stderr, 0 and "" when all went well.

    One thread; datasets' cache is beside output_dir.

    Args:
        card: write the model card, which plots curves for half a second.
    """
    path = Path(options["output_dir"] + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: two ranks write the same file, and neither may read what the other has only begun.
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    mine.write_text(json.dumps(options), encoding="utf-8")
    mine.replace(path)
    words, threads = [str(path), *flags], torch.get_num_threads()
    with as_in_a_new_process("run_glue.py", *words) as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", options["output_dir"] + "-datasets")
        if not card:
            patch.setattr(stages, "write_card", lambda *_: None)
        torch.set_num_threads(1)
        try:
            stages.run_stages(parse_arguments(words))
        except CommandError as error:
            return error.exit_code, str(error)
        finally:
            torch.set_num_threads(threads)
    return 0, ""


def arguments(**options: Any) -> Arguments:
    """Options of run_glue.py, paths as text, checked as the command line's are."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    args = Arguments(**{"task_name": "MNLI", "use_cpu": True, "disable_tqdm": True, **values})
    check_together(args)
    return args


def run(**options: Any) -> Path:
    """All stages but the card's; returns output_dir."""
    args = arguments(**options)
    with as_in_a_new_process() as patch:
        patch.setattr(stages, "write_card", lambda *_: None)
        stages.run_stages(args)
    return Path(args.output_dir or "")


def train(**options: Any) -> Training:
    """The training alone, without its card; returns its state."""
    args = arguments(**{"do_train": True, **options})
    with as_in_a_new_process(), stages.prepared(args) as (run, data):
        assert data.train is not None
        return stages.train(run, data.train, data.evaluation)


def script(words: Sequence[str], modules: Mapping[str, Callable[[], object]]) -> int:
    """A command of an example (examples/common.py), after "python"; without cards, which cost a plot a run.

    Args:
        modules: what `-m NAME` calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(stages, "write_card", lambda *_: None)
        if words[0] == "run_glue.py":
            with as_in_a_new_process():
                stages.run_stages(parse_arguments([*words[1:], "--use_cpu", "--disable_tqdm"]))
        else:
            called, first = (modules[words[1]], 1) if words[0] == "-m" else (create_student.main, 0)
            patch.setattr(sys, "argv", list(words[first:]))
            called()
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# What a run left


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
