"""One model by every back end that is there: torch in float32 and bfloat16, ONNX Runtime in float32 and int8.

    measure_backends(candidate, split, max_seq_length=128, repetitions=5)
    candidate.row["backends"]       # [{"backend": "torch float32", "accuracy": ..., "pairs_per_second": ...}, ...]

The back ends are those of classify.py. Accuracy and agreement are on all rows. In speed they take turns, from token
ids to logits: one pair at a time, and some pairs in length order.
"""

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score

from distilbart_mnli.compare.evaluate import Candidate
from distilbart_mnli.compare.speed import LATENCY_PAIRS, THROUGHPUT_PAIRS
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.data.tokens import TokenizedSplit, tokenize
from distilbart_mnli.model.kernels import supports_bf16
from distilbart_mnli.model.predict import to_task_predictions
from distilbart_mnli.zero_shot.backends import ONNX_FILES, Backend, BackendOptions, open_backend, predict


def installed_backends(path: str) -> dict[str, BackendOptions]:
    """Title -> options of the back ends that this machine and a model's folder have, torch's float32 first."""
    found = {"torch float32": BackendOptions(dtype="float32", device="cpu")}
    if supports_bf16("cpu"):
        found["torch bfloat16"] = BackendOptions(dtype="bfloat16", device="cpu")
    if importlib.util.find_spec("onnxruntime"):
        for title, options in (
            ("ONNX float32", BackendOptions(kind="onnx", dtype="float32")),
            ("ONNX int8", BackendOptions(kind="onnx", dtype="int8")),
        ):
            if Path(path, ONNX_FILES[options.dtype]).is_file():
                found[title] = options
    return found


def measure_backends(
    candidate: Candidate, split: Split, task: Task, max_seq_length: int, repetitions: int
) -> list[dict[str, Any]]:
    """Figures of every back end; agreement is with the first.

    Raises:
        CommandError: one of them cannot be used, or fails.
    """
    backends = {title: open_backend(candidate.path, how) for title, how in installed_backends(candidate.path).items()}
    tokens = tokenize(split, candidate.loaded.tokenizer, max_seq_length)
    single, many = (spread_rows(tokens, count) for count in (LATENCY_PAIRS, THROUGHPUT_PAIRS["cpu"]))
    seconds: dict[str, list[tuple[float, float]]] = {title: [] for title in backends}
    for _ in range(repetitions):
        for title, backend in backends.items():
            one = _seconds(backend, single, batch_tokens=1) / len(single)
            seconds[title].append((one, _seconds(backend, many) / len(many)))
    figures, first = [], None
    for title, backend in backends.items():
        predictions = to_task_predictions(predict(backend, tokens), task, candidate.loaded.label_map)
        first = predictions if first is None else first
        latency, pair = np.median(seconds[title], axis=0)
        figures.append(
            {
                "backend": title,
                "accuracy": float(accuracy_score(split.labels, predictions)),
                "agreement": float(accuracy_score(first, predictions)),
                "latency_ms": float(1e3 * latency),
                "pairs_per_second": float(1 / pair),
                "mb": backend.megabytes,
            }
        )
    return figures


def spread_rows(tokens: TokenizedSplit, count: int) -> TokenizedSplit:
    """So many of the rows, at even steps through all of them; all where there are not so many."""
    rows = np.linspace(0, len(tokens) - 1, min(count, len(tokens))).astype(int)
    ids = [tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]] for row in rows]
    return TokenizedSplit(tokens.name, np.concatenate(ids), np.cumsum([0, *map(len, ids)]), None, "")


def _seconds(backend: Backend, tokens: TokenizedSplit, batch_tokens: int | None = None) -> float:
    started = time.perf_counter()
    predict(backend, tokens, batch_tokens)
    return time.perf_counter() - started
