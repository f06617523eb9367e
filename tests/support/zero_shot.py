"""Zero-shot scores as compare_models.py computes them, of a model in a folder."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from distilbart_mnli.compare.zero_shot import ZeroShotData, label_scores, tokenize_pairs
from distilbart_mnli.data.batches import Collator, Padding
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.predict import Inference, predict_logits


def scores_of(folder: Path, data: ZeroShotData) -> np.ndarray:
    """float64 [texts, candidate labels]."""
    model = ShortCutBart.from_pretrained(folder, dtype=torch.float32).eval()
    pairs = tokenize_pairs(data, AutoTokenizer.from_pretrained(folder), model.config)
    collate = Collator(pairs, model.config.pad_token_id, Padding(model.config.max_position_embeddings))
    return label_scores(predict_logits(model, collate, Inference(batch_size=8)), data, model.config)
