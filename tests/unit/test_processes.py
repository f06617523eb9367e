"""Processes agree, fail together with one message, and never write into one folder as two first processes."""

import os
import signal
import sys

import pytest

from distilbart_mnli.errors import InputError
from distilbart_mnli.processes import lock_output_dir, raise_together, ranks_sharing
from tests.support.launch import ROOT, environment, finish, start, two_ranks

WORKER = "tests/support/launch_worker.py"


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
    assert first.stdout.count("error: another process of this run is gone") == 1
    assert "Traceback" not in first.stdout


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
    with pytest.raises(InputError, match=f"process {process.pid} on .* is writing to this output_dir"):
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        lock_output_dir(tmp_path / "output", True)


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "output").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        lock_output_dir(tmp_path / "output", True)


def test_one_process_alone_agrees_with_itself(tmp_path):
    assert ranks_sharing(tmp_path) == [0]
    assert list(tmp_path.iterdir()) == []
    raise_together(None)
    with pytest.raises(InputError, match="mine"):
        raise_together(InputError("mine"))
