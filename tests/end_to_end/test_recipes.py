"""The launch recipes in examples/: a training is stopped in the middle, and goes on to the end by itself."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.launch import environment, finish, start
from tests.support.tiny import ROOT, tiny_bart, tiny_mnli

RUN_UNTIL_DONE = ROOT / "examples" / "preemptible_vm" / "run_until_done.sh"
SLURM = ROOT / "examples" / "slurm" / "train.sbatch"
STEPS = 120


def training(folder: Path) -> Path:
    """An args file for a training that takes some seconds, with a line on stderr for every step."""
    tiny_bart(folder / "student", dropout=0.1)
    tiny_mnli(folder / "data")
    values = {
        "model_name_or_path": str(folder / "student"),
        "task_name": "MNLI",
        "data_dir": str(folder / "data"),
        "output_dir": str(folder / "output"),
        "cache_encoder_outputs": "false",
        "do_train": True,
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "effective_batch_size": 8,
        "logging_steps": 1,
        "save_steps": 1000,
        "bf16": False,
    }
    (folder / "args.json").write_text(json.dumps(values), encoding="utf-8")
    return folder / "args.json"


def wait_for(process: subprocess.Popen, text: str) -> str:
    """Read the process's output up to a line that holds `text`."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} did not come:\n{seen}")


def steps(folder: Path) -> list[int]:
    state = json.loads((folder / "output" / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry["step"] for entry in state["log_history"] if "loss" in entry]


def stand_in(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text("#!/usr/bin/env bash\n" + script, encoding="utf-8")
    (folder / name).chmod(stat.S_IRWXU)


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_slurm_job_out_of_time_saves_is_requeued_and_finishes_in_its_second_life(tmp_path, gpus):
    args = training(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    # What SLURM does, as far as the script asks for it: start a step; signal every process of the step; requeue.
    # There are no GPUs: single_gpu.yaml and multi_gpu.yaml then run on the CPU.
    stand_in(commands, "srun", 'shift; SLURM_NODEID=0 "$@" & echo $! > "$NOTES/step"; wait $!\n')
    stand_in(
        commands,
        "scancel",
        'signal() { for child in $(pgrep -P "$1"); do signal "$child"; done; kill -USR1 "$1"; }\n'
        'echo "$@" > "$NOTES/scancel"; signal "$(cat "$NOTES/step")"\n',
    )
    stand_in(
        commands,
        "scontrol",
        'if [[ $1 == show ]]; then echo 127.0.0.1; else echo "$@" >> "$NOTES/scontrol"; fi\n',
    )
    variables = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "NOTES": str(tmp_path),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_GPUS_ON_NODE": str(gpus),
    }
    repository = tmp_path / "repository"
    (repository / ".venv" / "bin").mkdir(parents=True)
    for name in ("run_glue.py", "distilbart_mnli", "accelerate_configs"):
        (repository / name).symlink_to(ROOT / name)
    stand_in(
        repository / ".venv" / "bin",
        "accelerate",
        f'shift; exec {sys.executable} -m accelerate.commands.launch "$@"\n',
    )

    def life() -> subprocess.Popen:
        return start(["bash", "-c", f"cd {repository} && exec bash {SLURM} {args}"], environment(**variables))

    job = life()
    wait_for(job, "step 3 of")
    os.kill(job.pid, signal.SIGUSR1)  # to the batch shell alone, as --signal=B:USR1 does
    rest = finish(job)[0]
    assert "stopped by SIGUSR1 after step" in rest.stdout
    assert rest.returncode == 1  # the launcher's
    assert (tmp_path / "scancel").read_text() == "--signal=USR1 77.0\n"
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"
    (checkpoint,) = (tmp_path / "output").glob("checkpoint-*")

    done = finish(life())[0]
    assert done.returncode == 0, done.stdout
    assert f"resuming from {checkpoint.name}" in done.stdout
    assert f"x {gpus} process" in done.stdout
    assert steps(tmp_path) == list(range(1, STEPS + 1))
    assert (tmp_path / "scontrol").read_text() == "requeue 77\n"  # once only


def test_a_slurm_job_that_fails_is_not_requeued(tmp_path):
    stand_in(tmp_path, "srun", "exit 1\n")
    stand_in(tmp_path, "scontrol", 'if [[ $1 == show ]]; then echo here; else echo "$@" > "$NOTES"; fi\n')
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NOTES": str(tmp_path / "notes"),
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "here",
    }
    assert finish(start(["bash", SLURM, "args.json"], environment(**variables)))[0].returncode == 1
    assert not (tmp_path / "notes").exists()


def test_the_loop_starts_a_killed_training_again_until_it_is_done(tmp_path):
    args = training(tmp_path)
    command = [RUN_UNTIL_DONE, sys.executable, ROOT / "run_glue.py", args, "--save_steps", 10]
    loop = start(command, environment(PAUSE="0"))
    wait_for(loop, "step 15 of")
    (child,) = map(int, Path(f"/proc/{loop.pid}/task/{loop.pid}/children").read_text().split())
    os.kill(child, signal.SIGKILL)
    done = finish(loop)[0]
    assert done.returncode == 0, done.stdout
    assert "ended with 137; attempt 1 of 5" in done.stdout
    assert "resuming from checkpoint-" in done.stdout
    assert steps(tmp_path) == list(range(1, STEPS + 1))


def test_the_loop_passes_a_stop_on_and_does_not_start_again(tmp_path):
    args = training(tmp_path)
    loop = start([RUN_UNTIL_DONE, sys.executable, ROOT / "run_glue.py", args], environment(PAUSE="0"))
    wait_for(loop, "step 3 of")
    os.kill(loop.pid, signal.SIGINT)
    done = finish(loop)[0]
    assert done.returncode == 128 + signal.SIGTERM
    assert len(list((tmp_path / "output").glob("checkpoint-*"))) == 1


@pytest.mark.parametrize(("code", "runs"), [(2, 1), (3, 1), (1, 3)])
def test_the_loop_gives_up_at_once_on_bad_input_and_after_some_attempts_on_failures(tmp_path, code, runs):
    script = f'echo "$@" >> {tmp_path}/calls; exit {code}'
    done = finish(start([RUN_UNTIL_DONE, "bash", "-c", script, "name"], environment(PAUSE="0", ATTEMPTS="3")))[0]
    assert done.returncode == code
    assert (tmp_path / "calls").read_text() == "--resume_from_checkpoint true\n" * runs


def test_the_service_is_one_that_systemd_accepts(tmp_path):
    text = (ROOT / "examples" / "preemptible_vm" / "distilbart-mnli.service").read_text(encoding="utf-8")
    program = tmp_path / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    service = tmp_path / "distilbart-mnli.service"
    service.write_text(text.replace("/srv/distilbart-mnli", str(tmp_path)).replace("User=ubuntu", "User=root"))
    try:
        done = subprocess.run(["systemd-analyze", "verify", service], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs systemd-analyze")
    assert (done.returncode, done.stderr) == (0, "")
    assert "run_glue.py args/distilbart-mnli-12-6.json --resume_from_checkpoint true" in text
