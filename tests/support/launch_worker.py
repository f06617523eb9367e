"""What test_processes.py runs in processes of its own: TASK [FOLDER] [OPTIONS as JSON].

Every task prints one JSON line that starts with RESULT, or ends as run_command says.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from distilbart_mnli.errors import InputError, run_command
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.processes import (
    gather_objects,
    lock_output_dir,
    max_over_ranks,
    raise_on_all_ranks,
    ranks_sharing,
)
from distilbart_mnli.train.device import device_for
from distilbart_mnli.train.launch import batch_plan, describe, make_accelerator

TASK = sys.argv[1]
FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
OPTIONS = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}


def say(**facts: object) -> None:
    os.write(1, f"RESULT {json.dumps(facts)}\n".encode())  # one write, so that two processes' lines do not mix


def report() -> None:
    args = Arguments(**OPTIONS)
    accelerator = make_accelerator(args)
    plan, device = batch_plan(args, accelerator.num_processes), device_for(accelerator)
    rank = accelerator.process_index
    say(
        rank=rank,
        pid=os.getpid(),
        processes=accelerator.num_processes,
        type=accelerator.distributed_type.value,
        device=accelerator.device.type,
        line=describe(accelerator, device, plan),
        largest=max_over_ranks(10 + rank),
        gathered=gather_objects({"rank": rank}),
        sharing=ranks_sharing(FOLDER),
        left=sorted(path.name for path in FOLDER.iterdir() if path.name.endswith(f"-{rank}")),
    )


def fail_nested() -> None:
    """Rank 1 fails in a part of the run inside another part."""
    rank = make_accelerator(Arguments()).process_index
    error = None
    try:
        raise_on_all_ranks(InputError("row 7 has no label") if rank == 1 else None)
    except Exception as problem:
        error = problem
    raise_on_all_ranks(error)
    say(rank=rank)


def die() -> None:
    """Rank 1 is killed while rank 0 waits for it."""
    if make_accelerator(Arguments()).process_index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    max_over_ranks(0)
    say(went_on=True)


def hold() -> None:
    """Lock FOLDER, say so, and stay."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    with lock_output_dir(FOLDER, True):
        if OPTIONS.get("fork") and os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        say(locked=True)
        time.sleep(60)


def wait() -> None:
    """Stay until SIGTERM, and say that it came."""
    signal.signal(signal.SIGTERM, lambda *_: (say(terminated=True), sys.exit(143)))
    make_accelerator(Arguments())
    say(pid=os.getpid())
    time.sleep(60)


sys.exit(run_command({"report": report, "fail": fail_nested, "die": die, "hold": hold, "wait": wait}[TASK]))
