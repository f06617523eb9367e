"""Logits of a whole set, every example exactly once, on any number of processes.

Batches are cut from the rows in length order, independently of the number of processes, and dealt out in turn. The
host waits for the logits after the last batch. Every process adds its own at their rows' places to an array of zeros;
the sum over processes is the result (x + 0 is x, so no bit changes), and a second sum counts how often each row was
computed: anything but once stops the run. No metric is computed on a part of the set, and no process keeps a duplicate
to drop later.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from tqdm import tqdm

from distilbart_mnli.data.batches import Collator, MicroBatch, prefetch
from distilbart_mnli.data.metrics import compute_metrics
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.errors import RunError
from distilbart_mnli.model.bart import ShortCutBart

FORWARD_INPUTS = ("input_ids", "attention_mask", "encoder_hidden_states")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How logits are computed in a run: the same for all its sets."""

    batch_size: int
    """Rows in one forward pass of one process."""
    num_processes: int = 1
    process_index: int = 0
    reduce_sum: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor
    """The sum of every process's tensor."""
    autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    """The precision: `Accelerator.autocast`."""
    workers: int = 1
    """Threads that make batches ahead (batches.prefetch)."""
    static_shapes: bool = False
    """Every batch has exactly `batch_size` rows: where every shape is a compilation."""
    before_round: Callable[[int], None] = lambda number: None
    """Called with 0, 1, ... before each round of one batch a process, on all of them equally often; may raise."""
    mark_step: Callable[[], None] = lambda: None
    """Called after every batch: where operations are only recorded (train/device.py)."""
    progress: bool = False


def predict_logits(model: ShortCutBart, collate: Collator, inference: Inference) -> np.ndarray:
    """Logits float32 [rows, num_labels] of the collator's set, in the order of its rows.

    Raises:
        RunError: a row was not computed exactly once.
    """

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**{name: batch[name] for name in FORWARD_INPUTS if name in batch})

    return predict(model, logits, model.config.num_labels, collate, inference)


def predict(
    model: ShortCutBart,
    forward: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    columns: int,
    collate: Collator,
    inference: Inference,
) -> np.ndarray:
    """What `forward` gives, [batch, columns] for a batch on the model's device, of all rows: float32 [rows, columns].

    Raises:
        RunError: a row was not computed exactly once.
    """
    split = collate.split
    order = np.argsort(split.lengths, kind="stable")
    batches = [order[start : start + inference.batch_size] for start in range(0, len(order), inference.batch_size)]
    mine = batches[inference.process_index :: inference.num_processes]
    was_training = model.training
    model.eval()
    try:
        outputs = _outputs(model.device, forward, collate, mine, inference, len(batches))
    finally:
        model.train(was_training)
    values = torch.zeros(len(split), columns)
    counts = torch.zeros(len(split), dtype=torch.int32)
    for rows, output in zip(mine, outputs, strict=True):
        values[rows] += output.cpu()[: len(rows)]
        counts[rows] += 1
    values, counts = inference.reduce_sum(values).cpu(), inference.reduce_sum(counts).cpu()
    wrong = int((counts != 1).sum())
    if wrong:
        raise RunError(f"evaluation of {split.name}: {wrong} of {len(split)} rows were not computed exactly once")
    return values.numpy()


def _outputs(
    device: torch.device,
    forward: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    collate: Collator,
    batches: list[np.ndarray],
    inference: Inference,
    total: int,
) -> list[torch.Tensor]:
    """What `forward` gives for this process's batches, on the device; nothing waits for it."""

    def filled(rows: np.ndarray) -> MicroBatch:
        missing = inference.batch_size - len(rows) if inference.static_shapes else 0
        weights = np.concatenate([np.ones(len(rows), np.float32), np.zeros(missing, np.float32)])
        return MicroBatch(np.concatenate([rows, np.full(missing, rows[0])]), weights)

    name, outputs = collate.split.name, []
    bar = tqdm(total=total, desc=f"Evaluating {name}", unit="batch", leave=False, disable=not inference.progress)
    made = prefetch(collate, [filled(rows) for rows in batches], inference.workers)
    with torch.no_grad(), bar, contextlib.closing(made):
        for number in range(-(-total // inference.num_processes)):
            inference.before_round(number)
            batch = next(made, None)
            if batch is None:  # the last round has one only for the first processes
                break
            moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
            with inference.autocast():
                outputs.append(forward(moved).float())
            inference.mark_step()
            bar.update(inference.num_processes)
    return outputs


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


def to_task_probabilities(logits: np.ndarray, label_map: np.ndarray | None) -> np.ndarray | None:
    """Probabilities float64 [rows, task labels]: the softmax over the model's labels. None for regression."""
    return None if label_map is None else softmax(logits.astype(np.float64), axis=1)[:, label_map]


def evaluate_logits(
    logits: np.ndarray, model_labels: np.ndarray, task: Task, label_map: np.ndarray | None
) -> dict[str, float]:
    """{"loss": ..., "accuracy": ..., ...} for one set.

    Args:
        model_labels: the rows' labels as the model's ids (values for regression).
    """
    references = model_labels
    if label_map is not None:
        inverse = np.full(logits.shape[1], -1)
        inverse[label_map] = np.arange(len(label_map))
        references = inverse[model_labels]
    metrics = compute_metrics(task, to_task_predictions(logits, task, label_map), references)
    return {"loss": mean_loss(logits, model_labels, task.is_regression), **metrics}


def write_predictions(
    path: Path,
    logits: np.ndarray,
    model_labels: np.ndarray | None,
    predictions: np.ndarray,
    id2label: dict[int, str],
    task: Task,
    index: Sequence[int] = (),
) -> None:
    """`eval_predictions_*.tsv`: index, label, prediction (by name) and one logit column a model label, in its order.

    The labels are the model's (`id2label`), the predictions the task's (to_task_predictions). `index`: as Split's.
    """

    def written(value: Any, names: Mapping[int, str] | Sequence[str]) -> str:
        return f"{value:.9g}" if task.is_regression else str(names[int(value)])

    columns = ["index", "label", "prediction", *(f"logit_{id2label[i]}" for i in range(logits.shape[1]))]
    lines = ["\t".join(columns)]
    for row, (place, values, prediction) in enumerate(
        zip(index or range(len(logits)), logits, predictions, strict=True)
    ):
        label = "" if model_labels is None else written(model_labels[row], id2label)
        prediction = written(prediction, task.label_names)
        lines.append("\t".join([str(place), label, prediction, *(f"{value:.9g}" for value in values)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
