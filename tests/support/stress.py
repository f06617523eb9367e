"""Kill a small training again and again, resume it until it finishes, compare it with the one that was left alone.

    python -m tests.support.stress --kills 50                       # what `make stress` runs: about 8 minutes
    python -m tests.support.stress --kills 10 --num_processes 2
    python -m tests.support.stress --kills 5 --drop random_states   # must report a mismatch: it would see one

Every kill is SIGKILL to all processes of run_glue.py at once. When, is drawn from --seed: anywhere from the start of
Python on, in the training, in a save (aimed at by watching for the temporary folder) or in the building of an encoder
cache (which is removed first, so that it has to be built again). What a kill hit is not taken from the aim but from
what it left: a new `.writing-*` is a save cut short (rotation of old checkpoints included), a new `*.partial` a cache
cut short. A training that finishes is compared (SHA-256 of the weights; log history, predictions and results without
times) and the next one begins, until all kills are spent; the last one is then left to finish.

--drop replaces one saved state in the checkpoints before every resume, as if it had never been saved.

Exit code 0: all equal and, from 10 kills on, at least a fifth of them in a save and a tenth in a cache build. Else 1.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from distilbart_mnli.files import TEMPORARY
from distilbart_mnli.train.checkpoints import MANIFEST, checkpoints_in
from tests.support.training_runs import Workshop, command, environment, outcome

AIMS = {"save": 0.4, "encoder cache": 0.2, "training": 0.25, "anywhere": 0.15}
LEAST_SHARE = {"save": 0.2, "encoder cache": 0.1}
TRAINS = "parameters are trained"  # in run_glue.py's log: reading and loading are over
POLL_SECONDS = 0.0005
LONGEST_ATTEMPT = 600.0


# ---------------------------------------------------------------------------------------------------------------------
# Dropped states


def fresh_random_states(checkpoint: Path) -> None:
    """The generators as a new process would have them: at the start of their sequence."""
    path = checkpoint / "random_states.safetensors"
    fresh = {name: torch.Generator().manual_seed(42 + int(name.split("/")[0])).get_state() for name in load_file(path)}
    save_file(fresh, path)


def no_moments(checkpoint: Path) -> None:
    """AdamW's averages back at zero, its step count kept."""
    path = checkpoint / "optimizer.safetensors"
    save_file(
        {name: t if name.endswith("/step") else torch.zeros_like(t) for name, t in load_file(path).items()}, path
    )


DROPS: dict[str, Callable[[Path], None]] = {"random_states": fresh_random_states, "moments": no_moments}


def drop(output_dir: Path, state: str) -> None:
    """Replace a state in all whole checkpoints, manifest included."""
    for checkpoint in checkpoints_in(output_dir):
        DROPS[state](checkpoint)
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        for name in manifest:
            data = (checkpoint / name).read_bytes()
            manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (checkpoint / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# One attempt


def inodes(folder: Path, pattern: str) -> set[tuple[str, int]]:
    """Name and inode of what matches: a folder made anew under an old name is another one."""
    found = set()
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            found.add((path.name, path.stat().st_ino))
    return found


class Run:
    """run_glue.py in one or more processes, all of which can be killed at once."""

    def __init__(self, words: list[str], folder: Path, log: Path):
        self.mark, self.log = uuid.uuid4().hex, log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                words,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(folder, STRESS_RUN=self.mark),
                start_new_session=True,
            )

    def _all(self) -> list[int]:
        """Processes of this run; the launcher's workers have the mark in their environment as well."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def kill(self) -> None:
        """SIGKILL to the process group and to whatever left it; returns when all of them are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        while others := self._all():
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            self.process.poll()
        self.process.wait()

    @property
    def trains(self) -> bool:
        return TRAINS in self.log.read_text(errors="replace")


@dataclasses.dataclass
class Stress:
    """The trainings, the kills and their count."""

    folder: Path
    kills: int
    num_processes: int
    steps: int
    seed: int
    dropped: str | None
    finished: int = 0
    mismatches: int = 0
    counts: Counter = dataclasses.field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.shop = Workshop(self.folder, train=88)
        self.cache, self.log = self.folder / "cache", self.folder / "log.txt"

    def words(self, output_dir: str) -> list[str]:
        options = self.shop.options(
            output_dir,
            max_steps=self.steps,
            save_steps=5,
            eval_steps=5,
            logging_steps=3,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            per_device_train_batch_size=4 // self.num_processes,
            lr_scheduler_type="cosine",
            resume_from_checkpoint=True,
        )
        return command(options, (), self.num_processes)

    def left_alone(self) -> dict:
        """What an uninterrupted training leaves; one that is in the folder already counts."""
        if (self.folder / "uninterrupted/all_results.json").exists():
            return outcome(self.folder / "uninterrupted")
        run = Run(self.words("uninterrupted"), self.folder, self.log)
        if run.process.wait(LONGEST_ATTEMPT) != 0:
            raise SystemExit(f"the uninterrupted training failed:\n{self.log.read_text(errors='replace')}")
        return outcome(self.folder / "uninterrupted")

    def run(self) -> int:
        started = time.monotonic()
        expected = self.left_alone()
        say(f"uninterrupted: {self.steps} steps, {time.monotonic() - started:.0f} s, SHA-256 {expected['weights']}")
        spent = 0
        while spent < self.kills or self.finished == 0 or (self.folder / self.output_dir).exists():
            if self.attempt(self.aim(spent) if spent < self.kills else None, spent):
                spent += 1
            else:
                self.compare(expected)
        hits = ", ".join(f"{count} {WHERE[where]}" for where, count in sorted(self.counts.items()))
        say(
            f"{spent} kills ({hits or 'none'}), {self.num_processes} process(es), {self.finished} trainings finished, "
            f"{self.mismatches} mismatches, {time.monotonic() - started:.0f} s"
        )
        if self.dropped and not self.mismatches:
            say(f"{self.dropped} were dropped before every resume, and nothing was noticed")
        missed = [name for name, share in LEAST_SHARE.items() if spent >= 10 and self.counts[name] < share * spent]
        if missed:
            say(f"too few kills hit: {', '.join(missed)}")
        return 1 if self.mismatches or (missed and not self.dropped) else 0

    @property
    def output_dir(self) -> str:
        return f"killed-{self.dropped or 'all-kept'}-{self.finished}"

    def aim(self, spent: int) -> str:
        """What to hit next: drawn, unless the kills that are left are needed for what was hit too seldom."""
        if self.dropped:
            return "save"  # the second one or a later one, so that there is a checkpoint to drop something from
        for name, share in LEAST_SHARE.items():
            if self.kills - spent <= 1.5 * (share * self.kills - self.counts[name]):
                return name
        return self.random.choices(list(AIMS), list(AIMS.values()))[0]

    def attempt(self, aim: str | None, number: int) -> bool:
        """Start or resume the training and kill it; False if it finished instead."""
        target = self.folder / self.output_dir
        if self.dropped and target.exists():
            drop(target, self.dropped)
        if aim == "encoder cache":
            shutil.rmtree(self.cache)
        watched = {"save": (target, TEMPORARY + "*"), "encoder cache": (self.cache, "*.partial")}
        before = {name: inodes(*where) for name, where in watched.items()}
        started = time.monotonic()
        run = Run(self.words(self.output_dir), self.folder, self.log)
        try:
            self.wait_for(run, aim, watched, before)
            if run.process.poll() is None:
                at = time.monotonic() - started
                run.kill()
                hit = next((name for name in watched if inodes(*watched[name]) - before[name]), None)
                hit = hit or ("training" if run.trains else "start")
                self.counts[hit] += 1
                newest = max([int(path.name.split("-")[1]) for path in checkpoints_in(target)], default=0)
                say(f"kill {number + 1}: {WHERE[hit]}, after {at:.1f} s; newest checkpoint: step {newest}")
                return True
        finally:
            run.kill()
        if run.process.returncode != 0:
            text = self.log.read_text(errors="replace")
            raise SystemExit(f"exit code {run.process.returncode} instead of a resumed training:\n{text}")
        return False

    def wait_for(self, run: Run, aim: str | None, watched: dict, before: dict) -> None:
        """Return at the moment of the kill, or when the training is over."""
        draw, process = self.random, run.process
        deadline = time.monotonic() + LONGEST_ATTEMPT
        delay, which = draw.uniform(0, 8), draw.choice([2, 3] if self.dropped else [1, 2, 2, 3, 4, 6])
        if aim == "training":
            while not run.trains and process.poll() is None:
                time.sleep(0.02)
            delay = draw.uniform(0, 4)
        elif aim in watched:
            known, folders = before[aim], 0
            wanted = which if aim == "save" else draw.choice([1, 1, 2, 3])
            while folders < wanted and process.poll() is None and time.monotonic() < deadline:
                now = inodes(*watched[aim])
                folders += len(now - known)
                known = known | now
                time.sleep(POLL_SECONDS)
            delay = draw.choice([0.0, draw.uniform(0, 0.01), draw.uniform(0, 0.05)])
        elif aim is None:
            delay = LONGEST_ATTEMPT
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)

    def compare(self, expected: dict) -> None:
        found = outcome(self.folder / self.output_dir)
        different = [key for key in expected if found[key] != expected[key]]
        self.mismatches += bool(different)
        say(
            f"training {self.finished + 1} finished: SHA-256 {found['weights']}: "
            + (f"MISMATCH in {', '.join(different)}" if different else "equal")
        )
        self.finished += 1


WHERE = {
    "save": "inside a save",
    "encoder cache": "inside an encoder-cache build",
    "training": "elsewhere in the training",
    "start": "before the training",
}


def say(line: str) -> None:
    print(line, flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.stress", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--num_processes", type=int, default=1, choices=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drop", choices=sorted(DROPS), help="a saved state to replace before every resume")
    options = parser.parse_args(argv)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        stress = Stress(Path(folder), options.kills, options.num_processes, options.steps, options.seed, options.drop)
        return stress.run()


if __name__ == "__main__":
    sys.exit(main())
