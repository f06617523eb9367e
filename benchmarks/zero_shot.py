"""Zero-shot classification of texts: ours against transformers' pipeline, in turn, each at its best batch size.

    python -m benchmarks.zero_shot MODEL --texts_from ag_news_test.jsonl --pairs 800 --labels 4 20 100

All sides start from the texts and end with the scores of every label; loading the model is not counted. Each number of
labels gets as many texts as make --pairs pairs. The batch sizes are tried once before the turns begin. The answers are
compared too: how many texts get the pipeline's label, and how far scores are from the pipeline's.

Sides: pipeline, float32, bfloat16, onnx and int8 (the last two need the model's ONNX files).
--clock cpu counts the process's own seconds, for a machine that others use as well; give one thread with it.
"""

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BartForSequenceClassification, pipeline

from benchmarks.options import check_options, make_parser, quiet_transformers, write_report
from distilbart_mnli.data.tables import stream_texts
from distilbart_mnli.errors import run_command
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE
from distilbart_mnli.zero_shot.backends import BackendOptions
from distilbart_mnli.zero_shot.classifier import ZeroShotClassifier

PIPELINE_BATCH_SIZES = {"cpu": (1, 4, 8, 16, 32), "cuda": (16, 32, 64, 128, 256)}
OUR_BATCH_TOKENS = {"cpu": (512, 1024, 2048, 4096), "cuda": (16384, 32768, 65536)}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
SIDES = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "onnx": {"kind": "onnx"},
    "int8": {"kind": "onnx", "dtype": "int8"},
}
TOPICS = ("world", "sports", "business", "science and technology")  # AG News' own
FIELDS = ("music", "law", "health", "travel", "weather", "schools", "farming", "elections", "traffic", "films")
PLACES = ("", "local ", "national ", "foreign ", "rural ", "online ", "ancient ", "modern ", "private ", "public ")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("zero_shot", __doc__)
    parser.add_argument("model", help="folder or Hub id of an NLI classifier")
    parser.add_argument("--texts_from", type=Path, metavar="FILE.jsonl", help="its key text (default: random words)")
    parser.add_argument("--pairs", type=int, default=800, help="of a text and a label, in one turn")
    parser.add_argument("--labels", type=int, nargs="+", default=[4], help="how many, up to 100")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=["float32", "bfloat16"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    return parser.parse_args(arguments)


def read_texts(options: argparse.Namespace, count: int) -> list[str]:
    """The first texts of the file, or random ones of about the lengths of news in short."""
    if options.texts_from:
        return [text for _, text in itertools.islice(stream_texts(options.texts_from, ".jsonl", "text"), count)]
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(FIELDS, max(4, int(rng.normal(40, 12))))) for _ in range(count)]


class Ours:
    """This repository."""

    def __init__(self, options: argparse.Namespace, side: str):
        self.sizes = OUR_BATCH_TOKENS[options.device]
        self.classify = ZeroShotClassifier(options.model, BackendOptions(device=options.device, **SIDES[side]))

    def scores(self, texts: list[str], labels: list[str], size: int) -> np.ndarray:
        scorer = self.classify.scorer(labels, DEFAULT_TEMPLATE, False)
        starts = range(0, len(texts), scorer.texts_at_once)
        return np.concatenate([scorer.scores(texts[i : i + scorer.texts_at_once], size) for i in starts])


class Stock:
    """transformers' pipeline, as its documentation uses it."""

    def __init__(self, options: argparse.Namespace):
        self.sizes = PIPELINE_BATCH_SIZES[options.device]
        model: Any = BartForSequenceClassification.from_pretrained(options.model, dtype=torch.float32)
        make_pipeline: Any = pipeline
        self.classify = make_pipeline(
            "zero-shot-classification", model=model, tokenizer=options.model, device=options.device
        )

    def scores(self, texts: list[str], labels: list[str], size: int) -> np.ndarray:
        answers = self.classify(texts, labels, batch_size=size)
        return np.array([[a["scores"][a["labels"].index(label)] for label in labels] for a in answers])


def measure(sides: dict[str, Any], texts: list[str], labels: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every side on these texts and labels, the pipeline first."""
    clock = CLOCKS[options.clock]

    def seconds_of(side: Any, size: int) -> float:
        started = clock()
        side.scores(texts, labels, size)
        return clock() - started

    best, scores, seconds = {}, {}, {name: [] for name in sides}
    for name, side in sides.items():
        side.scores(texts[:1], labels, side.sizes[0])  # warm-up
        best[name] = min(side.sizes, key=lambda size, side=side: seconds_of(side, size))
        scores[name] = side.scores(texts, labels, best[name])
    for _ in range(options.repetitions):
        for name, side in sides.items():
            seconds[name].append(seconds_of(side, best[name]))
    found: dict[str, Any] = {"labels": len(labels), "texts": len(texts), "sides": {}}
    for name in sides:
        ratios = [theirs / ours for theirs, ours in zip(seconds["pipeline"], seconds[name], strict=True)]
        same = scores[name].argmax(1) == scores["pipeline"].argmax(1)
        found["sides"][name] = {
            "best_batch": best[name],
            "texts_per_second": len(texts) / statistics.median(seconds[name]),
            "ratio": statistics.median(ratios),
            "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios),
            "same_label": int(same.sum()),
            "largest_difference_of_a_score": float(np.abs(scores[name] - scores["pipeline"]).max()),
        }
    return found


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    check_options(options)
    quiet_transformers()
    torch.set_num_threads(options.threads)
    sides = {"pipeline": Stock(options), **{name: Ours(options, name) for name in options.sides}}
    topics = [*TOPICS, *(place + field for place in PLACES for field in FIELDS)]
    conditions = {name: getattr(options, name) for name in ("device", "threads", "clock")}
    report: dict[str, Any] = {"model": Path(options.model).name, **conditions, "measured": []}
    for count in options.labels:
        texts = read_texts(options, max(1, options.pairs // count))
        found = measure(sides, texts, topics[:count], options)
        report["measured"].append(found)
        print(f"{count} labels, {len(texts)} texts")
        for name, figures in found["sides"].items():
            print(
                f"  {name:<9} {figures['texts_per_second']:8.2f} texts/s, {figures['ratio']:5.2f} times "
                f"({figures['ratio_lowest']:.2f} .. {figures['ratio_highest']:.2f}), best batch "
                f"{figures['best_batch']} {'pairs' if name == 'pipeline' else 'tokens'}, the same label for "
                f"{figures['same_label']}, scores within {figures['largest_difference_of_a_score']:.1e}",
                flush=True,
            )
    write_report(options, report)
    return report


if __name__ == "__main__":
    sys.exit(run_command(main))
