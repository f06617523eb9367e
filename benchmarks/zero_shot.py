"""Zero-shot classification of texts: ours against transformers' pipeline, in turn, each at its best batch size.

    python -m benchmarks.zero_shot MODEL ag_news_test.jsonl --texts 200

Both start from the texts and end with the scores of every label; loading the model is not counted. The batch sizes are
tried once on the same texts before the turns begin. The answers are compared too: every text must get the same label,
and every score must agree to 1e-4.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BartForSequenceClassification, pipeline

from benchmarks.options import check_options, make_parser, write_report
from distilbart_mnli.compare.evaluate import predict_together
from distilbart_mnli.compare.zero_shot import (
    ZeroShotData,
    label_scores,
    read_zero_shot,
    tokenize_pairs,
)
from distilbart_mnli.data.batches import Padding
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import run_command
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE, Arguments

PIPELINE_BATCH_SIZES = {"cpu": (1, 2, 4, 8, 16, 32), "cuda": (16, 32, 64, 128, 256)}
OUR_BATCH_TOKENS = {"cpu": (512, 1024, 2048, 4096, 8192), "cuda": (16384, 32768, 65536)}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("zero_shot", __doc__)
    parser.add_argument("model", help="folder or Hub id of an NLI classifier")
    parser.add_argument("file", type=Path, help="columns text and label")
    parser.add_argument("--texts", type=int, default=200, help="first texts of the file")
    parser.add_argument("--hypothesis_template", default=DEFAULT_TEMPLATE)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    return parser.parse_args(arguments)


class Ours:
    """This repository: all pairs in length order, the last layer at one position."""

    def __init__(self, options: argparse.Namespace, data: ZeroShotData):
        self.data, self.sizes = data, OUR_BATCH_TOKENS[options.device]
        self.loaded = load(Arguments(task_name="mnli", model_name_or_path=options.model), TASKS["mnli"])
        self.loaded.model.to(options.device)

    def scores(self, batch_tokens: int) -> np.ndarray:
        model = self.loaded.model
        pairs = tokenize_pairs(self.data, self.loaded.tokenizer, model.config)
        padding = Padding(model.config.max_position_embeddings)
        (logits,) = predict_together([model], pairs, padding, batch_tokens=batch_tokens)
        return label_scores(logits, self.data, model.config)


class Stock:
    """transformers' pipeline, as its documentation uses it."""

    def __init__(self, options: argparse.Namespace, data: ZeroShotData):
        self.data, self.sizes = data, PIPELINE_BATCH_SIZES[options.device]
        model: Any = BartForSequenceClassification.from_pretrained(options.model, dtype=torch.float32)
        make_pipeline: Any = pipeline
        self.classify = make_pipeline(
            "zero-shot-classification", model=model, tokenizer=options.model, device=options.device
        )

    def scores(self, batch_size: int) -> np.ndarray:
        labels = self.data.candidate_labels
        answers = self.classify(
            self.data.texts, labels, hypothesis_template=self.data.hypothesis_template, batch_size=batch_size
        )
        return np.array([[a["scores"][a["labels"].index(label)] for label in labels] for a in answers])


def seconds_of(side: Any, size: int) -> float:
    started = time.perf_counter()
    side.scores(size)
    return time.perf_counter() - started


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    check_options(options)
    torch.set_num_threads(options.threads)
    data = read_zero_shot(options.file, options.hypothesis_template, options.texts)
    sides = {"pipeline": Stock(options, data), "ours": Ours(options, data)}
    best, tried = {}, {}
    for name, side in sides.items():
        side.scores(side.sizes[0])  # warm-up
        tried[name] = {size: seconds_of(side, size) for size in side.sizes}
        best[name] = min(tried[name], key=tried[name].__getitem__)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.repetitions):
        for name, side in sides.items():
            seconds[name].append(seconds_of(side, best[name]))
    theirs, ours = (side.scores(best[name]) for name, side in sides.items())
    ratios = [slow / fast for slow, fast in zip(seconds["pipeline"], seconds["ours"], strict=True)]
    result = {
        "model": Path(options.model).name,
        "data": data.name,
        "texts": len(data),
        "labels": len(data.candidate_labels),
        "device": options.device,
        "threads": options.threads,
        "best": best,
        "tried_seconds": tried,
        "texts_per_second": {name: len(data) / statistics.median(values) for name, values in seconds.items()},
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "same_label": int((theirs.argmax(1) == ours.argmax(1)).sum()),
        "largest_difference_of_a_score": float(np.abs(theirs - ours).max()),
    }
    for name in sides:
        unit = "pairs" if name == "pipeline" else "tokens"
        print(f"{name:<9} {result['texts_per_second'][name]:8.1f} texts/s, best batch {best[name]} {unit}")
    print(
        f"ratio {result['ratio']:.2f} ({result['ratio_lowest']:.2f} .. {result['ratio_highest']:.2f}); "
        f"{result['same_label']} of {len(data)} texts have the same label, scores differ by at most "
        f"{result['largest_difference_of_a_score']:.1e}"
    )
    write_report(options, result)
    return result


if __name__ == "__main__":
    sys.exit(run_command(main))
