"""What every attack starts from: whole folders to copy and damage, the commands of a user, and a Hub."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import create_student
from distilbart_mnli.errors import run_command
from tests.support import attack_damages as damages
from tests.support.attack import SECRET, TOKEN, Workplace
from tests.support.attack_damages import DAMAGES
from tests.support.hub_server import Hub
from tests.support.in_process import as_in_a_new_process, glue
from tests.support.publishing import log_in
from tests.support.training_runs import Workshop, digest, outcome

REPO = "ann/distilbart-mnli-2-1"
DONE_OR_REFUSED, DONE = frozenset({0, 2}), frozenset({0})


def command(main: Callable[[], None], *words: object) -> int:
    """One of the small scripts, with this command line."""
    with as_in_a_new_process("script.py", *words):
        return run_command(main)


class Bench:
    """What every kind starts from: whole folders to copy, and a Hub."""

    def __init__(self, workplace: Workplace, hub: Hub, patch: pytest.MonkeyPatch):
        self.workplace, self.hub, self.patch = workplace, hub, patch
        self.folder = workplace.folder / "whole"
        self.shop = Workshop(self.folder, train=16, decoder_layers=1)
        damages.card(self.folder / "student", "license: mit\nlanguage: en")
        self.token = hub.add_user("ann")
        self.run = self.folder / "run"
        assert self.train(self.folder, "run") == 0
        self.reference = outcome(self.run)
        self.checkpoints = self.run.rename(self.folder / "with checkpoints")
        self.run.mkdir()
        for path in self.checkpoints.iterdir():
            if path.is_file():
                shutil.copy(path, self.run)

    def options(self, here: Path, output_dir: str = "out", **changes: Any) -> dict[str, Any]:
        """Of a training of 4 steps with 4 checkpoints, the best one kept."""
        changes = {"num_train_epochs": 2, "load_best_model_at_end": True, "eval_steps": 1, **changes}
        changes = {"metric_for_best_model": "accuracy", "dataloader_num_workers": 0, "use_cpu": True, **changes}
        return self.shop.options(here / output_dir, **changes)

    def train(self, here: Path, output_dir: str = "out", *flags: object, **changes: Any) -> int:
        path = here / "args.json"
        path.write_text(json.dumps(self.options(here, output_dir, **changes)), encoding="utf-8")
        return glue(path, *flags)

    def evaluate(self, here: Path, model: Path | None = None) -> int:
        words = {"model_name_or_path": model or self.folder / "student", "task_name": "MNLI"}
        words |= {"data_dir": self.folder / "data", "output_dir": here / "out", "max_seq_length": 64}
        flags = [word for name, value in words.items() for word in (f"--{name}", value)]
        return glue(*flags, "--do_eval", "--use_cpu", "--disable_tqdm")

    def publish(self, here: Path) -> int:
        return glue("--push_to_hub", "--hub_model_id", REPO, "--output_dir", here / "out")

    def student_of(self, here: Path, teacher: object) -> int:
        words = ("--teacher_model_name_or_path", teacher, "--save_path", here / "new", "--student_encoder_layers", 1)
        return command(create_student.main, *words)

    def with_hub(self) -> None:
        """A Hub as it was at first, that this process is logged in to; of ann's is there a teacher."""
        self.hub.faults.clear()
        self.hub.repos.clear()
        self.hub.objects.clear()
        self.hub.requests.clear()
        self.hub.add_repo("ann/teacher", self.folder / "student")
        log_in(self.patch, self.hub, self.token, xet=False)

    def wrong_on_the_hub(self) -> str | None:
        """What is there is the trained model, or nothing."""
        if ("model", REPO) not in self.hub.repos:
            return None
        there = self.hub.files(REPO)
        weights = there.get("model.safetensors")
        if weights is not None and hashlib.sha256(weights).hexdigest() != self.reference["weights"]:
            return "other weights were published"
        if any(SECRET in content or TOKEN.encode() in content for content in there.values()):
            return "a secret was published"
        return None


def damaged_files(
    bench: Bench, whole: Path, place: str, only: Callable[[Path], bool] = lambda path: True
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(name, how to lay out HERE/`place` as a copy of `whole` with one file damaged), for every file and damage."""

    def lay_out(here: Path, name: Path, how: str) -> None:
        shutil.copytree(whole, here / place)
        DAMAGES[how](here / place / name, bench.workplace.precious)

    for path in sorted(path for path in whole.rglob("*") if path.is_file() and only(path)):
        name = path.relative_to(whole)
        for how in DAMAGES:
            yield f"{name}: {how}", partial(lay_out, name=name, how=how)


def predictions(here: Path) -> str:
    return digest(here / "out" / "eval_predictions_mnli.tsv")
