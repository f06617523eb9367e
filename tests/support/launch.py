"""Starting several processes as a user does (accelerate's launcher, two machines on loopback), or one by one."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.tiny import ROOT

CONFIGS = ROOT / "accelerate_configs"


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without a launcher's traces and without GPUs, offline, one thread a process."""
    names = ("ACCELERATE_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "TORCHELASTIC_", "PMI_", "OMPI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    fixed = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return {**kept, **fixed, **changes}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(command: list, env: dict[str, str] | None = None) -> subprocess.Popen:
    """A command in a session of its own, so that all it started can be ended with it."""
    return subprocess.Popen(
        list(map(str, command)),
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(*processes: subprocess.Popen, timeout: float = 180) -> list[subprocess.CompletedProcess]:
    """Wait for all; stdout holds both streams. What is left after `timeout` seconds is killed, with its children."""
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return [
        subprocess.CompletedProcess(process.args, process.returncode, output)
        for process, output in zip(processes, outputs, strict=True)
    ]


def launcher(config: Path | str, script: Path | str, *arguments: object, flags: tuple = ()) -> list:
    """The command `accelerate launch --config_file CONFIG FLAGS SCRIPT ARGUMENTS`."""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / config]
    return [*accelerate, *flags, ROOT / script, *arguments]


def launch(config: Path | str, script: Path | str, *arguments: object, flags: tuple = (), **env: str):
    """Run that command to its end; returns the CompletedProcess with both streams in stdout."""
    return finish(start(launcher(config, script, *arguments, flags=flags), environment(**env)))[0]


def two_machines(script: Path | str, *arguments_of_both: tuple) -> list[subprocess.CompletedProcess]:
    """multi_node.yaml as two machines on loopback: two launchers, each with its own arguments."""
    port = free_port()
    started = []
    for rank, arguments in enumerate(arguments_of_both):
        flags = ("--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port)
        started.append(start(launcher("multi_node.yaml", script, *arguments, flags=flags)))
    return finish(*started)


def two_ranks(script: Path | str, *arguments: object, second: tuple | None = None, **env: str):
    """Two processes in one group without a launcher, whose own exit codes and output can be read.

    Returns two Popen. `second`: the arguments of the second process, where they are not the first one's.
    """
    port = str(free_port())
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start([sys.executable, ROOT / script, *words], environment(**both, RANK=rank, LOCAL_RANK=rank, **env))
        for rank, words in (("0", arguments), ("1", arguments if second is None else second))
    ]
