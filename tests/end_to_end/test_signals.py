"""SIGTERM, SIGINT, SIGHUP and SIGUSR1 end a run within a batch: a checkpoint, 128 + n, and how to go on; the run that
goes on ends as if nothing had happened. Signals come from the kernel, to processes of their own or to this one.
"""

import itertools
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from distilbart_mnli.train import evaluation, objective
from distilbart_mnli.train.checkpoints import checkpoints_in, read_state
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.signals import StopRequested, StopSignals
from distilbart_mnli.train.state import load_random_states
from tests.support.in_process import train_here
from tests.support.launch import launcher, start
from tests.support.tiny import ROOT, tiny_mnli
from tests.support.training_runs import Workshop, command, environment, outcome

pytestmark = pytest.mark.xdist_group("signals")


def long_options(shop: Workshop, output_dir: str, **changes) -> dict:
    """A training of some seconds that saves only when it is told to, and at the end."""
    return shop.options(
        output_dir, **{"max_steps": 120, "save_steps": 1000, "eval_steps": 40, "logging_steps": 10, **changes}
    )


class Watched:
    """The output of a process, read while it runs."""

    def __init__(self, process: subprocess.Popen):
        self.process, self.lines = process, []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, text: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            assert time.monotonic() < deadline and self.process.poll() is None, "".join(self.lines)
            time.sleep(0.002)

    def end(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code and output. What is still there after `seconds` is killed, and the test fails."""
        try:
            code = self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        self._reader.join(10)
        return code, "".join(self.lines)


def go_on_command(output: str) -> list[str]:
    """The words of the command that the last line says to go on with."""
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    words = shlex.split(lines[0].partition("go on with: ")[2])
    assert words[-2:] == ["--resume_from_checkpoint", "true"]
    return words


# ---------------------------------------------------------------------------------------------------------------------
# Between two steps


def test_each_signal_stops_with_its_code_and_the_printed_command_goes_on(shop):
    """One training is stopped three times, by each of the signals, goes on by what was printed, and ends as if
    nothing had happened."""
    assert train_here(long_options(shop, "uninterrupted")) == (0, "")
    options = long_options(shop, "stopped")
    folder = Path(options["output_dir"])
    process, last = start(command(options), environment(shop.folder)), 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)):
        watched = Watched(process)
        watched.wait_for(f"step {last // 10 * 10 + 10} of 120")
        os.kill(process.pid, number)
        found, output = watched.end()
        assert found == code, output
        stopped = re.search(rf"error: stopped by {number.name} after step (\d+) of 120; go on with: python ", output)
        assert stopped, output
        assert "Traceback" not in output
        assert int(stopped[1]) > last
        last = int(stopped[1])
        newest = checkpoints_in(folder)[-1]
        assert newest.name == f"checkpoint-{last}" and read_state(newest)["global_step"] == last
        words = go_on_command(output)
        assert words[:2] == ["python", "run_glue.py"]
        if number != signal.SIGUSR1:
            process = start([sys.executable, *words[1:]], environment(shop.folder), cwd=ROOT)
    assert train_here(options, tuple(words[3:])) == (0, "")
    assert outcome(folder) == outcome(shop.folder / "uninterrupted")


@pytest.mark.parametrize("first", [[], [signal.SIGTERM], [signal.SIGUSR1, signal.SIGINT, signal.SIGTERM]])
def test_interrupts_are_counted_whatever_other_signals_came(monkeypatch, first):
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with StopSignals() as signals:
        for number in first:
            signal.raise_signal(number)
        if signal.SIGINT not in first:
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit) as left:
            signal.raise_signal(signal.SIGINT)
    assert left.value.code == 130
    assert signals.received == (first or [signal.SIGINT])[0]


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signals.check()
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(StopRequested):
                signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)


# ---------------------------------------------------------------------------------------------------------------------
# In the middle of something

WITH_BEST = {
    "load_best_model_at_end": True,
    "metric_for_best_model": "accuracy",
    "eval_steps": 1,
    "max_steps": 6,
    "early_stopping_patience": 50,
    "per_device_eval_batch_size": 4,
}


@pytest.fixture(scope="module")
def with_best(shop) -> dict:
    options = shop.options("with-best", **WITH_BEST)
    assert train_here(options) == (0, "")
    return outcome(Path(options["output_dir"]))


def signal_at(monkeypatch, module, name: str, calls: set[int], number: int = signal.SIGTERM) -> None:
    """Send this process a signal at the n-th calls of a function."""
    function, count = getattr(module, name), itertools.count(1)

    def signalled(*arguments, **options):
        if next(count) in calls:
            signal.raise_signal(number)
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, signalled)


def test_a_signal_in_an_evaluation_saves_at_once_and_the_evaluation_is_done_again(shop, with_best, monkeypatch):
    """Twice in one evaluation, before its first batch and in its second set, and once in the last one."""
    options = shop.options("in-evaluations", **WITH_BEST)
    folder = Path(options["output_dir"])
    seen = []
    for rounds in ({9}, {9}, {1}, {3 * 10 - 1}):  # 6 + 4 batches an evaluation
        rounds_before = len(seen)

        def check(self, number=0, rounds=rounds, whole=StopSignals.check, before=rounds_before):
            if sys._getframe(1).f_code.co_name == "_outputs":  # between two batches of an evaluation
                seen.append(number)
                if len(seen) - before in rounds:
                    signal.raise_signal(signal.SIGHUP)
            whole(self, number)

        with monkeypatch.context() as patch:
            patch.setattr(StopSignals, "check", check)
            code, error = train_here(options, ("--resume_from_checkpoint",))
        assert code == 129 and error.startswith("stopped by SIGHUP after step "), (code, error)
        assert len(seen) - rounds_before == max(rounds)  # not one batch more
        newest = checkpoints_in(folder)[-1]
        assert read_state(newest)["resume"]["progress"]["evaluation_due"]
        assert newest.name == f"checkpoint-{error.split()[5]}"
    assert newest.name == "checkpoint-3"
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(folder) == with_best


def test_an_evaluation_that_is_due_may_be_given_up(shop, monkeypatch):
    options = shop.options("given-up", max_steps=4, eval_steps=2)
    with monkeypatch.context() as patch:
        signal_at(patch, evaluation, "predict_logits", {1})
        assert train_here(options)[0] == 143
    assert train_here({**options, "eval_strategy": "no"}, ("--resume_from_checkpoint",)) == (0, "")


def test_a_signal_in_a_step_of_many_batches_leaves_it_undone(shop, monkeypatch):
    """16 micro-batches a step, with dropout: the step is done again with the same random numbers."""
    changes = {"per_device_train_batch_size": 1, "effective_batch_size": 16, "max_steps": 4, "save_steps": 100}
    assert train_here(shop.options("long-steps", **changes)) == (0, "")
    options = shop.options("long-step-left", **changes)
    signal_at(monkeypatch, objective, "label_losses", {2 * 16 + 6})
    code, error = train_here(options)
    assert code == 143 and error.startswith("stopped by SIGTERM after step 2 of 4; go on with: ")
    monkeypatch.undo()
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(Path(options["output_dir"])) == outcome(shop.folder / "long-steps")


def test_before_the_first_step_there_is_nothing_to_save(shop, monkeypatch):
    options = shop.options("first-step", max_steps=2)
    signal_at(monkeypatch, objective, "label_losses", {1})
    code, error = train_here(options)
    assert code == 143 and error.startswith("stopped by SIGTERM after step 0 of 2")
    assert not checkpoints_in(Path(options["output_dir"]))
    monkeypatch.undo()
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")


def stopped_in_predict_logits(monkeypatch, call: int) -> None:
    signal_at(monkeypatch, evaluation, "predict_logits", {call}, signal.SIGUSR1)


@pytest.mark.parametrize("save_strategy", ["steps", "no"])
def test_a_signal_in_the_last_evaluation_keeps_the_model_and_says_how_to_evaluate_it(shop, monkeypatch, save_strategy):
    options = shop.options(f"last-{save_strategy}", max_steps=2, eval_strategy="no", save_strategy=save_strategy)
    folder = Path(options["output_dir"])
    with monkeypatch.context() as patch:
        stopped_in_predict_logits(patch, 2)
        code, error = train_here(options)
    assert code == 138 and error.startswith("stopped by SIGUSR1 in the evaluation; again with: ")
    assert (folder / "model.safetensors").is_file() and not list(folder.glob("eval_*"))
    weights = (folder / "model.safetensors").read_bytes()
    words = shlex.split(error.partition("again with: ")[2])
    assert train_here(options, tuple(words[3:])) == (0, "")
    assert (folder / "eval_results_mnli-mm.txt").is_file() and (folder / "model.safetensors").read_bytes() == weights


def test_a_signal_in_an_evaluation_or_a_prediction_alone_is_one_line(shop, tmp_path, monkeypatch):
    data = shutil.copytree(shop.folder / "data", tmp_path / "data")
    for name in ("matched", "mismatched"):
        shutil.copyfile(data / f"dev_{name}.tsv", data / f"test_{name}.tsv")
    options = shop.options(tmp_path / "out", do_train=False, do_predict=True, data_dir=str(data), eval_strategy="no")
    for call, what in ((2, "the evaluation"), (4, "the predictions of ")):
        with monkeypatch.context() as patch:
            stopped_in_predict_logits(patch, call)
            code, error = train_here(options)
        assert code == 138 and error.startswith(f"stopped by SIGUSR1 in {what}")
    assert not list((tmp_path / "out").glob("MNLI-mm.tsv"))
    assert train_here(options) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="makes a terminal of its own")
def test_a_terminal_that_goes_away_ends_the_run_with_a_checkpoint(shop):
    """As a closed ssh session does it: SIGHUP, and writing to the terminal, where the progress bar is, fails."""
    options = long_options(shop, "closed", disable_tqdm=False, max_steps=3000)
    ours, theirs = pty.openpty()
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", take, *command(options)],
        env=environment(shop.folder),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"step 10 of 3000" not in shown:
        shown += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(60) == 129
    newest = checkpoints_in(Path(options["output_dir"]))[-1]
    assert 10 <= read_state(newest)["global_step"] < 3000


def test_a_signal_during_the_last_save_stops_before_the_evaluation(shop, monkeypatch):
    options = long_options(shop, "last-save", max_steps=2, eval_strategy="no")
    whole_save = Training._save

    def save(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        whole_save(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_save", save)
        code, error = train_here(options)
    assert code == 143 and error.startswith("stopped by SIGTERM after step 2 of 2; go on with: ")
    folder = Path(options["output_dir"])
    assert [path.name for path in checkpoints_in(folder)] == ["checkpoint-2"] and not list(folder.glob("eval_*"))
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert (folder / "eval_results_mnli.txt").is_file()


def workers_of(launcher: int) -> dict[int, int]:
    """Rank -> process of a launcher's workers."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1]) != launcher:
                continue
            environ = dict(pair.partition("=")[::2] for pair in path.joinpath("environ").read_text().split("\0"))
        except OSError:
            continue
        if "LOCAL_RANK" in environ:
            found[int(environ["RANK"])] = int(path.name)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_one_signalled_rank_of_two_stops_both_after_the_same_step(shop):
    options = long_options(shop, "two-stopped", max_steps=60)
    watched = Watched(start(command(options, processes=2), environment(shop.folder)))
    watched.wait_for("step 10 of 60")
    workers = workers_of(watched.process.pid)
    assert sorted(workers) == [0, 1]
    os.kill(workers[1], signal.SIGTERM)  # not the first one, which writes
    code, output = watched.end()
    assert code != 0 and "exitcode  : 143" in output, output  # the launcher's own code is 1
    words = go_on_command(output)
    assert words[0] == "accelerate"
    step = int(re.search(r"stopped by SIGTERM after step (\d+) of 60", output)[1])
    (left,) = checkpoints_in(Path(options["output_dir"]))
    assert left.name == f"checkpoint-{step}" and read_state(left)["resume"]["recipe"]["num_processes"] == 2
    first, second = load_random_states(left / "random_states.safetensors")
    assert not torch.equal(first["cpu"], second["cpu"])  # both ranks' own: test_resume.py goes on from such a one


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_launcher_that_is_terminated_in_an_evaluation_leaves_a_checkpoint(shop):
    """`accelerate launch` kills its workers 30 s after it was asked to end; the evaluation here takes longer."""
    options = long_options(shop, "launcher-stopped", eval_steps=10, per_device_eval_batch_size=1)
    options["data_dir"] = str(tiny_mnli(shop.folder / "many", train=44, matched=12_000))
    path = Path(options["output_dir"] + ".json")
    path.write_text(json.dumps(options), encoding="utf-8")
    watched = Watched(start(launcher("multi_cpu.yaml", "run_glue.py", path), environment(shop.folder)))
    watched.wait_for("step 10 of 120")
    time.sleep(0.3)
    began = time.monotonic()
    watched.process.terminate()
    code, output = watched.end()
    assert code != 0 and time.monotonic() - began < 25, output
    assert "stopped by SIGTERM after step 10 of 120" in output
    (left,) = checkpoints_in(Path(options["output_dir"]))
    assert read_state(left)["resume"]["progress"]["evaluation_due"]
