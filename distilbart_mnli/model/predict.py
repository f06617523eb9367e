"""Logits of a whole set, every example exactly once, on any number of processes.

Batches are cut from the rows in length order, independently of the number of processes, and dealt out in turn. The
host waits for the logits after the last batch. Every process adds its own at their rows' places to an array of zeros;
the sum over processes is the result (x + 0 is x, so no bit changes), and a second sum counts how often each row was
computed: anything but once stops the run. No metric is computed on a part of the set, and no process keeps a duplicate
to drop later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from distilbart_mnli.data.batches import Collator, MicroBatch, prefetch
from distilbart_mnli.data.metrics import compute_metrics
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.errors import RunError
from distilbart_mnli.model.bart import ShortCutBart


@dataclass(frozen=True)
class Processes:
    """What evaluation needs to know of the other processes: how many, which one this is, and a sum over all."""

    count: int = 1
    index: int = 0
    reduce_sum: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor


def predict_logits(
    model: ShortCutBart,
    collate: Collator,
    batch_size: int,
    processes: Processes | None = None,
    autocast: Callable[[], Any] = torch.no_grad,
    workers: int = 1,
    progress: bool = False,
    fill: bool = False,
    mark_step: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Logits float32 [rows, num_labels], in the order of the rows.

    Args:
        collate: the set, and how it is padded (batching.Collator).
        batch_size: rows in one forward pass of one process.
        fill: every batch has exactly `batch_size` rows (XLA: one shape).
        mark_step: called after every batch (XLA: run it).

    Raises:
        RunError: a row was not computed exactly once.
    """
    processes = processes or Processes()
    split = collate.split
    order = np.argsort(split.lengths, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = batches[processes.index :: processes.count]

    def filled(rows: np.ndarray) -> MicroBatch:
        missing = batch_size - len(rows) if fill else 0
        return MicroBatch(
            np.concatenate([rows, np.full(missing, rows[0])]),
            np.concatenate([np.ones(len(rows), np.float32), np.zeros(missing, np.float32)]),
        )

    device = model.device
    outputs: list[torch.Tensor] = []
    was_training = model.training
    model.eval()
    bar = tqdm(total=len(batches), desc=f"Evaluating {split.name}", unit="batch", leave=False, disable=not progress)
    with torch.no_grad(), bar:
        stream = prefetch(collate, [filled(rows) for rows in mine], workers)
        for batch in stream:
            inputs = {name: batch[name].to(device, non_blocking=True) for name in batch if name in FORWARD_INPUTS}
            with autocast():
                outputs.append(model(**inputs).float())
            mark_step()
            bar.update(processes.count)
    model.train(was_training)
    logits = torch.zeros(len(split), model.config.num_labels)
    counts = torch.zeros(len(split), dtype=torch.int32)
    for rows, output in zip(mine, outputs, strict=True):
        index = torch.from_numpy(rows)
        logits.index_add_(0, index, output.cpu()[: len(rows)])
        counts.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
    logits, counts = processes.reduce_sum(logits).cpu(), processes.reduce_sum(counts).cpu()
    wrong = int((counts != 1).sum())
    if wrong:
        raise RunError(f"evaluation of {split.name}: {wrong} of {len(split)} rows were not computed exactly once")
    return logits.numpy()


FORWARD_INPUTS = ("input_ids", "attention_mask", "encoder_hidden_states")


def mean_loss(logits: np.ndarray, labels: np.ndarray, is_regression: bool) -> float:
    """Mean cross-entropy (or squared error) over all rows, in float64 so that it does not depend on an order."""
    values = torch.from_numpy(logits).double()
    if is_regression:
        return float(torch.nn.functional.mse_loss(values[:, 0], torch.from_numpy(labels).double()))
    return float(torch.nn.functional.cross_entropy(values, torch.from_numpy(labels)))


def to_task_predictions(logits: np.ndarray, task: Task, label_map: np.ndarray | None) -> np.ndarray:
    """Predictions in the task's terms: label ids int64 [rows], or values float32 [rows] for regression.

    Args:
        label_map: int64 [task labels] -> model labels; a model label that is no task label is never predicted.
    """
    if task.is_regression:
        return logits[:, 0]
    assert label_map is not None
    return logits[:, label_map].argmax(axis=1)


def evaluate_logits(
    logits: np.ndarray, model_labels: np.ndarray, task: Task, label_map: np.ndarray | None
) -> dict[str, float]:
    """{"loss": ..., "accuracy": ..., ...} for one set.

    Args:
        model_labels: the rows' labels as the model's ids (values for regression).
    """
    if task.is_regression or label_map is None:
        references = model_labels
    else:
        inverse = np.full(logits.shape[1], -1)
        inverse[label_map] = np.arange(len(label_map))
        references = inverse[model_labels]
    metrics = compute_metrics(task, to_task_predictions(logits, task, label_map), references)
    return {"loss": mean_loss(logits, model_labels, task.is_regression), **metrics}


def write_predictions(
    path: Path, logits: np.ndarray, model_labels: np.ndarray | None, predictions: np.ndarray, names: dict[str, Any]
) -> None:
    """`eval_predictions_*.tsv`: index, label, prediction (by name) and one logit column a model label, in its order.

    Args:
        names: {"model": id2label of the model, "task": the task's label names, () for regression}.
    """
    id2label, task_labels = names["model"], names["task"]
    head = ["index", "label", "prediction", *(f"logit_{id2label[i]}" for i in range(logits.shape[1]))]
    lines = ["\t".join(head)]
    for index, (row, predicted) in enumerate(zip(logits, predictions, strict=True)):
        if task_labels:
            label = "" if model_labels is None else id2label[int(model_labels[index])]
            shown = task_labels[int(predicted)]
        else:
            label = "" if model_labels is None else f"{model_labels[index]:.9g}"
            shown = f"{predicted:.9g}"
        lines.append("\t".join([str(index), str(label), shown, *(f"{value:.9g}" for value in row)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
