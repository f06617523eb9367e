"""A classifier's score on zero-shot topics: texts whose label is known.

data = read_zero_shot(Path("ag_news_test.jsonl"), "This example is {}.")
tokenizer = PairTokenizer(tokenizer, model.config, data.candidate_labels, data.hypothesis_template)
scores = label_scores(predict_logits(model, ... tokenizer.pairs(data.texts)), ..., model.config)
zero_shot_figures(scores, data)                                            # accuracy, macro_f1, ...
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from distilbart_mnli.data.tables import read_columns
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.fields import DEFAULT_TEMPLATE
from distilbart_mnli.zero_shot.pairs import check_template


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
    check_template(hypothesis_template)
    columns = read_columns(
        path, {"text": ("text",), "label": ("label",)}, skip_bad_rows=skip_bad_rows, ignore_label=ignore_label
    )
    columns.log_left_out(ignore_label)
    names, labels = np.unique(columns.values["label"], return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{path}: every row has the label {names[0]!r}; expected at least two labels")
    texts, labels = columns.values["text"][:limit], labels.astype(np.int64)[:limit]
    return ZeroShotData(path.name, texts, labels, names.tolist(), hypothesis_template)


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
