"""Models side by side on the same rows: accuracy, agreement with the teacher, zero-shot topics.

    candidates = load_candidates(["facebook/bart-large-mnli", "distilbart-mnli-12-1"], args, task)
    evaluate_candidates(candidates, splits, task, ...)

Students whose encoder was frozen still have the teacher's, bit for bit. Models with equal encoders (and tokenizers)
therefore share its outputs: a batch is encoded once, and every decoder reads it. That changes no logit and takes about
half of the time for a teacher and its four students.

A model that cannot be loaded, or that computes values that are not finite, is reported and left out; the others go on.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from distilbart_mnli.compare.zero_shot import (
    ZeroShotData,
    entailment_id,
    label_scores,
    tokenize_pairs,
    zero_shot_metrics,
)
from distilbart_mnli.data.batches import Collator, MicroBatch, Padding, TokenizedSplit, prefetch, tokenize
from distilbart_mnli.data.splits import Split, Task
from distilbart_mnli.errors import CommandError
from distilbart_mnli.model.bart import count_parameters
from distilbart_mnli.model.encoder_cache import encoder_digest
from distilbart_mnli.model.encoder_cache_build import BATCH_TOKENS, encoder_batches
from distilbart_mnli.model.predict import evaluate_logits, to_task_predictions
from distilbart_mnli.model.pretrained import Loaded, input_digest, load
from distilbart_mnli.options.fields import Arguments

logger = logging.getLogger(__name__)


@dataclass
class Candidate:
    """One model of the comparison, and what was measured of it."""

    path: str
    """Folder or Hub id, as the user gave it."""
    name: str
    """How the sheet calls it."""
    loaded: Loaded | None = None
    """None: it failed."""
    error: CommandError | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """Keys of one row of tradeoffs.json."""
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    """Task label ids int64 [rows] by evaluation set."""

    def fail(self, error: CommandError) -> None:
        """Leave the model out from here on."""
        logger.error("%s is left out: %s", self.name, error)
        self.error, self.loaded = error, None


def candidate_names(paths: Sequence[str]) -> list[str]:
    """Last parts of folders, whole Hub ids; as many parts as it takes where two would be the same."""
    parts = [Path(path).resolve().parts if Path(path).exists() else (path,) for path in paths]
    names = [part[-1] for part in parts]
    for depth in range(2, max(map(len, parts), default=1) + 1):
        if len(set(names)) == len(names):
            break
        names = [
            "/".join(part[-depth:]) if names.count(name) > 1 else name for part, name in zip(parts, names, strict=True)
        ]
    return names


def load_candidates(paths: Sequence[str], args: Arguments, task: Task, progress: bool = False) -> list[Candidate]:
    """Every model, float32, in eval mode on the CPU; one that cannot be used carries its error."""
    candidates = [Candidate(path, name) for path, name in zip(paths, candidate_names(paths), strict=True)]
    for candidate in tqdm(candidates, desc="Loading", unit="model", leave=False, disable=not progress):
        try:
            candidate.loaded = load(dataclasses.replace(args, model_name_or_path=candidate.path), task)
        except CommandError as error:
            candidate.fail(error)
            continue
        candidate.figures = describe_model(candidate.loaded)
    return candidates


def describe_model(loaded: Loaded) -> dict[str, Any]:
    """Layers, parameters (a shared tensor counted once), and the size of the weights in their dtype."""
    config, parameters = loaded.model.config, count_parameters(loaded.model)[1]
    figures: dict[str, Any] = {
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "parameters": parameters,
        "mb_float32": 4 * parameters / 1e6,
    }
    files = [
        file for name in ("model.safetensors", "pytorch_model.bin") if (file := Path(loaded.name) / name).is_file()
    ]
    if files:
        figures["mb_on_disk"] = files[0].stat().st_size / 1e6
    return figures


# ---------------------------------------------------------------------------------------------------------------------
# Logits of several models


def predict_together(
    candidates: Sequence[Candidate],
    split: TokenizedSplit,
    padding: Padding,
    autocast: Callable[[], Any],
    progress: bool = False,
    batch_tokens: int | None = None,
) -> list[np.ndarray]:
    """Logits float32 [rows, num_labels] of models with one and the same encoder, in the order of the rows.

    Every batch (in length order, about `batch_tokens` each) is encoded once, by the first model.
    """
    models = [candidate.loaded.model for candidate in candidates if candidate.loaded is not None]
    first = models[0]
    default = BATCH_TOKENS.get(first.device.type, BATCH_TOKENS["cpu"])
    batches = encoder_batches(split.lengths, batch_tokens or default)
    collate = Collator(split, first.config.pad_token_id, padding, pin=first.device.type == "cuda")
    logits = [np.full((len(split), model.config.num_labels), np.nan, dtype=np.float32) for model in models]
    items = [MicroBatch(rows, np.ones(len(rows), np.float32)) for rows in batches]
    bar = tqdm(total=len(split), desc=f"Evaluating {split.name}", unit="row", leave=False, disable=not progress)
    with torch.no_grad(), bar:
        for rows, batch in zip(batches, prefetch(collate, items, workers=1), strict=True):
            ids, mask = (batch[name].to(first.device, non_blocking=True) for name in ("input_ids", "attention_mask"))
            with autocast():
                states = first.encode(ids, mask)
                outputs = [model(ids, mask, states).float() for model in models]
            for values, output in zip(logits, outputs, strict=True):
                values[rows] = output.cpu().numpy()
            bar.update(len(rows))
    return logits


def groups_of(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates with equal encoders and tokenizers together, in their order; failed ones are in none."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        if candidate.loaded is not None:
            key = encoder_digest(candidate.loaded.model), input_digest(candidate.loaded.tokenizer)
            groups.setdefault(key, []).append(candidate)
    return list(groups.values())


def evaluate_candidates(
    candidates: Sequence[Candidate],
    splits: Sequence[Split],
    task: Task,
    zero_shot: ZeroShotData | None,
    args: Arguments,
    device: torch.device,
    autocast: Callable[[], Any],
    progress: bool = False,
) -> None:
    """Fill in accuracy on every set, agreement with the first candidate on the first set, and zero-shot scores."""
    for group in groups_of(candidates):
        for candidate in group:
            assert candidate.loaded is not None
            candidate.loaded.model.to(device)
        started = time.monotonic()
        if len(group) > 1:
            logger.info("one encoder for %s: computed once", ", ".join(candidate.name for candidate in group))
        for split in splits:
            _evaluate_set(group, split, task, args, autocast, progress)
        if zero_shot is not None:
            _evaluate_zero_shot(group, zero_shot, autocast, progress)
        logger.info("%s: evaluated in %.0f s", ", ".join(c.name for c in group), time.monotonic() - started)
        for candidate in group:
            if candidate.loaded is not None:
                candidate.loaded.model.to("cpu")
    teacher, matched = candidates[0].predictions, splits[0].name
    for candidate in candidates[1:]:
        if matched in teacher and matched in candidate.predictions:
            same = candidate.predictions[matched] == teacher[matched]
            candidate.figures["agreement_with_teacher"] = float(same.mean())


def set_kind(split: Split) -> str:
    """ "matched" or "mismatched", as MNLI calls its two evaluation sets."""
    return "mismatched" if split.name.endswith("-mm") else "matched"


def _evaluate_set(
    group: list[Candidate], split: Split, task: Task, args: Arguments, autocast: Callable[[], Any], progress: bool
) -> None:
    present = [candidate for candidate in group if candidate.loaded is not None]
    if not present:
        return
    assert present[0].loaded is not None
    tokens = tokenize(split, present[0].loaded.tokenizer, args.max_seq_length, progress=progress)
    kind = set_kind(split)
    found = predict_together(present, tokens, Padding(args.max_seq_length), autocast, progress)
    for candidate, logits in zip(present, found, strict=True):
        if not _finite(candidate, logits, split.name):
            continue
        assert candidate.loaded is not None and split.labels is not None
        label_map = candidate.loaded.label_map
        labels = split.labels if label_map is None else label_map[split.labels]
        metrics = evaluate_logits(logits, labels, task, label_map)
        candidate.figures |= {f"accuracy_{kind}": metrics["accuracy"], f"rows_{kind}": len(split)}
        candidate.predictions[split.name] = to_task_predictions(logits, task, label_map)


def _evaluate_zero_shot(
    group: list[Candidate], data: ZeroShotData, autocast: Callable[[], Any], progress: bool
) -> None:
    present = []
    for candidate in group:
        if candidate.loaded is not None:
            try:
                entailment_id(candidate.loaded.model.config, candidate.name)
                present.append(candidate)
            except CommandError as error:
                candidate.fail(error)
    if not present:
        return
    assert present[0].loaded is not None
    config = present[0].loaded.model.config
    tokens = tokenize_pairs(data, present[0].loaded.tokenizer, config)
    found = predict_together(present, tokens, Padding(config.max_position_embeddings), autocast, progress)
    for candidate, logits in zip(present, found, strict=True):
        if _finite(candidate, logits, data.name) and candidate.loaded is not None:
            scores = label_scores(logits, data, entailment_id(candidate.loaded.model.config))
            candidate.figures["zero_shot"] = {
                **zero_shot_metrics(scores, data),
                "data": data.name,
                "texts": len(data),
                "labels": len(data.candidate_labels),
                "hypothesis_template": data.hypothesis_template,
            }


def _finite(candidate: Candidate, logits: np.ndarray, where: str) -> bool:
    rows = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(rows):
        candidate.fail(
            CommandError(f"{where}: the logits of {len(rows)} rows are not finite, the first is row {rows[0]}")
        )
    return not len(rows)
