"""Peak memory of classify.py over the number of texts: a child process each, a model of almost no size.

    python -m benchmarks.classify_memory --texts 1000 20000 100000

Nearly all of a figure are the libraries; kernels for the first few hundred shapes of a batch add some. What is left
above that is what grows with the file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BartConfig, BartForSequenceClassification

from benchmarks.options import check_options, make_parser, quiet_transformers, write_report
from distilbart_mnli.errors import run_command
from examples.quickstart.make_tokenizer import make_tokenizer

ROOT = Path(__file__).resolve().parents[1]
WORDS = "the news of a small house and an old garden in which some people saw what nobody had seen before".split()
LABELS = ("contradiction", "neutral", "entailment")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("classify_memory", __doc__)
    parser.add_argument("--texts", type=int, nargs="+", default=[1000, 20_000, 100_000])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def make_model(folder: Path) -> None:
    make_tokenizer([" ".join(WORDS)] * 20, vocab_size=300).save_pretrained(folder)
    config = BartConfig(
        vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=128,
        id2label=dict(enumerate(LABELS)), label2id={label: number for number, label in enumerate(LABELS)},
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    BartForSequenceClassification(config).save_pretrained(folder)


def measure(folder: Path, count: int, threads: int) -> dict[str, Any]:
    """One run of the command on so many random texts."""
    rng, texts = np.random.default_rng(0), folder / f"{count}.txt"
    with texts.open("w", encoding="utf-8") as file:
        file.writelines(" ".join(rng.choice(WORDS, rng.integers(3, 10))) + "\n" for _ in range(count))
    words = [folder / "model", texts, "--candidate_labels", "house", "--multi_label"]
    words += ["--output", folder / f"{count}.jsonl", "--threads", str(threads)]
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, ROOT / "classify.py", *words])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"classify.py ended with {os.waitstatus_to_exitcode(status)}")
    # Linux counts kilobytes.
    return {"texts": count, "seconds": time.perf_counter() - started, "peak_mb": usage.ru_maxrss * 1024 / 1e6}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    check_options(options)
    quiet_transformers()
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name, "model"))
        figures = [measure(Path(name), count, options.threads) for count in options.texts]
    for found in figures:
        print(f"{found['texts']:>9,} texts: peak {found['peak_mb']:.0f} MB, {found['seconds']:.0f} s")
    report = {"threads": options.threads, "measured": figures}
    write_report(options, report)
    return report


if __name__ == "__main__":
    sys.exit(run_command(main))
