"""The published table from end to end: students 12-1, 12-3, 12-6, 12-9 one after the other, every cost included.

    python -m benchmarks.whole_table --examples 1024 --output whole_table_cpu.json
    python -m benchmarks.whole_table --size large --device cuda --bf16 --examples 20000 --output whole_table_gpu.json

Ours is `run_glue.py` itself, a process a student: start-up, reading, tokenising, encoding (the first student; the
others find its cache), training, evaluation of both sets after each epoch, checkpoints, final model and card. (a) and
(b) are reference_run.py, which does the same with stock transformers. Random weights, and texts of random words with
MNLI's lengths; the evaluation sets have MNLI's share of rows (5 % of the training rows, in two halves).

From a part to the whole. A run's time is alpha + beta x rows. alpha (start-up, loading, saving) comes from the same
command on one optimizer step's rows, measured here for every student, and beta from the two. The times for all 392,702
rows are computed from them and are labelled "extrapolated". Too few --examples, and beta is noise.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from benchmarks.lengths import lengths_like
from benchmarks.options import (
    add_training_options,
    check_options,
    make_parser,
    quiet_transformers,
    report_head,
    write_report,
)
from benchmarks.references import save_random_student
from benchmarks.variants import SIZES, student_config
from distilbart_mnli.errors import InputError, RunError, run_command

ROOT = Path(__file__).resolve().parent.parent
MNLI_ROWS, MNLI_EVALUATION_ROWS = 392_702, 9_815 + 9_832
COLUMNS = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
LABELS = ("entailment", "neutral", "contradiction")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("whole_table", __doc__)
    add_training_options(parser, list(SIZES))
    parser.add_argument("--examples", type=int, default=1024, help="training rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--variants", default="abo", help="a, b, o (ours); default: all")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--torch_compile", action="store_true", help="ours only")
    return parser.parse_args(arguments)


# ---------------------------------------------------------------------------------------------------------------------
# Material


def make_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """One word, one token; pairs as BART has them."""
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, **{f"w{i}": i for i in range(4, vocab_size)}}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def write_tsv(path: Path, lengths: np.ndarray, vocab_size: int, seed: int) -> None:
    """A file of MNLI's layout whose pairs have these lengths in tokens."""
    rng = np.random.default_rng(seed)
    lines = ["\t".join([*COLUMNS.split(), "sentence1", "sentence2", "label1", "gold_label"])]
    for index, length in enumerate(lengths):
        words = [f"w{i}" for i in rng.integers(4, vocab_size, max(int(length) - 4, 2))]
        cut = min(max(len(words) * 2 // 3, 1), len(words) - 1)
        label = LABELS[rng.integers(3)]
        texts = [" ".join(words[:cut]), " ".join(words[cut:])]
        lines.append("\t".join([str(index), "", "", "fiction", "", "", "", "", *texts, label, label]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_data(options: argparse.Namespace, folder: Path, rows: int) -> Path:
    folder.mkdir()
    evaluation = max(2, round(rows * MNLI_EVALUATION_ROWS / MNLI_ROWS / 2))
    for seed, (name, count) in enumerate(
        (("train", rows), ("dev_matched", evaluation), ("dev_mismatched", evaluation))
    ):
        lengths = lengths_like(options.lengths_from, count, seed)
        write_tsv(folder / f"{name}.tsv", lengths, SIZES[options.size]["vocab_size"], seed)
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def run(command: list[str], environment: dict[str, str], log: list[str] | None = None) -> float:
    """Seconds of a process, from start to end; what it wrote to stderr is appended to `log`.

    Raises:
        RunError: it failed; what it wrote is shown.
    """
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        print(f"{done.stdout}\n{done.stderr}", file=sys.stderr)
        raise RunError(f"{' '.join(command)} ended with {done.returncode}")
    if log is not None:
        log.append(done.stderr)
    return seconds


def phases(log: str, output: Path, options: argparse.Namespace, seconds: float) -> dict[str, float]:
    """Where the time of one run of ours went, and what that makes for MNLI's rows.

    A line through two whole runs carries the noise of start-up and saving, times MNLI_ROWS / --examples. This takes
    the median speed between log lines, and the seconds that the run itself gives for encoding and evaluating.
    """
    speeds = sorted(float(found) for found in re.findall(r"([0-9.]+) examples/s$", log, re.MULTILINE)[1:])
    speed = speeds[len(speeds) // 2]
    encoding = sum(map(float, re.findall(r"encoder cache: \S+ written in ([0-9.]+) s", log)))
    history = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    evaluation = sum(entry.get("eval_runtime", 0.0) for entry in history)
    training = options.examples * options.epochs / speed
    fixed = seconds - training - encoding - evaluation
    grown = training * MNLI_ROWS / options.examples + encoding * MNLI_ROWS / options.examples
    return {
        "examples_per_second": speed,
        "training_seconds": training,
        "encoding_seconds": encoding,
        "evaluation_seconds": evaluation,
        "other_seconds": fixed,
        "extrapolated_by_phases": fixed + grown + evaluation * MNLI_ROWS / options.examples,
    }


def commands(
    options: argparse.Namespace, student: Path, data: Path, output: Path, cache: Path
) -> dict[str, list[str]]:
    """The command of every variant for one student."""
    same = [
        *("--model_name_or_path", str(student), "--data_dir", str(data), "--output_dir", str(output)),
        *("--num_train_epochs", str(options.epochs)),
        *("--gradient_accumulation_steps", str(options.gradient_accumulation_steps)),
    ]
    step_rows = options.batch_size * options.gradient_accumulation_steps
    ours = [
        *(sys.executable, "run_glue.py", *same, "--task_name", "MNLI", "--do_train", "--do_eval"),
        *("--per_device_train_batch_size", str(options.batch_size)),
        *("--per_device_eval_batch_size", str(options.batch_size)),
        *("--freeze_encoder", "--freeze_embeds", "--learning_rate", "3e-5", "--weight_decay", "0.01"),
        *("--adam_beta2", "0.98", "--warmup_steps", "500", "--eval_strategy", "epoch", "--save_strategy", "epoch"),
        *("--logging_steps", str(max(1, options.epochs * options.examples // step_rows // 16))),
        *("--encoder_cache_dir", str(cache), "--bf16", str(options.bf16).lower()),
        *(["--use_cpu"] if options.device == "cpu" else []),
        *(["--torch_compile"] if options.torch_compile else []),
    ]
    reference = [
        *(sys.executable, "-m", "benchmarks.reference_run", *same, "--device", options.device),
        *("--batch_size", str(options.batch_size), *(["--bf16"] if options.bf16 else [])),
    ]
    return {"o": ours, "a": [*reference, "--variant", "a"], "b": [*reference, "--variant", "b"]}


def start_up(options: argparse.Namespace, environment: dict[str, str]) -> dict[str, float]:
    """Seconds that a process takes to import what it uses, before it looks at its input (the second of two)."""
    modules = {"o": "distilbart_mnli.train.stages", "a": "benchmarks.reference_run", "b": "benchmarks.reference_run"}
    return {
        name: [run([sys.executable, "-c", f"import {modules[name]}"], environment) for _ in range(2)][1]
        for name in options.variants
    }


def table(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(options.threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        # Fresh: the first student of a table finds no tokens of an earlier run.
        "HF_DATASETS_CACHE": str(folder / "datasets"),
    }
    vocab_size = SIZES[options.size]["vocab_size"]
    step_rows = options.batch_size * options.gradient_accumulation_steps
    data = {"whole": make_data(options, folder / "data", options.examples)}
    data["one step"] = make_data(options, folder / "step", step_rows)
    for layers in options.layers:
        save_random_student(student_config(options.size, layers), folder / f"student-{layers}")
        make_tokenizer(vocab_size).save_pretrained(folder / f"student-{layers}")
    imports = start_up(options, environment)
    rows: list[dict[str, Any]] = []
    for layers in options.layers:
        for variant in options.variants:
            seconds = {}
            for name, path in data.items():
                output = folder / f"output-{variant}-{layers}-{name.replace(' ', '-')}"
                student, cache = folder / f"student-{layers}", folder / f"cache {name}"
                log: list[str] = []
                seconds[name] = run(commands(options, student, path, output, cache)[variant], environment, log)
                if variant == "o" and name == "whole":
                    parts = phases(log[0], output, options, seconds[name])
            beta = (seconds["whole"] - seconds["one step"]) / (options.examples - step_rows)
            rows.append(
                {
                    "student": f"12-{layers}",
                    "variant": variant,
                    "seconds": seconds["whole"],
                    "seconds_on_one_step": seconds["one step"],
                    "start_up_seconds": imports[variant],
                    "extrapolated_seconds": seconds["one step"] + beta * (MNLI_ROWS - step_rows),
                    **(parts if variant == "o" else {}),
                }
            )
            print(
                f"12-{layers} {variant}: {seconds['whole']:.1f} s, of it {imports[variant]:.1f} s start-up; on one "
                f"step's rows {seconds['one step']:.1f} s",
                flush=True,
            )
            if variant == "o":
                print("    " + ", ".join(f"{name} {value:.1f}" for name, value in parts.items()), flush=True)
    return {"rows": rows, "totals": totals(options, rows)}


def totals(options: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the students: measured, without start-up, and extrapolated to MNLI; and their ratios to ours."""
    result: dict[str, Any] = {}
    for variant in options.variants:
        mine = [row for row in rows if row["variant"] == variant]
        measured = sum(row["seconds"] for row in mine)
        result[variant] = {
            "measured_seconds": measured,
            "measured_seconds_without_start_up": measured - sum(row["start_up_seconds"] for row in mine),
            "extrapolated_seconds": sum(row["extrapolated_seconds"] for row in mine),
        }
    if "o" in result:
        by_phases = sum(row["extrapolated_by_phases"] for row in rows if row["variant"] == "o")
        print(f"ours, {MNLI_ROWS} rows, extrapolated by phases: {by_phases:.0f} s")
        for figures in result.values():
            figures["ratio_to_ours"] = {key: value / result["o"][key] for key, value in figures.items()}
    return result


def show(options: argparse.Namespace, report: dict[str, Any]) -> None:
    print(f"\n{len(options.layers)} students, {options.epochs} epochs, everything; seconds (ratio to ours)")
    names = {"a": "(a) the recipe of 2020", "b": "(b) run_glue_no_trainer", "o": "ours"}
    heads = (f"{options.examples} rows, measured", "without start-up", f"{MNLI_ROWS} rows, extrapolated")
    print(f"{'':<26}" + "".join(f"{head:>30}" for head in heads))
    for variant, figures in report["totals"].items():
        ratios = figures.get("ratio_to_ours", {})
        cells = [
            f"{value:.1f}" + (f" ({ratios[key]:.2f})" if key in ratios else "")
            for key, value in figures.items()
            if key != "ratio_to_ours"
        ]
        print(f"{names[variant]:<26}" + "".join(f"{cell:>30}" for cell in cells))


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    check_options(options)
    step_rows = options.batch_size * options.gradient_accumulation_steps
    if options.examples <= step_rows:
        raise InputError(f"--examples {options.examples}: expected more than one optimizer step's rows ({step_rows})")
    quiet_transformers()
    with tempfile.TemporaryDirectory(prefix="whole_table_") as name:
        hardware = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads"
        report = {**report_head(options, hardware), **table(options, Path(name))}
    show(options, report)
    write_report(options, report)
    return report


if __name__ == "__main__":
    sys.exit(run_command(main))
