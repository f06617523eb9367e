"""A folder with a BART classifier for ONNX Runtime and transformers.js, checked before it is there.

    exported = export_onnx(loaded, Path("distilbart-mnli-12-1"), rows, quantize=True, min_agreement=0.985)

writes into the folder

    onnx/model.onnx              float32; what transformers.js calls dtype "fp32"
    onnx/model_quantized.onnx    int8 weights, "q8"; only if it agrees with float32 on enough of the rows
    onnx/quantization.json       how often it does, on which rows, its accuracy, how it was quantised

and, where the folder is not the model's own, its config.json and tokenizer. Both graphs carry the digest of the
weights that they were made from, so that publishing can tell a stale one.
"""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.metrics import accuracy_score

from distilbart_mnli.data.labels import match_labels
from distilbart_mnli.data.splits import Split, get_task, load_evaluation
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.data.tokens import TokenizedSplit, tokenize
from distilbart_mnli.errors import InputError, cannot_write
from distilbart_mnli.export.graph import BATCH_SIZES, check_graph, export_graph
from distilbart_mnli.export.int8 import SETTING, agreement, quantize_graph
from distilbart_mnli.export.session import (
    FLOAT_FILE,
    FOLDER,
    INT8_FIGURES,
    INT8_FILE,
    check_place,
    open_session,
    session_logits,
)
from distilbart_mnli.files import check_output_dir, finish_folder, remove, sha256, temporary_folder
from distilbart_mnli.model.predict import to_task_predictions
from distilbart_mnli.model.pretrained import WEIGHT_FILES, Loaded, load
from distilbart_mnli.options.fields import Arguments

logger = logging.getLogger(__name__)

MIN_AGREEMENT = 0.985
"""The share of rows on which int8 must give float32's answer, where nothing else is said."""


@dataclass(frozen=True)
class Rows:
    """Rows of a data set that an export is checked and measured on."""

    tokens: TokenizedSplit
    labels: np.ndarray
    """int64 [rows], ids of the task."""
    label_map: np.ndarray
    """int64 [task labels] -> the model's label ids."""
    task: Task
    max_seq_length: int


@dataclass(frozen=True)
class Exported:
    """What was written, and what was measured of it."""

    folder: Path
    difference: float
    """Of the float32 graph's logits from torch's, as a part of the largest."""
    figures: dict[str, Any] | None
    """Of the quantised graph, as in quantization.json, also where it was not written."""
    quantized: bool
    """Whether it was written."""


def load_for_export(args: Arguments) -> Loaded:
    """The classifier of args.model_name_or_path, float32, with the labels that it has.

    Raises:
        InputError, HubError: as pretrained.load.
    """
    plain = dataclasses.replace(args, attn_implementation="eager", reinit_classifier=False, config_name=None)
    return load(plain, None)


def load_rows(args: Arguments, loaded: Loaded, task: Task | None = None, split: Split | None = None) -> Rows:
    """The first evaluation set of the task, for this model.

    Raises:
        InputError: the model's labels are not the task's, the task has none, or the data cannot be read.
        HubError: the data is on the Hub and cannot be had.
    """
    task = task or get_task(args)
    if task.is_regression:
        raise InputError(f"task {task.name} has no labels that two models could agree on; int8 is measured by them")
    label_map = match_labels(task, loaded.model.config.id2label, f"model {loaded.name}")
    split = split or load_evaluation(args, task)[0]
    assert split.labels is not None and label_map is not None
    tokens = tokenize(split, loaded.tokenizer, args.max_seq_length)
    return Rows(tokens, split.labels, label_map, task, args.max_seq_length)


def check_folder(folder: Path, loaded_name: str) -> None:
    """Whether an export of this model may be written to `folder`; touches nothing.

    Raises:
        InputError: it cannot be written, or holds another model.
    """
    check_output_dir(folder)
    check_place(folder)
    if (folder / FOLDER).is_dir():
        check_output_dir(folder / FOLDER)
    weights = next((name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights and not _is_own(folder, loaded_name):
        raise InputError(f"output_dir {folder}: holds another model ({weights}), which the export would not be of")


def _is_own(folder: Path, name: str) -> bool:
    return Path(name).is_dir() and folder.resolve() == Path(name).resolve()


def export_onnx(
    loaded: Loaded, output_dir: Path, rows: Rows | None, quantize: bool = False, min_agreement: float = MIN_AGREEMENT
) -> Exported:
    """Export, check, quantise, measure; then replace what an earlier export left in output_dir/onnx.

    Args:
        loaded: from load_for_export.
        rows: checked beside the made-up ones; needed to quantise.
        min_agreement: a quantised graph that agrees on a smaller share of the rows is not written.

    Raises:
        InputError: too large a model, or a folder that cannot be written.
        RunError: a graph that does not give torch's logits, or a full disk; nothing was written.
    """
    check_folder(output_dir, loaded.name)
    real = [] if rows is None else _first_rows(rows.tokens, sum(BATCH_SIZES))
    figures, quantized = None, False
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with temporary_folder(output_dir, FOLDER) as temporary:
            float_file, int8_file = temporary / FLOAT_FILE, temporary / INT8_FILE
            logger.info("exporting %s", loaded.name)
            onnx.save(export_graph(loaded.model), float_file)
            difference = check_graph(float_file, loaded.model, real)
            logger.info("%s: logits at most %.1e from stock transformers'", FLOAT_FILE, difference)
            if quantize:
                assert rows is not None
                onnx.save(quantize_graph(float_file), int8_file)
                figures = measure(float_file, int8_file, rows, loaded.model.config.pad_token_id)
                quantized = figures["agreement"] >= min_agreement
                if quantized:
                    text = json.dumps({**figures, "min_agreement": min_agreement}, indent=2) + "\n"
                    (temporary / INT8_FIGURES).write_text(text, encoding="utf-8")
                else:
                    int8_file.unlink()
            if not _is_own(output_dir, loaded.name):
                loaded.model.config.save_pretrained(temporary)
                loaded.tokenizer.save_pretrained(temporary)
            finish_folder(temporary)
            _replace(temporary, output_dir)
    except OSError as error:
        message = f"output_dir {output_dir}: the export could not be written"
        raise cannot_write(message, error, "name another output_dir") from None
    return Exported(output_dir / FOLDER, difference, figures, quantized)


def _replace(temporary: Path, output_dir: Path) -> None:
    """Move the new files in. What was made from the old ones goes first, so that no two exports stand together."""
    folder = output_dir / FOLDER
    folder.mkdir(exist_ok=True)
    ours = (INT8_FIGURES, INT8_FILE, FLOAT_FILE)
    for name in ours:
        remove(folder / name)
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == FLOAT_FILE):
        path.replace((folder if path.name in ours else output_dir) / path.name)


def _first_rows(tokens: TokenizedSplit, count: int) -> list[np.ndarray]:
    return [tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]] for i in range(min(count, len(tokens)))]


def measure(float_file: Path, int8_file: Path, rows: Rows, pad_token_id: int) -> dict[str, Any]:
    """What quantization.json says: agreement and accuracy (fractions), rows, sizes (MB of 10^6 bytes)."""
    logits = {file: session_logits(open_session(file), rows.tokens, pad_token_id) for file in (float_file, int8_file)}
    accuracy, accuracy_float = (
        float(accuracy_score(rows.labels, to_task_predictions(logits[file], rows.task, rows.label_map)))
        for file in (int8_file, float_file)
    )
    size, size_float = int8_file.stat().st_size, float_file.stat().st_size
    return {
        "agreement": agreement(logits[int8_file], logits[float_file]),
        "accuracy": accuracy,
        "accuracy_float32": accuracy_float,
        "rows": len(rows.tokens),
        "data": rows.tokens.name,
        "max_seq_length": rows.max_seq_length,
        "mb": size / 1e6,
        "mb_float32": size_float / 1e6,
        "setting": SETTING,
        "sha256": sha256(int8_file),
        "versions": {library.__name__: library.__version__ for library in (torch, onnx, onnxruntime)},
    }
