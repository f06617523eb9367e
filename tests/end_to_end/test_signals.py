"""SIGTERM, SIGINT and SIGUSR1 end a training after the optimizer step: a checkpoint, 128 + n, and how to go on.

Here run_glue.py runs in processes of its own, and the signals come from the kernel.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from distilbart_mnli.train.checkpoints import checkpoints_in, read_state
from distilbart_mnli.train.loop import Training
from distilbart_mnli.train.signals import StopSignals
from distilbart_mnli.train.state import load_random_states
from tests.support.in_process import train_here
from tests.support.launch import start
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


def test_a_second_interrupt_ends_at_once(shop):
    """A step of 2,000 micro-batches takes many seconds: the first SIGINT waits for its end, the second does not."""
    options = long_options(
        shop, "twice", per_device_train_batch_size=1, effective_batch_size=2000, train_sampling_strategy="random"
    )
    options["data_dir"] = str(shop.folder / "large")
    tiny_mnli(Path(options["data_dir"]), train=2000)
    options["logging_steps"] = 1
    watched = Watched(start(command(options), environment(shop.folder)))
    watched.wait_for("encoder cache: mnli-mm written")
    time.sleep(1)
    os.kill(watched.process.pid, signal.SIGINT)
    watched.wait_for("SIGINT: stopping after this optimizer step, with a checkpoint")
    os.kill(watched.process.pid, signal.SIGINT)
    code, output = watched.end(10)
    assert code == 130 and "twice" in output and "Traceback" not in output
    assert checkpoints_in(Path(options["output_dir"])) == []


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
