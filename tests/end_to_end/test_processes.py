"""What a launch gives to its processes, without a training: they agree, fail together with one message, end together,
and never write into one folder as two first processes.

The processes run tests/support/launch_worker.py.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from distilbart_mnli.errors import InputError
from distilbart_mnli.processes import lock_output_dir
from tests.support.launch import environment, finish, launch, launcher, start, two_machines, two_ranks
from tests.support.tiny import ROOT

WORKER = "tests/support/launch_worker.py"


def results(output: str) -> list[dict]:
    return [json.loads(line[7:]) for line in output.splitlines() if line.startswith("RESULT ")]


def test_multi_cpu_yaml_gives_two_real_processes_with_the_plain_command(tmp_path):
    options = {
        "expected_num_processes": 2,
        "per_device_train_batch_size": 32,
        "effective_batch_size": 128,
        "fp16": False,
    }
    done = launch("multi_cpu.yaml", WORKER, "report", tmp_path, json.dumps(options))
    assert done.returncode == 0, done.stdout
    found = sorted(results(done.stdout), key=lambda result: result["rank"])
    assert [result["rank"] for result in found] == [0, 1]
    assert found[0]["pid"] != found[1]["pid"]
    for result in found:
        assert (result["processes"], result["type"], result["device"]) == (2, "MULTI_CPU", "cpu")
        assert result["largest"] == 11
        assert result["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert result["sharing"] == [0, 1]
        assert result["left"] == []
        assert result["line"].startswith("2 processes on 1 machine, cpu (1 thread a process, ")
        assert result["line"].endswith("float32, 32 x 2 x 2 processes = 128 examples a step")


def test_multi_node_yaml_gives_two_machines_with_folders_of_their_own(tmp_path):
    options = json.dumps({"expected_num_processes": 2})
    folders = [tmp_path / "one", tmp_path / "two"]
    done = two_machines(WORKER, *[("report", folder, options) for folder in folders])
    assert [machine.returncode for machine in done] == [0, 0], done[0].stdout + done[1].stdout
    found = [results(machine.stdout)[0] for machine in done]
    assert [result["sharing"] for result in found] == [[0], [1]]
    assert [result["largest"] for result in found] == [11, 11]
    assert found[1]["line"].startswith("2 processes on 2 machines")


def test_a_multi_cpu_launch_that_starts_one_process_stops(tmp_path):
    config = tmp_path / "silent.yaml"
    config.write_text(yaml.safe_dump({"distributed_type": "MULTI_CPU", "num_processes": 2, "use_cpu": True}))
    done = launch(config, WORKER, "report", tmp_path)
    assert not results(done.stdout)
    assert done.stdout.count("error: ") == 1


def test_another_number_of_processes_than_expected_gives_one_message(tmp_path):
    done = launch("multi_cpu.yaml", WORKER, "report", tmp_path, json.dumps({"expected_num_processes": 4}))
    assert not results(done.stdout)
    assert done.stdout.count("error: expected_num_processes is 4") == 1


def test_a_training_ends_when_its_single_process_launcher_is_terminated():
    started = start(launcher("cpu.yaml", WORKER, "wait"), environment())
    assert started.stdout is not None
    for line in started.stdout:
        if line.startswith("RESULT "):
            break
    os.kill(started.pid, signal.SIGTERM)  # the launcher alone, which passes nothing on
    assert results(finish(started, timeout=30)[0].stdout) == [{"terminated": True}]


# ---------------------------------------------------------------------------------------------------------------------
# Failing together


def test_a_failure_on_one_process_ends_all_with_its_code_and_one_message():
    first, second = finish(*two_ranks(WORKER, "fail"), timeout=60)
    assert (first.returncode, second.returncode) == (2, 2)
    assert "error: row 7 has no label" in second.stdout
    assert "error" not in first.stdout
    assert "RESULT" not in first.stdout + second.stdout


def test_a_killed_process_ends_the_one_that_waits_for_it():
    first, second = finish(*two_ranks(WORKER, "die"), timeout=60)
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 1
    assert first.stdout.count("error: ") == 1
    assert "Traceback" not in first.stdout


# ---------------------------------------------------------------------------------------------------------------------
# One folder, one run


def holder(folder, options="{}"):
    """A process that holds the lock of `folder`."""
    process = start([sys.executable, ROOT / WORKER, "hold", folder, options], environment())
    assert process.stdout is not None
    for line in process.stdout:
        if "locked" in line:
            return process
    raise AssertionError("the holder did not lock the folder")


def test_a_second_first_process_in_one_folder_is_refused_until_the_first_is_gone(tmp_path):
    folder = tmp_path / "new" / "output"
    process = holder(folder)
    with pytest.raises(InputError, match=f"process {process.pid} on "):
        lock_output_dir(folder, True)
    lock_output_dir(folder, False).release()  # the other processes of a run lock nothing
    assert (folder / ".lock").exists()
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    with lock_output_dir(folder, True):
        pass
    assert list(folder.iterdir()) == []


def test_a_forked_worker_that_outlives_a_killed_run_does_not_keep_its_lock(tmp_path):
    process = holder(tmp_path, '{"fork": true}')
    try:
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        lock_output_dir(tmp_path, True).release()
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_terminated_run_leaves_no_lock_file(tmp_path):
    process = holder(tmp_path)
    os.kill(process.pid, signal.SIGINT)
    assert finish(process)[0].returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_score_at_once_offline_agree_and_leave_no_file(tmp_path):
    code = (
        "import numpy as np\n"
        "from distilbart_mnli.data.tasks import TASKS\n"
        "from distilbart_mnli.data.metrics import compute_metrics\n"
        "for _ in range(5):\n"
        "    result = compute_metrics(TASKS['qqp'], np.arange(50) % 2, np.arange(50) % 3 % 2)\n"
        "print(result)\n"
    )
    folders = {key: str(tmp_path / key) for key in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for folder in folders.values():
        Path(folder).mkdir()
    command = [sys.executable, "-c", code]
    first, second = finish(*(start(command, environment(**folders), cwd=tmp_path) for _ in range(2)))
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    assert first.stdout == second.stdout != ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
