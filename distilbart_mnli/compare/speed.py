"""How fast a classifier is for those who use it: the stock model, from texts to logits on the host.

    figures = measure_speed({"teacher": TimedModel(...), "12-1": TimedModel(...)}, pairs, device)

Stock transformers, because that is what a published model is used with. Tokenising and padding count. Models take
turns, so that a busy minute of the machine meets all of them, and every figure is the median over the turns beside
its lowest and highest. Latency: one pair at a time. Throughput: all pairs in length order, at the batch size that was
best for this model.

    python -m distilbart_mnli.compare.speed FOLDER '{"length": 128, "device": "cpu", "bf16": false, "threads": 2}'

is the child process in which peak memory is measured.
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import BartConfig, BartForSequenceClassification, PreTrainedTokenizerBase

from distilbart_mnli.errors import CommandError
from distilbart_mnli.model.source import reported

LATENCY_PAIRS = 24  # single pairs in one turn
MEMORY_ROWS = 32  # rows of the forward pass in which memory is measured, the same for all models
# Pairs in one turn, and the batch sizes that are tried on them.
THROUGHPUT_PAIRS = {"cpu": 128, "cuda": 4096}
BATCH_SIZES = {"cpu": (4, 16, 64), "cuda": (32, 128, 512)}


@dataclass
class TimedModel:
    """A model whose speed is measured."""

    model: BartForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    bf16: bool = False
    """Compute in bfloat16 (autocast) instead of float32."""
    batch_size: int = 1
    latencies: list[list[float]] = field(default_factory=list)
    """Seconds of every single pair, a list a turn."""
    rates: list[float] = field(default_factory=list)
    """Pairs a second, one a turn."""
    error: CommandError | None = None
    """Why it could not be measured."""

    def fail(self, error: CommandError) -> None:
        self.error = error

    def logits(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Texts in, numbers out: float32 [pairs, num_labels]."""
        first, second = zip(*pairs, strict=True)
        inputs = self.tokenizer(
            list(first), list(second), truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        ).to(self.model.device)
        return forward_pass(self.model, inputs["input_ids"], inputs["attention_mask"], self.bf16)

    def seconds(self, pairs: Sequence[tuple[str, str]], batch_size: int) -> float:
        """The time of all pairs, in batches of `batch_size`."""
        started = time.perf_counter()
        for start in range(0, len(pairs), batch_size):
            self.logits(pairs[start : start + batch_size])
        return time.perf_counter() - started

    def figures(self) -> dict[str, Any]:
        """Latency p50 and p95 over all single pairs; what has _lowest and _highest is a median over the turns."""
        milliseconds = 1e3 * np.array(self.latencies)
        medians = np.median(milliseconds, axis=1)
        return {
            "latency_ms_p50": float(np.median(milliseconds)),
            "latency_ms_p50_lowest": float(medians.min()),
            "latency_ms_p50_highest": float(medians.max()),
            "latency_ms_p95": float(np.percentile(milliseconds, 95)),
            "pairs_per_second": float(np.median(self.rates)),
            "pairs_per_second_lowest": min(self.rates),
            "pairs_per_second_highest": max(self.rates),
            "batch_size": self.batch_size,
        }


def forward_pass(model: BartForSequenceClassification, ids: Any, mask: Any, bf16: bool) -> np.ndarray:
    """Logits float32 [rows, num_labels] on the host, of ids and mask [rows, length] on the model's device."""
    with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = model(input_ids=ids, attention_mask=mask, use_cache=False)
    return output.logits.float().cpu().numpy()


def in_length_order(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """By characters: what a user can sort by before tokenising."""
    return sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))


def spread(pairs: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """`count` of the pairs, at even steps through all of them, again from the start where there are fewer."""
    index = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int)
    return [pairs[index[number % len(index)]] for number in range(count)]


def measure_speed(
    models: dict[str, TimedModel], pairs: Sequence[tuple[str, str]], device: torch.device, repetitions: int = 5
) -> dict[str, dict[str, Any]]:
    """Figures of every model, by its name, of `repetitions` turns on some of the pairs, evenly spread.

    A model that fails has none, but its `error`.
    """
    single, many = spread(pairs, LATENCY_PAIRS), in_length_order(spread(pairs, THROUGHPUT_PAIRS[device.type]))
    turns = len(models) * (repetitions + 1)
    with tqdm(total=turns, desc=f"Speed on {device.type}", unit="turn", leave=False, disable=None) as bar:
        for timed in models.values():
            with reported(timed.fail):
                timed.model.to(device).eval()
                timed.logits(many[-1:])  # the longest pair: whatever is set up at first use is set up now
                timed.batch_size = min(BATCH_SIZES[device.type], key=functools.partial(timed.seconds, many))
            bar.update()
        for _ in range(repetitions):
            for timed in [timed for timed in models.values() if timed.error is None]:
                with reported(timed.fail):
                    timed.latencies.append([timed.seconds([pair], 1) for pair in single])
                    timed.rates.append(len(many) / timed.seconds(many, timed.batch_size))
                bar.update()
    return {name: timed.figures() for name, timed in models.items() if timed.error is None}


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def peak_memory(model_path: str, length: int, device: str, bf16: bool) -> float | None:
    """Peak MB of a forward pass of MEMORY_ROWS x `length` tokens, weights included, in a process of its own.

    On a GPU, what torch allocated at most; on a CPU, the resident memory above what the libraries take. None where the
    system does not tell it (/proc is Linux's), or where the child failed.
    """
    options = json.dumps({"length": length, "device": device, "bf16": bf16, "threads": torch.get_num_threads()})
    # The child finds this very package, wherever it lies; -P: and no other one in the current folder.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "distilbart_mnli.compare.speed", model_path, options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def _memory_child(model_path: str, length: int, device: str, bf16: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    small = BartConfig(
        vocab_size=8, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
    )  # fmt: skip
    # A model of no size first: what is imported at first use counts nowhere.
    _compute(BartForSequenceClassification(small).to(device), 1, 8, bf16)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 1e6
    else:
        before = resident_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    model = BartForSequenceClassification.from_pretrained(model_path, dtype=torch.float32)
    _compute(model.to(device), MEMORY_ROWS, length, bf16)
    return (torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else resident_mb("VmHWM")) - before


def _compute(model: BartForSequenceClassification, rows: int, length: int, bf16: bool) -> None:
    for parameter in model.eval().parameters():
        parameter.sum()  # every weight is read once: a file that is only mapped would count with the pages in use
    ids = torch.full((rows, length), 3, device=model.device)
    ids[:, -1] = model.config.eos_token_id
    forward_pass(model, ids, torch.ones_like(ids), bf16)


def resident_mb(name: str) -> float:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(_memory_child(sys.argv[1], **json.loads(sys.argv[2]))))
