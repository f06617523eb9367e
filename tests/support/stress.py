"""Kill a small training again and again, resume it until it finishes, compare it with the one that was left alone.

    python -m tests.support.stress --kills 50                       # what `make stress` runs
    python -m tests.support.stress --kills 10 --num_processes 2
    python -m tests.support.stress --kills 5 --drop random_states   # must report a mismatch: it would see one

Every kill is SIGKILL to all processes of run_glue.py at once; before some of them, and between them, it is asked to
stop by a signal. When, is drawn from --seed and aimed at a part of the run: the start of Python, the building of an
encoder cache (which is removed first), the training, a save, an evaluation, the results, the card, the publishing (to
a small Hub of its own). What a kill hit is not taken from the aim but from what it left: temporary files by their
names, requests to the Hub, the last lines of the log. A training that finishes is compared (SHA-256 of the weights and
of the published ones; log history, predictions and results without times) and the next one begins, until all kills are
spent; the last one is then left to finish.

--drop replaces one saved state in the checkpoints before every resume, as if it had never been saved.

Exit code 0: all equal and, from 10 kills on, no part (LEAST_SHARE) was hit too seldom. Else 1.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from distilbart_mnli.files import TEMPORARY
from distilbart_mnli.train.checkpoints import checkpoints_in
from tests.support.hub_server import Hub
from tests.support.killable import LONGEST, Run
from tests.support.tiny import tiny_mnli
from tests.support.training_runs import Workshop, command, environment, outcome, sign_manifest

AIMS = {
    "encoder cache": 0.1,
    "training": 0.1,
    "save": 0.25,
    "evaluation": 0.15,
    "results": 0.12,
    "card": 0.1,
    "publish": 0.12,
    "anywhere": 0.06,
}
LEAST_SHARE = {"save": 0.15, "encoder cache": 0.08, "evaluation": 0.08, "results": 0.06, "card": 0.06, "publish": 0.06}
FILES = {"save": r"checkpoint-\d+", "results": r"model|all_results\.json|eval_.*", "card": r"README\.md|.*\.png"}
"""Names under which a part writes."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
TRAINS = "parameters are trained"  # in run_glue.py's log: reading and loading are over
EVALUATES_EVERY = 10


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
        sign_manifest(checkpoint)


def say(line: str) -> None:
    print(line, flush=True)


@dataclasses.dataclass
class Stress:
    """The trainings, the kills and their count."""

    folder: Path
    hub: Hub
    kills: int
    num_processes: int
    steps: int
    seed: int
    dropped: str | None
    finished: int = 0
    mismatches: int = 0
    signals: int = 0
    counts: Counter = dataclasses.field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.shop = Workshop(self.folder, train=88)
        tiny_mnli(self.folder / "data", train=88, matched=120, mismatched=80)
        self.cache, self.log = self.folder / "cache", self.folder / "log.txt"
        self.token = self.hub.add_user("ann")

    def start(self, output_dir: str) -> Run:
        options = self.shop.options(
            output_dir,
            max_steps=self.steps,
            save_steps=EVALUATES_EVERY,
            eval_steps=EVALUATES_EVERY,
            logging_steps=EVALUATES_EVERY // 2,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            per_device_train_batch_size=4 // self.num_processes,
            per_device_eval_batch_size=1,
            lr_scheduler_type="cosine",
            resume_from_checkpoint=True,
            push_to_hub=True,
            hub_model_id=f"ann/{output_dir}",
            license="mit",
        )
        self.asked = self.uploads
        self.began = time.time()
        variables = environment(self.folder, **self.hub.environment(self.token, self.folder / "hf", xet=False))
        return Run(command(options, (), self.num_processes), variables, self.log, self.num_processes > 1)

    def outcome(self, output_dir: str) -> dict:
        """What a finished run left here and on the Hub."""
        published = self.hub.files(f"ann/{output_dir}")
        found = outcome(self.folder / output_dir)
        return {
            **found,
            "published weights": hashlib.sha256(published["model.safetensors"]).hexdigest() == found["weights"],
            "published card": published["README.md"] == (self.folder / output_dir / "README.md").read_bytes(),
        }

    @property
    def output_dir(self) -> str:
        return f"killed-{self.dropped or 'all-kept'}-{self.finished}"

    @property
    def uploads(self) -> int:
        """Requests of a publication so far."""
        return sum(map(self.hub.asked, ("preupload", "lfs-batch", "lfs-put", "commit")))

    def run(self) -> int:
        started = time.monotonic()
        if not (self.folder / "uninterrupted/README.md").exists():
            run = self.start("uninterrupted")
            if run.process.wait(LONGEST) != 0:
                raise SystemExit(f"the uninterrupted training failed:\n{run.text}")
        expected = self.outcome("uninterrupted")
        say(f"uninterrupted: {self.steps} steps, {time.monotonic() - started:.0f} s, SHA-256 {expected['weights']}")
        spent = 0
        while spent < self.kills or self.finished == 0 or (self.folder / self.output_dir).exists():
            ended = self.attempt(self.aim(spent) if spent < self.kills else None, spent)
            spent += ended == "killed"
            if ended == "finished":
                self.compare(expected)
        hits = ", ".join(f"{count} {where}" for where, count in sorted(self.counts.items()))
        say(
            f"{spent} kills ({hits or 'none'}), {self.signals} stops by signal, {self.num_processes} process(es), "
            f"{self.finished} trainings finished, {self.mismatches} mismatches, {time.monotonic() - started:.0f} s"
        )
        if self.dropped and not self.mismatches:
            say(f"{self.dropped} were dropped before every resume, and nothing was noticed")
        missed = [
            name for name, share in LEAST_SHARE.items() if spent >= 10 and self.counts[name] < int(share * spent)
        ]
        if missed:
            say(f"too few kills hit: {', '.join(missed)}")
        return 1 if self.mismatches or (missed and not self.dropped) else 0

    def aim(self, spent: int) -> str:
        """What to hit next: drawn, unless the kills that are left are needed for what was hit too seldom."""
        if self.dropped:
            return "save"
        missing = {name: share * self.kills - self.counts[name] for name, share in LEAST_SHARE.items()}
        if self.kills - spent <= 1.5 * sum(max(0.0, count) for count in missing.values()):
            return max(missing, key=missing.__getitem__)
        return self.random.choices(list(AIMS), list(AIMS.values()))[0]

    def attempt(self, aim: str | None, number: int) -> str:
        """Start or resume the training and end it: "killed", "signalled", or "finished" if it came to its end."""
        target = self.folder / self.output_dir
        if self.dropped and target.exists():
            drop(target, self.dropped)
        if aim == "encoder cache":
            shutil.rmtree(self.cache)
        known = {path.name for folder in (target, self.cache) for path in folder.glob("*")}
        started = time.monotonic()
        run = self.start(self.output_dir)
        how = self.random.choices(["kill", "signal, then kill", "signal"], [0.6, 0.2, 0.2])[0]
        by = self.random.choice(SIGNALS if self.num_processes == 1 else SIGNALS[:1])
        if self.dropped:
            how = "kill"
        try:
            self.wait_for(run, aim, known)
            if run.process.poll() is None:
                at = time.monotonic() - started
                hit = self.where(run, known)
                if how == "signal":
                    run.ask(by)
                elif how == "signal, then kill":
                    run.process.send_signal(by)
                    time.sleep(self.random.uniform(0, 0.1))
                    hit = self.where(run, known)
                if run.process.poll() is None:
                    run.kill()
                    hit = self.where(run, known, hit)
                if run.process.returncode != 0:
                    killed = how != "signal"
                    self.counts[hit] += killed
                    self.signals += not killed
                    newest = max([int(path.name.split("-")[1]) for path in checkpoints_in(target)], default=0)
                    say(f"{number + 1}: {how}, in {hit}, after {at:.1f} s; newest checkpoint: step {newest}")
                    return "killed" if killed else "signalled"
        finally:
            run.kill()
        if run.process.returncode != 0:
            raise SystemExit(f"exit code {run.process.returncode} instead of a resumed training:\n{run.text}")
        return "finished"

    def new(self, known: set[str], part: str) -> int:
        """How many temporary files or folders of a part are there that were not before."""
        if part == "encoder cache":
            return sum(path.name not in known for path in self.cache.glob("*.partial"))
        names = (path.name for path in (self.folder / self.output_dir).glob(TEMPORARY + "*"))
        pattern = re.compile(rf"{re.escape(TEMPORARY)}(?:old-|[0-9a-f]+-)(?:{FILES[part]})")
        return sum(name not in known and pattern.fullmatch(name) is not None for name in names)

    def where(self, run: Run, known: set[str], otherwise: str = "") -> str:
        """The part that a run is in, or was when it was killed."""
        for part in (*FILES, "encoder cache"):
            if self.new(known, part):
                return part
        if otherwise:
            return otherwise
        if self.uploads > self.asked:
            return "publish"
        if self.since("README.md"):
            return "publish"  # the smoke test
        lines = re.findall(r"parameters are trained|step \d+ of|step \d+: eval|trained \d+ steps|: accuracy", run.text)
        last = lines[-1] if lines else ""
        if last == ": accuracy":
            return "card"
        if last.startswith("trained"):
            return "results"
        step = re.fullmatch(r"step (\d+) of", last)
        if step and int(step[1]) % EVALUATES_EVERY == 0:
            return "evaluation"
        return "training" if lines else "start"

    def since(self, name: str) -> bool:
        """Whether this attempt has written a file of output_dir."""
        with contextlib.suppress(OSError):
            return (self.folder / self.output_dir / name).stat().st_mtime > self.began
        return False

    def wait_for(self, run: Run, aim: str | None, known: set[str]) -> None:
        """Return at the moment of the kill, or when the training is over."""
        draw, process = self.random, run.process
        early = draw.random() < 0.5
        signs: dict[str | None, Callable[[], bool]] = {
            "training": lambda: TRAINS in run.text,
            "evaluation": lambda: self.where(run, known) == "evaluation",
            "card": lambda: ": accuracy" in run.text,
            "publish": lambda: self.uploads > self.asked or (early and self.since("README.md")),
        }
        for part in ("save", "results", "encoder cache"):
            signs[part] = lambda part=part: self.new(known, part) > 0
        longest = {"anywhere": 8.0, "training": 4.0, "evaluation": 0.2, "card": 1.0, "publish": 1.0}
        times = draw.randint(1, {"save": 4, "evaluation": 4, "results": 4}.get(str(aim), 1))
        if self.dropped:  # something that is dropped from, and steps that miss it
            times, signs["save"] = 1, lambda: self.since(f"checkpoint-{2 * EVALUATES_EVERY}")
        deadline = time.monotonic() + LONGEST
        was = False
        while aim in signs and times and process.poll() is None and time.monotonic() < deadline:
            now = signs[aim]()
            times -= now and not was
            was = now
            time.sleep(0.0005 if aim in ("save", "results", "encoder cache") else 0.02)
        delay = LONGEST if aim is None else draw.choice([0.0, draw.uniform(0, longest.get(aim, 0.05))])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)

    def compare(self, expected: dict) -> None:
        found = self.outcome(self.output_dir)
        different = [key for key in expected if found[key] != expected[key]]
        self.mismatches += bool(different)
        say(
            f"training {self.finished + 1} finished: SHA-256 {found['weights']}: "
            + (f"MISMATCH in {', '.join(different)}" if different else "equal")
        )
        self.finished += 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.stress", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--num_processes", type=int, default=1, choices=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drop", choices=sorted(DROPS), help="a saved state to replace before every resume")
    options = parser.parse_args(argv)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="stress-") as name, Hub(Path(name) / "hub") as hub:
        where, how_many = Path(name), (options.kills, options.num_processes, options.steps, options.seed)
        return Stress(where, hub, *how_many, options.drop).run()


if __name__ == "__main__":
    sys.exit(main())
