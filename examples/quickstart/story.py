"""The quickstart's work: the repository's commands on one folder, run inside this process.

That saves each of them the start of Python. What they print goes to quickstart.log; while one runs, its newest log
line is shown every few seconds.
"""

import contextlib
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

import datasets
from transformers import pipeline

import compare_models
import create_student
import run_glue
from examples.common import ROOT, results, shown
from examples.quickstart import make_data

SCRIPTS = {
    "-m examples.quickstart.make_data": make_data.main,
    "run_glue.py": run_glue.run_stages,
    "create_student.py": create_student.main,
    "compare_models.py": compare_models.main,
}
STUDENTS = {"student-2-1": 1, "student-2-2": 2}  # name -> decoder layers
LOG = "quickstart.log"
TOPICS, TEMPLATE = ["music", "cooking", "travel"], "It is about {}"
TEXTS = {
    "Ann sells violins at dawn": "music",
    "Today Tom buys pizza": "cooking",
    "At sea Eve finds maps": "travel",
    "And today Max loses guitars at home": "music",
    "Today at work Eve buys soup at midnight": "cooking",
}

Scores = dict[str, tuple[float, float]]  # model -> accuracy on the matched and the mismatched set, in percent


class Stages:
    """One command after the other. `told`: print each before it runs, and its scores and seconds after it."""

    def __init__(self, folder: Path, log: TextIO, told: bool = True):
        self.folder, self.log, self.told = folder, log, told
        self.here = shown(folder)
        self.scores: Scores = {}

    def run(
        self, script: str, *words: object, out: TextIO | None = None, result: Callable[[], str] = lambda: "done"
    ) -> None:
        """Run one of SCRIPTS, its stdout into `out` or the log, and tell `result`. Raises what the script raises."""
        argv = [script, *map(str, words)]
        if self.told:
            print(f"\n$ python {shlex.join([*script.split(), *argv[1:]])}", flush=True)
        started = time.monotonic()
        with (
            newest_line(Path(self.log.name)) if self.told else contextlib.nullcontext(),
            contextlib.chdir(ROOT),
            patch.object(sys, "argv", argv),
            patch.object(datasets.config, "HF_DATASETS_CACHE", str(self.folder / "cache")),  # tokens stay here too
            contextlib.redirect_stdout(out or self.log),
            contextlib.redirect_stderr(self.log),
        ):
            SCRIPTS[script]()
        line = f"  {result()}, {time.monotonic() - started:.1f} s"
        if self.told:
            print(line, flush=True)

    def glue(self, recipe: str, name: str, *words: object) -> None:
        """run_glue.py with args/quickstart/`recipe`.json into the folder `name`; its scores are kept."""

        def result() -> str:
            values = results(self.folder / name)
            matched, mismatched = (100 * values[key] for key in ("eval_accuracy", "eval_accuracy_mm"))
            self.scores[name] = (matched, mismatched)
            return f"{name}: {matched:.1f} and {mismatched:.1f} % right"

        where = ("--data_dir", f"{self.here}/data", "--encoder_cache_dir", f"{self.here}/cache")
        output = ("--output_dir", f"{self.here}/{name}")
        self.run("run_glue.py", f"args/quickstart/{recipe}.json", *words, *output, *where, result=result)


@contextlib.contextmanager
def newest_line(log: Path, every: float = 8.0) -> Iterator[None]:
    """While open, the log's newest line, without its clock, every 8 seconds: nobody sits before a silent terminal."""
    over, out, started = threading.Event(), sys.stdout, time.monotonic()

    def show() -> None:
        before = ""
        while not over.wait(every):
            *_, line = ["", *log.read_text(encoding="utf-8", errors="replace").splitlines()]
            news, before = ("" if line == before else line.partition(" INFO ")[2][:90]), line
            print(f"  ... {time.monotonic() - started:.0f} s  {news}".rstrip(), file=out, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def train(stages: Stages, seed: int = 0) -> Scores:
    """Data, teacher, copied and fine-tuned students; the accuracy of each."""
    here, seeded = stages.here, ("--seed", seed)
    stages.run("-m examples.quickstart.make_data", "--output_dir", here, *seeded)
    stages.glue("teacher", "teacher", "--config_name", f"{here}/teacher-config", *seeded)
    for name, layers in STUDENTS.items():
        copied = f"{name}-copied"
        words: list[Any] = ["--teacher_model_name_or_path", f"{here}/teacher", "--save_path", f"{here}/{copied}"]
        stages.run("create_student.py", *words, "--student_encoder_layers", 2, "--student_decoder_layers", layers)
        stages.glue("evaluate", copied, "--model_name_or_path", f"{here}/{copied}")
        stages.glue("student", name, "--model_name_or_path", f"{here}/{copied}", *seeded)
    return stages.scores


def answers(model: Path) -> dict[str, tuple[str, float]]:
    """text -> the topic that stock transformers' zero-shot pipeline gives it, and its score."""
    classifier = pipeline("zero-shot-classification", model=str(model))
    given = [classifier(text, TOPICS, hypothesis_template=TEMPLATE) for text in TEXTS]
    return {answer["sequence"]: (answer["labels"][0], answer["scores"][0]) for answer in given}
