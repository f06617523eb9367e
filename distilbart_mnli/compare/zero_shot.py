"""A classifier's score on zero-shot topics: every text against every label, as an NLI pair.

    data = read_zero_shot(Path("ag_news_test.jsonl"), "This example is {}.")
    pairs = tokenize_pairs(data, tokenizer, model.config)
    scores = label_scores(predict_logits(model, ...), data, model.config)      # [texts, labels]
    zero_shot_figures(scores, data)                                            # accuracy, macro_f1, ...

The method is that of Yin et al., arXiv 1909.00161, as transformers' zero-shot-classification pipeline has it with
multi_label off: softmax over the labels of the entailment logits. The pipeline makes one batch after the other in the
order of the texts, and pads each to its longest pair. Here all pairs of all texts are sorted by length first, and the
model computes its last decoder layer where the head reads it (model/bart.py). Both leave every score as it is
(tests/unit/compare/test_zero_shot.py compares with the pipeline; benchmarks/zero_shot.py has the times).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score
from transformers import BartConfig, PreTrainedTokenizerBase

from distilbart_mnli.data.labels import entailment_id
from distilbart_mnli.data.tables import read_columns
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.data.transfer import zero_shot_pairs
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.checks import template
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE


@dataclass(frozen=True)
class ZeroShotData:
    """Texts, the label of each, and what makes a hypothesis of a label."""

    name: str
    texts: list[str]
    labels: np.ndarray  # int64 [texts], into candidate_labels
    candidate_labels: list[str]
    hypothesis_template: str

    def __len__(self) -> int:
        return len(self.texts)


def read_zero_shot(
    path: Path,
    hypothesis_template: str = DEFAULT_TEMPLATE,
    limit: int | None = None,
    skip_bad_rows: bool = False,
    ignore_label: str | None = None,
) -> ZeroShotData:
    """Texts and labels from the columns `text` and `label` of a JSON-lines, CSV or TSV file.

    The candidate labels are those of the whole file, sorted, also where `limit` keeps only its first rows.

    Args:
        skip_bad_rows, ignore_label: as for tables.read_columns.

    Raises:
        InputError: the file cannot be read or has no such columns, it has fewer than two labels, or the template does
            not take a label: it needs one {}.
    """
    try:
        template(hypothesis_template)
    except ValueError as error:
        raise InputError(f"hypothesis_template {error}") from None
    columns = read_columns(
        path, {"text": ("text",), "label": ("label",)}, skip_bad_rows=skip_bad_rows, ignore_label=ignore_label
    )
    columns.log_left_out(ignore_label)
    names, labels = np.unique(columns.values["label"], return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{path}: every row has the label {names[0]!r}; expected at least two labels")
    texts, labels = columns.values["text"][:limit], labels.astype(np.int64)[:limit]
    return ZeroShotData(path.name, texts, labels, names.tolist(), hypothesis_template)


def tokenize_pairs(data: ZeroShotData, tokenizer: PreTrainedTokenizerBase, config: BartConfig) -> TokenizedSplit:
    """Token ids of all pairs: text 0 with each label, text 1 with each label, and so on; no labels.

    As in the pipeline, a pair that is too long loses tokens of its text, never of its hypothesis; where the text has
    not that many tokens, none are taken.

    Raises:
        InputError: a pair of the last kind has more tokens than the model has positions.
    """
    texts, hypotheses = zero_shot_pairs(data.texts, data.candidate_labels, data.hypothesis_template)
    whole = tokenizer(texts, hypotheses, truncation=False, verbose=False)
    pairs, positions = whole["input_ids"], config.max_position_embeddings
    limit = min(tokenizer.model_max_length, positions)
    longer = [row for row, ids in enumerate(pairs) if len(ids) > limit]
    # One token of the text has to stay, or the tokenizer refuses to cut.
    cut = [row for row in longer if whole.sequence_ids(row).count(0) > len(pairs[row]) - limit]
    if cut:
        first, second = ([column[row] for row in cut] for column in (texts, hypotheses))
        shorter = tokenizer(first, second, truncation="only_first", max_length=limit)["input_ids"]
        for row, ids in zip(cut, shorter, strict=True):
            pairs[row] = ids
    for row in longer:
        if len(pairs[row]) > positions:
            text, label = divmod(row, len(data.candidate_labels))
            raise InputError(
                f"{data.name}: the label {data.candidate_labels[label][:60]!r} with text {text + 1} has "
                f"{len(pairs[row])} tokens, the model {positions} positions; shorten the label"
            )
    ids, offsets = np.concatenate(pairs).astype(np.int32), np.cumsum([0, *map(len, pairs)])
    return TokenizedSplit(data.name, ids, offsets, None, digest_of(ids, offsets))


def label_scores(logits: np.ndarray, data: ZeroShotData, config: BartConfig) -> np.ndarray:
    """Probabilities float64 [texts, candidate labels], each row of sum 1.

    Args:
        logits: float32 [texts x candidate labels, num_labels], in the order of `tokenize_pairs`.
        config: of the model; its label that means entailment is the one that counts.

    Raises:
        InputError: it has none.
    """
    label2id = config.label2id or {}
    entailment = entailment_id(label2id)
    if entailment is None:
        raise InputError(
            f"{config.name_or_path}: none of its labels {sorted(label2id)} begins with entail, as NLI's does"
        )
    values = logits[:, entailment].astype(np.float64).reshape(len(data), len(data.candidate_labels))
    return softmax(values, axis=1)


def zero_shot_figures(scores: np.ndarray, data: ZeroShotData) -> dict[str, Any]:
    """The entry `zero_shot` in a model's row; macro_f1 is the mean over the labels that occur or are predicted."""
    predicted = scores.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(data.labels, predicted)),
        "macro_f1": float(f1_score(data.labels, predicted, average="macro")),
        "data": data.name,
        "texts": len(data),
        "labels": len(data.candidate_labels),
        "hypothesis_template": data.hypothesis_template,
    }
