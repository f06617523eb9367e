"""The evaluation sets of a run, and what an evaluation of them gives."""

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from distilbart_mnli.data.batches import Collator
from distilbart_mnli.data.metrics import ENCODER_MSE
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import set_suffix
from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.model.encoder_cache import EncoderCache
from distilbart_mnli.model.predict import evaluate_logits, predict, predict_logits
from distilbart_mnli.train.objective import EncoderFit
from distilbart_mnli.train.run import Run, open_encoder_cache, tokenize_split
from distilbart_mnli.train.signals import StopSignals


@dataclass
class EvaluationSet:
    """One of a task's evaluation sets: MNLI has two."""

    texts: Split
    tokens: TokenizedSplit
    suffix: str
    """What the keys of its metrics end with: "" or "_mm"."""
    states: EncoderCache | None = None
    """The encoder's states of all its rows, if they are cached: the teacher's, where they are learnt."""


@dataclass(frozen=True)
class EvaluationResult:
    """Logits (float32 [rows, num_labels]) and metrics of one set."""

    name: str
    suffix: str
    logits: np.ndarray
    metrics: dict[str, float]
    seconds: float

    def named_metrics(self) -> dict[str, float]:
        """{"eval_accuracy_mm": ...}"""
        return {f"eval_{key}{self.suffix}": value for key, value in self.metrics.items()}


def evaluation_sets(run: Run, splits: list[Split]) -> list[EvaluationSet]:
    """The sets, tokenised."""
    return [
        EvaluationSet(split, tokenize_split(run, split), set_suffix(split.name, splits[0].name)) for split in splits
    ]


def open_caches(run: Run, sets: list[EvaluationSet], times: int) -> None:
    """Open or build the encoder caches of sets that will be read `times` times."""
    for evaluation_set in sets:
        evaluation_set.states = open_encoder_cache(run, evaluation_set.tokens, times)


def logits_of(
    run: Run, tokens: TokenizedSplit, signals: StopSignals, states: EncoderCache | None = None
) -> np.ndarray:
    """Logits float32 [rows, num_labels] of the model as it is now; the same on every process.

    Raises:
        StopRequested: before the next batch, on every process.
    """
    collate = Collator(tokens, run.model.config.pad_token_id, run.padding, states, pin=run.device.is_cuda)
    return predict_logits(run.model, collate, dataclasses.replace(run.inference, before_round=signals.check))


def logits_and_distances(
    run: Run, tokens: TokenizedSplit, signals: StopSignals, states: EncoderCache | None
) -> tuple[np.ndarray, np.ndarray]:
    """logits_of in a fit, and every row's mean squared distance from the teacher's encoder states: float32 [rows]."""
    fit = EncoderFit(run.model, run.teacher_encoder, states)
    collate = Collator(tokens, run.model.config.pad_token_id, run.padding, pin=run.device.is_cuda, **fit.gathered)
    inference = dataclasses.replace(run.inference, before_round=signals.check)
    columns = run.model.config.num_labels + 1
    found = predict(run.model, fit.logits_and_losses, columns, collate, inference)
    return found[:, :-1], found[:, -1]


def evaluate(run: Run, sets: list[EvaluationSet], signals: StopSignals) -> list[EvaluationResult]:
    """Logits and metrics of all sets; the same on every process. Raises StopRequested as logits_of does."""
    results = []
    for evaluation_set in sets:
        started, tokens, states = time.monotonic(), evaluation_set.tokens, evaluation_set.states
        more = {}
        if run.fits_encoder:
            logits, distances = logits_and_distances(run, tokens, signals, states)
            more[ENCODER_MSE] = float(distances.mean(dtype=np.float64))
        else:
            logits = logits_of(run, tokens, signals, states)
        assert tokens.labels is not None
        metrics = {**evaluate_logits(logits, tokens.labels, run.task, run.label_map), **more}
        seconds = time.monotonic() - started
        results.append(EvaluationResult(tokens.name, evaluation_set.suffix, logits, metrics, seconds))
    return results
