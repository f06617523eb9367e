"""Scripts in processes of their own: one, several ranks of one run, or two machines, as a user starts them.

done = run("run_glue.py", args, "--do_eval")               # one process, to its end; stdout and stderr apart
done = launch("multi_cpu.yaml", "run_glue.py", args)       # accelerate launch, to its end
process = start([*torchrun(2), ROOT / "run_glue.py", args])        # ... and finish(process)
first, second = finish(*two_ranks("run_glue.py", args))    # no launcher: the ranks' own exit codes and output
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.tiny import ROOT

CONFIGS = ROOT / "accelerate_configs"


def environment(gpu: bool = False, **changes: str) -> dict[str, str]:
    """This process's environment without a launcher's traces, offline, one thread a process; with `gpu`, GPUs seen."""
    names = ("ACCELERATE_", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "TORCHELASTIC_", "PMI_", "OMPI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    fixed = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {**kept, **fixed, **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""}), **changes}


def run(
    script: Path | str,
    *arguments: object,
    env: dict[str, str] | None = None,
    gpu: bool = False,
    cwd: Path | None = None,
    timeout: float = 300,
    check: bool = False,
) -> subprocess.CompletedProcess:
    """Run a script of the repository to its end; returns the CompletedProcess with text.

    Raises AssertionError with the output if `check` and its exit code is not 0.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(gpu, **(env or {})),
        cwd=cwd,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{script} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def start(command: list, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen:
    """A command in a session of its own, so that all it started can be ended with it; both streams go to one pipe."""
    return subprocess.Popen(
        list(map(str, command)),
        env=env or environment(),
        cwd=cwd,
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


# ---------------------------------------------------------------------------------------------------------------------
# Several processes


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def torchrun(processes: int) -> list[str]:
    """What stands in front of a script (or of -m) to run it in so many processes."""
    if processes == 1:
        return [sys.executable]
    here = ("--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0")
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), *here]


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
