"""Zero-shot scores of a model in a folder, by the scorer that classify.py and compare_models.py share."""

from pathlib import Path

import numpy as np

from distilbart_mnli.compare.zero_shot import ZeroShotData
from distilbart_mnli.zero_shot import ZeroShotClassifier


def scores_of(folder: Path, data: ZeroShotData) -> np.ndarray:
    """float64 [texts, candidate labels]."""
    classify = ZeroShotClassifier(str(folder), dtype="float32")
    return classify.scorer(data.candidate_labels, data.hypothesis_template, False).scores(data.texts)
