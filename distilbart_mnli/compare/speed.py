"""How fast a classifier is for those who use it: the stock model, from texts to logits on the host.

    times = measure_speed({"teacher": ..., "12-1": ...}, pairs, device, autocast)

Stock transformers, because that is what a published model is used with. Tokenising and padding count. Models take
turns, so that a busy minute of the machine meets all of them, and every figure is the median over the turns beside
its lowest and highest. Latency: one pair at a time. Throughput: all pairs in length order, at the batch size that was
best for this model.

    python -m distilbart_mnli.compare.speed FOLDER '{"rows": ..., ...}'

is the child process in which peak memory is measured.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import BartConfig, BartForSequenceClassification, PreTrainedTokenizerBase

LATENCY_PAIRS = 24  # single pairs in one turn
MEMORY_ROWS = 32  # rows of the forward pass in which memory is measured, the same for all models
# Pairs in one turn, and the batch sizes that are tried on them.
THROUGHPUT_PAIRS = {"cpu": 128, "cuda": 4096}
BATCH_SIZES = {"cpu": (4, 16, 64), "cuda": (32, 128, 512)}


@dataclass
class Subject:
    """A model whose speed is measured."""

    model: BartForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    batch_size: int = 1
    latencies: list[list[float]] = field(default_factory=list)
    """Seconds of every single pair, a list a turn."""
    rates: list[float] = field(default_factory=list)
    """Pairs a second, one a turn."""

    def logits(self, pairs: Sequence[tuple[str, str]], autocast: Callable[[], Any]) -> np.ndarray:
        """Texts in, numbers out: float32 [pairs, num_labels]."""
        first, second = zip(*pairs, strict=True)
        inputs = self.tokenizer(
            list(first), list(second), truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        ).to(self.model.device)
        with torch.no_grad(), autocast():
            output = self.model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            )
        return output.logits.float().cpu().numpy()

    def rate(self, pairs: Sequence[tuple[str, str]], batch_size: int, autocast: Callable[[], Any]) -> float:
        """Pairs a second, all of them, in batches of `batch_size`."""
        started = time.perf_counter()
        for start in range(0, len(pairs), batch_size):
            self.logits(pairs[start : start + batch_size], autocast)
        return len(pairs) / (time.perf_counter() - started)


def in_length_order(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """By characters: what a user can sort by before tokenising."""
    return sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))


def spread(pairs: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """`count` of the pairs, at even steps through all of them, again from the start where there are fewer."""
    index = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int)
    return [pairs[index[number % len(index)]] for number in range(count)]


def measure_speed(
    subjects: dict[str, Subject],
    pairs: Sequence[tuple[str, str]],
    device: torch.device,
    autocast: Callable[[], Any] = nullcontext,
    repetitions: int = 5,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Latency and throughput of every subject, by its name.

    Args:
        pairs: premises and hypotheses; some are taken, evenly spread.
        repetitions: turns of every model.

    Returns:
        latency_ms_p50 and _p95 over all single pairs, latency_ms_p50_lowest and _highest over the turns;
        pairs_per_second (median over the turns), _lowest, _highest; batch_size.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    single, many = spread(pairs, LATENCY_PAIRS), in_length_order(spread(pairs, THROUGHPUT_PAIRS[kind]))
    bar = tqdm(
        total=len(subjects) * (repetitions + 1),
        desc=f"Speed on {kind}",
        unit="turn",
        leave=False,
        disable=not progress,
    )
    with bar:
        for subject in subjects.values():
            subject.model.to(device).eval()
            subject.logits(many[-1:], autocast)  # the longest pair: whatever is set up at first use is set up now
            rates = {size: subject.rate(many, size, autocast) for size in BATCH_SIZES[kind]}
            subject.batch_size = max(rates, key=rates.__getitem__)
            bar.update()
        for _ in range(repetitions):
            for subject in subjects.values():
                seconds = []
                for pair in single:
                    started = time.perf_counter()
                    subject.logits([pair], autocast)
                    seconds.append(time.perf_counter() - started)
                subject.latencies.append(seconds)
                subject.rates.append(subject.rate(many, subject.batch_size, autocast))
                bar.update()
    return {name: _figures(subject) for name, subject in subjects.items()}


def _figures(subject: Subject) -> dict[str, Any]:
    milliseconds = 1e3 * np.array(subject.latencies)
    medians = np.median(milliseconds, axis=1)
    return {
        "latency_ms_p50": float(np.median(milliseconds)),
        "latency_ms_p50_lowest": float(medians.min()),
        "latency_ms_p50_highest": float(medians.max()),
        "latency_ms_p95": float(np.percentile(milliseconds, 95)),
        "pairs_per_second": statistics.median(subject.rates),
        "pairs_per_second_lowest": min(subject.rates),
        "pairs_per_second_highest": max(subject.rates),
        "batch_size": subject.batch_size,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def peak_memory(model_path: str, length: int, device: torch.device, bf16: bool, threads: int) -> float | None:
    """Peak MB of a forward pass of MEMORY_ROWS x `length` tokens, weights included, in a process of its own.

    On a GPU, what torch allocated at most; on a CPU, the resident memory above what the libraries take. None where the
    system does not tell it (/proc is Linux's), or where the child failed.
    """
    if Path(model_path).is_dir():
        model_path = str(Path(model_path).resolve())  # the child runs in the repository's folder
    task = {"rows": MEMORY_ROWS, "length": length, "device": device.type, "bf16": bf16, "threads": threads}
    done = subprocess.run(
        [sys.executable, "-m", "distilbart_mnli.compare.speed", model_path, json.dumps(task)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode != 0 or not done.stdout.strip():
        return None
    return json.loads(done.stdout.splitlines()[-1])["peak_mb"]


def _memory_child(model_path: str, task: dict[str, Any]) -> float:
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    _load_and_run(None, 1, 8, device, task["bf16"])  # a model of no size: what is imported at first use counts nowhere
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _load_and_run(model_path, task["rows"], task["length"], device, task["bf16"])
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before_mb = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    _load_and_run(model_path, task["rows"], task["length"], device, task["bf16"])
    return _resident("VmHWM") - before_mb


def _load_and_run(model_path: str | None, rows: int, length: int, device: torch.device, bf16: bool) -> None:
    if model_path is None:
        small = BartConfig(
            vocab_size=8, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
            decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
        )  # fmt: skip
        model = BartForSequenceClassification(small)
    else:
        model = BartForSequenceClassification.from_pretrained(model_path, dtype=torch.float32)
    model = model.to(device).eval()
    for parameter in model.parameters():
        parameter.sum()  # every weight is read once: a file that is only mapped would count with the pages in use
    ids = torch.full((rows, length), 3, device=device)
    ids[:, -1] = model.config.eos_token_id
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float().cpu()


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps({"peak_mb": _memory_child(sys.argv[1], json.loads(sys.argv[2]))}))
