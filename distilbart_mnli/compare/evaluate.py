"""Models side by side on the same rows: accuracy, agreement with the teacher, zero-shot topics.

    candidates = load_candidates(["facebook/bart-large-mnli", "distilbart-mnli-12-1"], args, task)
    evaluate_candidates(candidates, EvaluationData(task, splits, 128), torch.device("cpu"), bf16=False)
    [candidate.row for candidate in working(candidates)]       # of the sheet

Students whose encoder was frozen still have the teacher's, bit for bit. Models with equal encoders (and tokenizers)
therefore share its outputs: a batch is encoded once, and every decoder reads it. That changes no logit and takes about
half of the time for a teacher and its four students.

A model that cannot be loaded, that fails, or that computes values that are not finite is reported and left out; the
others go on. One whose labels are not MNLI's but that knows entailment, as transformers' zero-shot pipeline asks for,
is measured on the topics alone.
"""

import dataclasses
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score
from tqdm import tqdm

from distilbart_mnli.compare.calibration import calibration_figures
from distilbart_mnli.compare.zero_shot import ZeroShotData, zero_shot_figures
from distilbart_mnli.data.batches import Collator, MicroBatch, Padding, prefetch
from distilbart_mnli.data.labels import entailment_id
from distilbart_mnli.data.splits import Split
from distilbart_mnli.data.tasks import Task, set_kind
from distilbart_mnli.data.tokens import TokenizedSplit, tokenize, tokenizer_digest
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.bart import ShortCutBart, count_parameters
from distilbart_mnli.model.frozen_encoder import BATCH_TOKENS, encoder_batches, encoder_digest
from distilbart_mnli.model.history import how_made
from distilbart_mnli.model.predict import to_task_predictions
from distilbart_mnli.model.pretrained import Loaded, load, with_labels_of
from distilbart_mnli.model.source import reported
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.zero_shot.pairs import PairTokenizer, label_scores

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Candidate:
    """One model of the comparison, and what was measured of it."""

    path: str
    """Folder or Hub id, as the user gave it."""
    name: str
    """How the sheet calls it."""
    loaded: Loaded = field(init=False)
    """Of those that work (`working`): one that could not be loaded has none."""
    error: CommandError | None = None
    """Why it is left out."""
    row: dict[str, Any] = field(default_factory=dict)
    """Its row of the sheet: the figures of describe_model, evaluate_candidates, and speed.py."""
    predictions: np.ndarray | None = None
    """Task label ids int64 [rows] on the first evaluation set."""

    def leave_out(self, error: CommandError) -> None:
        """Report the error; it goes no further than this model."""
        logger.error("%s is left out: %s", self.name, error)
        self.error = error


def working(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that are loaded and have not failed."""
    return [candidate for candidate in candidates if candidate.error is None]


@dataclass(frozen=True)
class EvaluationData:
    """What every candidate is evaluated on."""

    task: Task
    splits: list[Split]
    """The task's evaluation sets, the one of agreement first."""
    max_seq_length: int
    """Tokens of a pair; zero-shot pairs have the model's own limit."""
    zero_shot: ZeroShotData | None = None


def candidate_names(paths: Sequence[str]) -> list[str]:
    """Last parts of folders, whole Hub ids; as many parts as it takes where two would be the same."""
    parts = [Path(path).resolve().parts if Path(path).exists() else (path,) for path in paths]
    names = []
    for part in parts:
        tails = (part[-depth:] for depth in range(1, len(part)))
        unique = (tail for tail in tails if sum(other[-len(tail) :] == tail for other in parts) == 1)
        names.append("/".join(next(unique, part)))
    return names


def load_candidates(paths: Sequence[str], args: Arguments, task: Task, zero_shot: bool = False) -> list[Candidate]:
    """Every model, float32, in eval mode on the CPU; one that cannot be used carries its error.

    Args:
        zero_shot: a model can be used for topics alone; its label_map is None.
    """
    candidates = [Candidate(path, name) for path, name in zip(paths, candidate_names(paths), strict=True)]
    for candidate in tqdm(candidates, desc="Loading", unit="model", leave=False, disable=None):
        with reported(candidate.leave_out):
            loaded = load(dataclasses.replace(args, model_name_or_path=candidate.path), None)
            candidate.loaded = _with_labels(loaded, task, zero_shot)
            candidate.row = {"model": candidate.name, **describe_model(candidate.loaded)}
    return candidates


def _with_labels(loaded: Loaded, task: Task, zero_shot: bool) -> Loaded:
    try:
        return with_labels_of(loaded, task)
    except InputError as error:
        if entailment_id(loaded.model.config.label2id or {}) is None:
            raise
        if not zero_shot:
            raise InputError(f"{error}; with --zero_shot it is measured on topics") from error
        logger.info("%s: its labels are not those of %s; measured on topics alone", loaded.name, task.name)
        return loaded


def describe_model(loaded: Loaded) -> dict[str, Any]:
    """How it was made, layers, parameters (a shared tensor counted once), the size of the weights in their dtype."""
    config, (_, parameters) = loaded.model.config, count_parameters(loaded.model)
    made = how_made(getattr(config, "distillation", None))
    figures: dict[str, Any] = {
        **({"made_by": made} if made else {}),
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "parameters": parameters,
        "mb_float32": 4 * parameters / 1e6,
    }
    for file in (Path(loaded.name) / name for name in ("model.safetensors", "pytorch_model.bin")):
        if file.is_file():
            return {**figures, "mb_on_disk": file.stat().st_size / 1e6}
    return figures


def evaluate_candidates(
    candidates: Sequence[Candidate], data: EvaluationData, device: torch.device, bf16: bool
) -> None:
    """Fill in accuracy on every set, agreement with the first candidate on the first set, and zero-shot scores.

    bf16: by autocast, instead of float32.
    """
    for group in groups_of(candidates):
        started = time.monotonic()
        names = ", ".join(candidate.name for candidate in group)
        if len(group) > 1:
            logger.info("one encoder for %s: computed once", names)
        _evaluate_group(group, data, device, bf16)
        logger.info("%s: evaluated in %.0f s", names, time.monotonic() - started)
    teacher, *students = candidates
    for student in students:
        if teacher.predictions is not None and student.predictions is not None:
            student.row["agreement_with_teacher"] = float(accuracy_score(teacher.predictions, student.predictions))


def groups_of(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Working candidates with equal encoders and tokenizers together, in their order."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in working(candidates):
        loaded = candidate.loaded
        # model_max_length: where zero-shot pairs are cut.
        key = encoder_digest(loaded.model), tokenizer_digest(loaded.tokenizer), str(loaded.tokenizer.model_max_length)
        groups.setdefault(key, []).append(candidate)
    return list(groups.values())


def _evaluate_group(group: list[Candidate], data: EvaluationData, device: torch.device, bf16: bool) -> None:
    """All of a group at once; each alone where one of several fails, so that the others have their figures."""
    errors: list[CommandError] = []
    with reported(errors.append):
        for candidate in group:
            candidate.loaded.model.to(device)
        _fill_in(group, data, bf16)
    for candidate in group:
        candidate.loaded.model.to("cpu")
    if errors and len(group) == 1:
        group[0].leave_out(errors[0])
    elif errors:
        for candidate in working(group):
            _evaluate_group([candidate], data, device, bf16)


def _fill_in(group: list[Candidate], data: EvaluationData, bf16: bool) -> None:
    """Every candidate's figures; the group has one encoder and one tokenizer."""
    tokenizer, config = group[0].loaded.tokenizer, group[0].loaded.model.config
    classifiers = [candidate for candidate in group if candidate.loaded.label_map is not None]
    for split in data.splits if classifiers else ():
        tokens = tokenize(split, tokenizer, data.max_seq_length, progress=sys.stderr.isatty())
        kind = set_kind(split.name)
        for candidate, logits in _predict(classifiers, tokens, Padding(data.max_seq_length), bf16):
            predictions = to_task_predictions(logits, data.task, candidate.loaded.label_map)
            candidate.row[f"accuracy_{kind}"] = float(accuracy_score(split.labels, predictions))
            candidate.row[f"rows_{kind}"] = len(split)
            if split is data.splits[0]:
                candidate.predictions = predictions
                assert split.labels is not None  # an evaluation set
                candidate.row |= calibration_figures(logits[:, candidate.loaded.label_map], split.labels)
    if (topics := data.zero_shot) is not None:
        pairs = PairTokenizer(tokenizer, config, topics.candidate_labels, topics.hypothesis_template)
        tokens = pairs.pairs(topics.texts, topics.name)
        for candidate, logits in _predict(group, tokens, Padding(config.max_position_embeddings), bf16):
            with reported(candidate.leave_out):
                scores = label_scores(logits, len(topics.candidate_labels), candidate.loaded.model.config)
                candidate.row["zero_shot"] = zero_shot_figures(scores, topics)


def _predict(
    group: list[Candidate], tokens: TokenizedSplit, padding: Padding, bf16: bool
) -> Iterator[tuple[Candidate, np.ndarray]]:
    """Those of the group that still work, each with its logits; whose logits are not finite is left out."""
    if group := working(group):
        models = [candidate.loaded.model for candidate in group]
        for candidate, logits in zip(group, predict_together(models, tokens, padding, bf16), strict=True):
            rows = np.flatnonzero(~np.isfinite(logits).all(axis=1))
            if len(rows):
                reason = f"the logits of {len(rows)} rows are not finite, the first is row {rows[0]}"
                candidate.leave_out(CommandError(f"{tokens.name}: {reason}"))
            else:
                yield candidate, logits


def predict_together(
    models: Sequence[ShortCutBart],
    split: TokenizedSplit,
    padding: Padding,
    bf16: bool = False,
    batch_tokens: int | None = None,
) -> list[np.ndarray]:
    """Logits float32 [rows, num_labels] of models with one and the same encoder, in the order of the rows.

    Every batch (in length order, about `batch_tokens` each) is encoded once, by the first model.
    """
    first = models[0]
    device = first.device
    batches = encoder_batches(split.lengths, batch_tokens or BATCH_TOKENS[device.type])
    collate = Collator(split, first.config.pad_token_id, padding, pin=device.type == "cuda")
    logits = [np.full((len(split), model.config.num_labels), np.nan, dtype=np.float32) for model in models]
    items = [MicroBatch(rows, np.ones(len(rows), np.float32)) for rows in batches]
    bar = tqdm(total=len(split), desc=f"Evaluating {split.name}", unit="row", leave=False, disable=None)
    with torch.no_grad(), bar:
        for rows, batch in zip(batches, prefetch(collate, items, workers=1), strict=True):
            ids, mask = (batch[name].to(device, non_blocking=True) for name in ("input_ids", "attention_mask"))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                states = first.encode(ids, mask)
                outputs = [model(ids, mask, states).float() for model in models]
            for values, output in zip(logits, outputs, strict=True):
                values[rows] = output.cpu().numpy()
            bar.update(len(rows))
    return logits
