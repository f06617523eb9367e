"""A zero-shot classifier that is called like transformers' pipeline, gives its answers, and takes less time.

classify = ZeroShotClassifier("distilbart-mnli-12-3")
classify("A new striker for the club.", ["sports", "business"])
{'sequence': ..., 'labels': ['sports', 'business'], 'scores': [0.98, 0.02]}
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distilbart_mnli.data.tokens import digest_of
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE
from distilbart_mnli.zero_shot.backends import Backend, BackendOptions, open_backend, predict
from distilbart_mnli.zero_shot.pairs import (
    PairTokenizer,
    check_labels,
    check_template,
    entailment_of,
    label_scores,
)

# How many pairs are tokenised, sorted by length and computed at once: enough of each length to fill a batch.
PAIRS_AT_ONCE = {"cpu": 1024, "cuda": 65536}


class ZeroShotClassifier:
    """Callable like transformers' zero-shot-classification pipeline, with the same answers.

    In float32, scores are the pipeline's up to rounding. Unlike the pipeline, it refuses a label that is given twice.
    """

    def __init__(self, model: str | Backend, options: BackendOptions | None = None, **more: Any):
        """Load a model.

        Args:
            model: a folder or a Hub id, or what `open_backend` returned.
            options, more: how it is computed: `dtype="float32"`, `kind="onnx"`, ... (BackendOptions).

        Raises:
            InputError, HubError: as `open_backend`; no label of the model means entailment.
        """
        if isinstance(model, str):
            model = open_backend(model, options or BackendOptions(**more))
        self.backend = model
        entailment_of(model.config)

    def __call__(
        self,
        sequences: str | Sequence[str],
        candidate_labels: str | Sequence[str],
        hypothesis_template: str = DEFAULT_TEMPLATE,
        multi_label: bool = False,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Labels and scores, the best first, of one text or of each of several.

        Args:
            sequences: text or texts.
            candidate_labels: a list, or one string with commas between them.
            hypothesis_template: with {} where the label goes.
            multi_label: every label for itself; otherwise the scores of a text have the sum 1.

        Returns:
            {"sequence": text, "labels": [...], "scores": [...]}, or a list of them for a list.

        Raises:
            InputError: an empty text; labels or a template that cannot be used; a label that is too long.
        """
        texts = [sequences] if isinstance(sequences, str) else list(sequences)
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str) or not text:
                raise InputError(f"text {number} is {'empty' if isinstance(text, str) else 'no text'}; leave it out")
        labels = split_labels(candidate_labels)
        scorer = self.scorer(labels, hypothesis_template, multi_label)
        answers = []
        for start in range(0, len(texts), scorer.texts_at_once):
            part = texts[start : start + scorer.texts_at_once]
            answers += [ranked(text, labels, row) for text, row in zip(part, scorer.scores(part), strict=True)]
        return answers[0] if isinstance(sequences, str) else answers

    def scorer(self, labels: Sequence[str], hypothesis_template: str, multi_label: bool) -> "Scorer":
        """Scores of any number of texts for one list of labels, each label tokenised once.

        Raises:
            InputError: labels or a template that cannot be used; a label that is too long.
        """
        check_labels(labels)
        check_template(hypothesis_template)
        return Scorer(self.backend, labels, hypothesis_template, multi_label)


class Scorer:
    """Scores of texts for one list of labels."""

    def __init__(self, backend: Backend, labels: Sequence[str], hypothesis_template: str, multi_label: bool):
        self.backend, self.labels, self.multi_label = backend, list(labels), multi_label
        self.hypotheses = [hypothesis_template.format(label) for label in labels]
        self.tokenizer = PairTokenizer(backend.tokenizer, backend.config, labels, hypothesis_template)
        self.texts_at_once = max(1, PAIRS_AT_ONCE[backend.device] // len(labels))

    def digest(self) -> str:
        """SHA-256 of everything that decides a score, but the texts."""
        return digest_of(self.backend.digest(), json.dumps(self.hypotheses), str(self.multi_label))

    def scores(
        self,
        texts: Sequence[str],
        batch_tokens: int | None = None,
        report: Callable[[int], object] = lambda rows: None,
    ) -> np.ndarray:
        """Probabilities float64 [texts, labels]; all pairs of these texts are in memory at once.

        Args:
            batch_tokens, report: as for `backends.predict`.

        Raises:
            RunError: a logit is not finite.
        """
        logits = predict(self.backend, self.tokenizer.pairs(texts), batch_tokens, report)
        scores = label_scores(logits, len(self.labels), self.backend.config, self.multi_label)
        if not np.isfinite(logits).all():
            raise RunError(f"{self.backend.name}: a logit is not finite; try --dtype float32")
        return scores


def split_labels(labels: str | Sequence[str]) -> list[str]:
    """A list of labels, or the parts between the commas of one string."""
    if isinstance(labels, str):
        return [label.strip() for label in labels.split(",") if label.strip()]
    return list(labels)


def ranked(text: str, labels: Sequence[str], scores: np.ndarray) -> dict[str, Any]:
    """The pipeline's answer: labels and scores, the best first."""
    order = scores.argsort()[::-1]
    return {"sequence": text, "labels": [labels[i] for i in order], "scores": [float(scores[i]) for i in order]}
