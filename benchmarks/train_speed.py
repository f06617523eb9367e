"""Training speed of a student, five ways, in turn in one process: A B C D E A B C D E ...

    python -m benchmarks.train_speed --output train_speed_cpu.json                      # d_model 256, two threads
    python -m benchmarks.train_speed --dtype bf16 --output train_speed_cpu_bf16.json
    python -m benchmarks.train_speed --size large --device cuda --dtype bf16 --output train_speed_gpu.json

    (a) the recipe of 2020: stock model, every pair padded to 128, frozen encoder with its dropout
    (b) what run_glue_no_trainer.py does: stock model, everything trained, random batches padded to their longest
    (c) ours, an epoch that finds no cache: encoding included
    (d) ours, cached: the second epoch, and every further student of the teacher
    (e) the stock decoder on the same cached input

(a), (b) and (e) are in references.py. One dtype, number of threads, optimizer and batch (32 x 4 = 128 examples a
step) for all; students with 1, 3, 6 and 9 layers of a teacher with 12 + 12, random weights, rows with MNLI's lengths.
What is measured is in variants.py. Every ratio stands beside the one that the multiply-adds allow (arithmetic.py), for
the very batches that were measured, and beside the published count.

Utilisation is multiply-adds / time / the best rate that a plain matrix product of this dtype reached here. "useful"
has the same numerator for all five: what the student needs, on real tokens, encoder known, last layer at one position.
"executed" has what each of them computes, padding included: it shows that none of them idles. In float32 on a CPU,
ours multiplies by the library that is faster there (distilbart_mnli/model/kernels.py); the others leave the choice to
torch.

Memory is the peak of a process that runs this variant alone, on the longest batches of an epoch: private memory above
that of the libraries, imported and used once. Files that are mapped do not count (libraries, encoder cache, and
weights that were loaded and never changed, which safetensors maps): the system can drop their pages at any time.
`peak_mb_resident` in the JSON counts everything. On a GPU it is what the variant holds, and the peak that it adds
while it runs.
"""

import argparse
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.arithmetic import published_limit
from benchmarks.lengths import lengths_like, random_pairs
from benchmarks.options import (
    add_training_options,
    check_options,
    make_parser,
    quiet_transformers,
    report_head,
    write_report,
)
from benchmarks.references import save_random_student
from benchmarks.variants import NAMES, SIZES, Ours, Recipe, Variant, make_split, make_variant, student_config
from distilbart_mnli.compare.speed import resident_mb
from distilbart_mnli.errors import run_command
from distilbart_mnli.model.kernels import mkl_lacks_avx512, product

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
EPOCH_STEPS = 50  # as many as are sorted together (batching.RUN_STEPS)
RATIOS = ("a/d", "b/d", "e/d", "a/c", "b/c", "c/d")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("train_speed", __doc__)
    add_training_options(parser, list(SIZES))
    parser.add_argument("--variants", default="abcde", help="which of them (default: all)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps in a slice of (c), (d), (e)")
    parser.add_argument("--reference_steps", type=int, default=1, help="optimizer steps in a slice of (a), (b)")
    parser.add_argument("--slice_seconds", type=float, default=1.0, help="a shorter slice is repeated")
    parser.add_argument("--torch_compile", action="store_true", help="(c) and (d) only")
    parser.add_argument("--no_memory", action="store_true", help="leave the peak of memory out")
    parser.add_argument("--memory_of", choices=NAMES, help=argparse.SUPPRESS)  # the child's task
    parser.add_argument("--student", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def make_recipe(options: argparse.Namespace, layers: int, folder: Path, longest: bool = False) -> Recipe:
    rows = EPOCH_STEPS * options.batch_size * options.gradient_accumulation_steps
    lengths = lengths_like(options.lengths_from, rows)
    config = student_config(options.size, layers)
    student = Path(options.student or folder / f"student-{layers}")
    if not student.exists():
        save_random_student(config, student)
    return Recipe(
        config=config,
        split=make_split(lengths, random_pairs(lengths, config.vocab_size)),
        device=options.device,
        dtype=DTYPES[options.dtype],
        batch_size=options.batch_size,
        accumulation=options.gradient_accumulation_steps,
        steps=1 if longest else options.steps,
        reference_steps=1 if longest else options.reference_steps,
        longest=longest,
        student=student,
        folder=folder,
        torch_compile=options.torch_compile,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Time


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], Any], device: str) -> float:
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Multiply-adds a second of the best square product, of the libraries that the variants use."""
    best = 0.0
    products = [torch.matmul]
    if device == "cpu" and dtype == torch.float32 and mkl_lacks_avx512():
        products.append(product)
    for size in (512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192):
        first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        for multiply in products * 6:
            best = max(best, size**3 / seconds_of(lambda x=first, y=second, do=multiply: do(x, y), device))
    return best


def measure(variants: dict[str, Variant], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of one slice, for every variant and repetition; the variants take turns."""
    passes = {}
    for name, variant in variants.items():
        variant.slice()  # warm-up
        passes[name] = max(1, round(options.slice_seconds / seconds_of(variant.slice, options.device)))
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.repetitions):
        for name, variant in variants.items():

            def work(variant: Variant = variant, count: int = passes[name]) -> None:
                for _ in range(count):
                    variant.slice()

            seconds[name].append(seconds_of(work, options.device) / passes[name])
    return seconds


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def process_memory() -> dict[str, float]:
    """MB of this process: resident now, resident at most, and mapped from files (libraries, caches) now."""
    return {name: resident_mb(name) for name in ("VmRSS", "VmHWM", "RssFile")}


def trimmed_memory() -> dict[str, float]:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    return process_memory()


def memory_of(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Peak MB of this process, which runs one variant: what is not mapped from files.

    A model of no size runs before, so that what is imported at first use (torch's compiler, for one) counts nowhere.
    """
    toy = argparse.Namespace(**{**vars(options), "size": "toy", "batch_size": 2, "student": None})
    make_variant(make_recipe(toy, 1, folder / "toy", longest=True), options.memory_of).slice()
    start = trimmed_memory()
    variant = make_variant(make_recipe(options, options.layers[0], folder, longest=True), options.memory_of)
    trimmed_memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    for _ in range(2):  # the second step has the optimizer's moments
        variant.slice()
    end = process_memory()
    private = end["VmHWM"] - end["RssFile"]
    imports = start["VmRSS"] - start["RssFile"]
    return {"peak_mb": private - imports, "peak_mb_resident": end["VmHWM"]}


def memory_in_child(options: argparse.Namespace, layers: int, name: str, student: Path) -> dict[str, float]:
    words = [f"--memory_of={name}", f"--layers={layers}", f"--student={student}"]
    for key in ("size", "device", "dtype", "threads", "batch_size", "gradient_accumulation_steps"):
        words.append(f"--{key}={getattr(options, key)}")
    if options.lengths_from:
        words += ["--lengths_from", *options.lengths_from]
    command = [sys.executable, "-m", "benchmarks.train_speed", *words]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return json.loads(done.stdout.splitlines()[-1])


def memory_on_gpu(variant: Variant, held: int) -> dict[str, float]:
    """Peak MB: `held` bytes between slices, and what a slice adds to what is allocated."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    variant.slice()
    torch.cuda.synchronize()
    return {"peak_mb": (held + torch.cuda.max_memory_allocated() - before) / 1e6}


# ---------------------------------------------------------------------------------------------------------------------
# The comparison


def compare(options: argparse.Namespace, layers: int, rate: float, folder: Path) -> dict[str, Any]:
    """All variants of one student."""
    recipe = make_recipe(options, layers, folder)
    variants: dict[str, Variant] = {}
    memory: dict[str, dict[str, float]] = {}
    for name in options.variants:
        before = torch.cuda.memory_allocated() if options.device == "cuda" else 0
        variants[name] = make_variant(recipe, name)
        if options.device == "cuda":
            variants[name].slice()
            memory[name] = memory_on_gpu(variants[name], torch.cuda.memory_allocated() - before)
    seconds = measure(variants, options)
    needed = {name: v.needed / v.examples for name, v in variants.items() if isinstance(v, Ours)}
    result: dict[str, Any] = {"student": f"12-{layers}", "variants": {}, "ratios": {}}
    for name, variant in variants.items():
        speeds = [variant.examples / value for value in seconds[name]]
        speed = statistics.median(speeds)
        figures: dict[str, Any] = {
            "name": NAMES[name],
            "examples_per_second": speed,
            "lowest": min(speeds),
            "highest": max(speeds),
            "all": speeds,
            "padded_tokens_per_example": variant.tokens_per_example,
            "padded_tokens_per_example_of_the_epoch": variant.epoch_tokens_per_example,
            "executed_multiply_adds_per_example": variant.executed / variant.examples,
            "executed_utilisation": variant.executed / variant.examples * speed / rate,
        }
        if needed:
            figures["useful_utilisation"] = next(iter(needed.values())) * speed / rate
        if isinstance(variant, Ours):
            figures["data_time_share"] = variant.training.data_time_share()
        if options.device == "cpu" and not options.no_memory:
            memory[name] = memory_in_child(options, layers, name, recipe.student)
        result["variants"][name] = {**figures, **memory.get(name, {})}
    for pair in RATIOS:
        slow, fast = pair.split("/")
        if slow in variants and fast in variants:
            result["ratios"][pair] = ratio(slow, fast, variants, seconds, layers)
    for variant in variants.values():
        if isinstance(variant, Ours):
            variant.training.accelerator.free_memory()
    return result


def ratio(
    slow: str, fast: str, variants: dict[str, Variant], seconds: dict[str, list[float]], layers: int
) -> dict[str, Any]:
    """How many times faster `fast` is: the median over repetitions, each of which compares neighbours in time."""
    values = [
        (x / variants[slow].examples) / (y / variants[fast].examples)
        for x, y in zip(seconds[slow], seconds[fast], strict=True)
    ]
    arithmetic = [variants[name].executed / variants[name].examples for name in (slow, fast)]
    return {
        "measured": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "multiply_adds_allow": arithmetic[0] / arithmetic[1],
        "published_limit": published_limit(layers, slow) if fast == "d" and slow in "abe" else None,
    }


def show(result: dict[str, Any]) -> None:
    print(f"\nstudent {result['student']}")
    columns = ("examples/s", 11), ("lowest .. highest", 22), ("tokens/ex.", 12), ("useful", 9), ("executed", 10)
    print(" " * 6 + "".join(f"{name:>{width}}" for name, width in columns) + f"{'peak MB':>10}")
    for name, f in result["variants"].items():
        spread = f"{f['lowest']:.1f} .. {f['highest']:.1f}"
        useful = f"{100 * f['useful_utilisation']:.1f} %" if "useful_utilisation" in f else ""
        peak = f"{f['peak_mb']:.0f}" if "peak_mb" in f else ""
        print(
            f"  ({name}) {f['examples_per_second']:>11.1f} {spread:>21} {f['padded_tokens_per_example']:>11.1f} "
            f"{useful:>8} {100 * f['executed_utilisation']:>7.1f} % {peak:>9}  {f['name']}"
        )
    print(f"  {'ratio':<6} {'measured':>9} {'lowest .. highest':>21} {'allowed':>9} {'published count':>16}")
    for pair, f in result["ratios"].items():
        published = f"{f['published_limit']:.2f}" if f["published_limit"] else ""
        spread = f"{f['lowest']:.2f} .. {f['highest']:.2f}"
        print(f"  {pair:<6} {f['measured']:>9.2f} {spread:>21} {f['multiply_adds_allow']:>9.2f} {published:>16}")
    shares = {name: f["data_time_share"] for name, f in result["variants"].items() if "data_time_share" in f}
    print(
        "  waiting for data: "
        + ", ".join(f"({name}) {100 * share:.1f} % of the steps" for name, share in shares.items())
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    check_options(options)
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high")  # TensorFloat-32 on a GPU, for all variants; nothing on a CPU
    quiet_transformers()
    dtype = DTYPES[options.dtype]
    with tempfile.TemporaryDirectory(prefix="train_speed_") as name:
        if options.memory_of:
            figures = memory_of(options, Path(name))
            print(json.dumps(figures))
            return figures
        rate = matmul_rate(options.device, dtype)
        hardware = (
            torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
        )
        report = {
            **report_head(options, f"{hardware}, {options.threads} threads"),
            "best_matmul_multiply_adds_per_second": rate,
            "students": [],
        }
        print(f"{report['hardware']}, {options.dtype}, best matrix product {2 * rate / 1e12:.3f} TFLOP/s")
        for layers in options.layers:
            report["students"].append(compare(options, layers, rate, Path(name)))
            show(report["students"][-1])
            gc.collect()
    write_report(options, report)
    return report


if __name__ == "__main__":
    sys.exit(run_command(main))
