"""Seconds from SIGTERM in an evaluation inside a training to its whole checkpoint, and to the end of the run.

    python -m benchmarks.stopping --num_processes 1                 # bart-large's size, 12-1, random weights
    python -m benchmarks.stopping --num_processes 2 --threads 1     # through `accelerate launch`, which waits for 30 s

The evaluation would take minutes. The signal goes to the process that a user sees: run_glue.py's, or the launcher's.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.options import check_options, make_parser, quiet_transformers, report_head, write_report
from benchmarks.references import save_random_student
from benchmarks.variants import SIZES, student_config
from benchmarks.whole_table import make_tokenizer, write_tsv
from distilbart_mnli.errors import RunError, run_command
from distilbart_mnli.train.device import processor_name

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 40
"""Tokens of a pair, MNLI's mean."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("stopping", __doc__)
    parser.add_argument("--num_processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--size", choices=list(SIZES), default="large")
    parser.add_argument("--layers", type=int, default=1, help="decoder layers of the student")
    parser.add_argument("--rows", type=int, default=10_815, help="of both evaluation sets")
    parser.add_argument("--after", type=float, default=5.0, help="seconds into the evaluation")
    return parser.parse_args(arguments)


def start(options: argparse.Namespace, folder: Path) -> subprocess.Popen:
    """A training whose first step is followed by an evaluation."""
    save_random_student(student_config(options.size, options.layers), folder / "student")
    make_tokenizer(SIZES[options.size]["vocab_size"]).save_pretrained(folder / "student")
    (folder / "data").mkdir()
    sets = {"train": 16, "dev_matched": -(-options.rows // 2), "dev_mismatched": options.rows // 2}
    for seed, (name, rows) in enumerate(sets.items()):
        write_tsv(folder / f"data/{name}.tsv", np.full(rows, LENGTH), SIZES[options.size]["vocab_size"], seed)
    args = {
        "model_name_or_path": str(folder / "student"),
        "task_name": "MNLI",
        "data_dir": str(folder / "data"),
        "output_dir": str(folder / "out"),
        "do_train": True,
        "max_steps": 2,
        "per_device_train_batch_size": 8 // options.num_processes,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "logging_steps": 1,
        "freeze_encoder": True,
        "freeze_embeds": True,
        "cache_encoder_outputs": "false",
        "use_cpu": True,
    }
    (folder / "args.json").write_text(json.dumps(args), encoding="utf-8")
    launcher = ["-m", "accelerate.commands.launch", "--config_file", "accelerate_configs/multi_cpu.yaml"]
    launcher += ["--num_processes", str(options.num_processes)]
    words = [
        sys.executable,
        *(launcher if options.num_processes > 1 else []),
        "run_glue.py",
        str(folder / "args.json"),
    ]
    own = {"OMP_NUM_THREADS": str(options.threads), "HF_DATASETS_CACHE": str(folder / "datasets")}
    environment = {**os.environ, **own, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    check_options(options)
    quiet_transformers()
    with tempfile.TemporaryDirectory(prefix="stopping_") as name:
        process, log = start(options, Path(name)), ""
        assert process.stdout is not None
        for line in process.stdout:
            log += line
            if "step 1 of 2" in line:
                break
        time.sleep(options.after)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        whole = Path(name) / "out/checkpoint-1"
        while not whole.exists() and process.poll() is None:
            time.sleep(0.005)
        checkpoint = time.monotonic() - asked
        log += process.communicate()[0]
        ended = time.monotonic() - asked
        if not whole.exists() or "stopped by SIGTERM after step 1 of 2" not in log:
            raise RunError(f"no checkpoint after the signal: {log}")
        size = sum(path.stat().st_size for path in whole.iterdir()) / 1e6
    result = {
        "checkpoint_seconds": round(checkpoint, 2),
        "ended_seconds": round(ended, 2),
        "checkpoint_mb": round(size),
    }
    print(f"{options.num_processes} process(es): " + ", ".join(f"{key} {value}" for key, value in result.items()))
    write_report(options, {**report_head(options, processor_name()), **result})


if __name__ == "__main__":
    sys.exit(run_command(main))
