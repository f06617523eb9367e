"""The last look at a model before it is published: does a clean copy work for somebody who has only transformers?

What is uploaded is what is tested: the folder holds the published files and nothing else, it is read with the stock
classes and nothing of ours, on the CPU in float32. Checked are the weights' completeness, the label names, the tied
embeddings, the logits of the run's first evaluation rows, for a model that knows entailment the zero-shot pipeline
against NLI done by hand, and of the files for ONNX Runtime that they are of these weights and give these logits.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartForSequenceClassification,
    PreTrainedTokenizerBase,
    pipeline,
)

from distilbart_mnli.data.labels import check_names, entailment_id, is_generic, read_label_names
from distilbart_mnli.errors import RunError
from distilbart_mnli.export.session import (
    FLOAT_FILE,
    FOLDER,
    INT8_FIGURES,
    INT8_FILE,
    open_session,
    run_session,
    weights_of,
)
from distilbart_mnli.files import sha256
from distilbart_mnli.model.bart import not_finite, shares_one_table, weights_digest
from distilbart_mnli.model.source import is_library_error
from distilbart_mnli.options.fields import PRECISION_DTYPES
from distilbart_mnli.publish.run_files import read_json

logger = logging.getLogger(__name__)

ROWS = 64
"""How many evaluation rows are compared."""

# Mean difference of logits, relative to the largest one, that the dtype of a run explains; single logits may be four
# times as far off. 2e-2 is ten roundings of bfloat16 (2**-9), 5e-3 twenty of float16 (2**-12); float32 leaves room for
# a GPU's TF32 products (10 bits, 2**-10).
TOLERANCE = {"float32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}

TEXT = "The museum opens an hour later on Mondays, and the new wing stays closed until spring."
TOPICS = ["culture", "sports", "opening hours", "cooking"]
TEMPLATE = "This example is {}."


@dataclass(frozen=True)
class Predictions:
    """Logits that the run wrote, and the texts that they belong to."""

    path: Path
    """eval_predictions_*.tsv. It is not published, so it lies elsewhere than the copy."""
    rows: Sequence[tuple[str, str | None]]
    """Texts of its first rows, at least `ROWS` of them or all."""
    max_seq_length: int
    """Of the run that wrote it."""
    dtype: str = "float32"
    """What it was computed in, unless the training wrote it (trainer_state.json says what that used)."""


def smoke_test(folder: Path, predictions: Predictions | None = None, start: str | None = None) -> None:
    """Load `folder` as a stranger would, and compare.

    Args:
        predictions: None: the logits are not compared, and one log line says so.
        start: folder or Hub id of the model that the run began with; it has the same label names.

    Raises:
        RunError: naming the first thing that is wrong.
    """
    model, tokenizer = _load(folder)
    _check_labels(folder, model.config, start)
    _check_tied(model)
    if predictions is None:
        compared = "no evaluation rows at hand, so the logits were not compared"
    else:
        compared = f"it gives the logits of {predictions.path.name}"
        _check_logits(folder, model, tokenizer, predictions)
    _check_zero_shot(model, tokenizer)
    _check_onnx(folder, model, tokenizer, predictions)
    logger.info("smoke test passed: %s loads with stock transformers; %s", folder.name, compared)


def _load(folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, local_files_only=True, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        if not is_library_error(error):
            raise
        raise RunError(f"smoke test: stock transformers cannot load the model: {error}") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loaded[what]:
            names = ", ".join(sorted(map(str, loaded[what]))[:3])
            raise RunError(
                f"smoke test: model.safetensors does not fit config.json: {what.replace('_', ' ')}: {names}"
            )
    if name := not_finite(model):
        raise RunError(f"smoke test: {name} holds values that are not finite")
    return model.eval(), tokenizer


def _check_labels(folder: Path, config: Any, start: str | None) -> None:
    """Names complete, consistent both ways and, unless the head was replaced, those that the run began with."""
    names = [config.id2label[index] for index in sorted(config.id2label)]
    if {name: index for index, name in enumerate(names)} != config.label2id or len(names) != config.num_labels:
        raise RunError(f"smoke test: id2label {config.id2label} and label2id {config.label2id} do not agree")
    check_names(names, "smoke test")
    if read_json(folder / "training_args.json")["reinit_classifier"]:
        return
    # Moved since, or on the Hub and not in the cache: nothing to compare with.
    expected = read_label_names(start, local_files_only=True) if start else ()
    if expected and expected != tuple(names) and not is_generic(expected):  # generic ones took the task's names
        raise RunError(f"smoke test: the labels {names} are not those of {start}, {list(expected)}")


def _check_tied(model: Any) -> None:
    if not isinstance(model, BartForSequenceClassification):
        raise RunError(f"smoke test: {type(model).__name__} is no BART classifier")
    if not shares_one_table(model):
        raise RunError("smoke test: encoder and decoder do not share one table of embeddings, as BART's must")


def _inputs(tokenizer: PreTrainedTokenizerBase, texts: tuple[str, str | None], length: int) -> dict[str, torch.Tensor]:
    """One pair: one row at a time needs no padding, and any text may hold a literal </s>."""
    # In lists, as a run tokenises: beside a bare text, an empty second one would count as none.
    given = [[text] for text in texts if text is not None]
    inputs = tokenizer(*given, truncation=True, max_length=length, return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def _logits(model: Any, tokenizer: PreTrainedTokenizerBase, texts: tuple[str, str | None], length: int) -> np.ndarray:
    """float32 [labels] of one pair."""
    with torch.no_grad():
        return model(**_inputs(tokenizer, texts, length)).logits[0].float().numpy()


def _check_onnx(folder: Path, model: Any, tokenizer: PreTrainedTokenizerBase, predictions: Predictions | None) -> None:
    """Files for ONNX Runtime: of these weights, and of their logits. Nothing to do where there are none."""
    files = [file for name in (FLOAT_FILE, INT8_FILE) if (file := folder / FOLDER / name).is_file()]
    if not files:
        return
    rows: Sequence[tuple[str, str | None]] = [(TEXT, TEMPLATE.format(topic)) for topic in TOPICS]
    length = min(model.config.max_position_embeddings, tokenizer.model_max_length)
    if predictions is not None:
        rows, length = predictions.rows[:ROWS], predictions.max_seq_length
    digest, expected = weights_digest(model), np.array([_logits(model, tokenizer, row, length) for row in rows])
    inputs = [{key: value.numpy() for key, value in _inputs(tokenizer, row, length).items()} for row in rows]
    for file in files:
        session, name, what = open_session(file), file.name, f"{FOLDER}/{file.name}"
        if weights_of(session) != digest:
            raise RunError(
                f"smoke test: {what} was not made by export_onnx.py from the weights of model.safetensors; run it "
                "again, or remove the file"
            )
        computed = np.concatenate([run_session(session, **one) for one in inputs])
        off = float(np.abs(computed - expected).max() / max(1.0, np.abs(expected).max()))
        # Its figures say how often int8 answers otherwise: in one row of 66 at most, so here hardly ever in more than
        # a tenth of them and one.
        wrong = int((computed.argmax(axis=1) != expected.argmax(axis=1)).sum())
        if name == FLOAT_FILE and not off <= TOLERANCE["float32"]:
            raise RunError(f"smoke test: the logits of {what} are {off:.1e} off those of the model")
        if name == INT8_FILE and wrong > 1 + len(rows) // 10:
            raise RunError(f"smoke test: {what} gives another label in {wrong} of {len(rows)} rows")
        if name == INT8_FILE and read_json(folder / FOLDER / INT8_FIGURES)["sha256"] != sha256(file):
            raise RunError(f"smoke test: {FOLDER}/{INT8_FIGURES} is not of {what}; run export_onnx.py again")


def _check_logits(folder: Path, model: Any, tokenizer: PreTrainedTokenizerBase, predictions: Predictions) -> None:
    lines = [line.split("\t") for line in predictions.path.read_text(encoding="utf-8").strip("\n").split("\n")]
    columns = [index for index, name in enumerate(lines[0]) if name.startswith("logit_")]
    names = [lines[0][index].removeprefix("logit_") for index in columns]
    labels = [model.config.id2label[index] for index in sorted(model.config.id2label)]
    if names != labels:
        raise RunError(f"smoke test: {predictions.path.name} has logits of {names}, config.json names {labels}")
    rows = predictions.rows[:ROWS]
    written = np.array([[float(line[index]) for index in columns] for line in lines[1 : len(rows) + 1]])
    computed = np.array([_logits(model, tokenizer, row, predictions.max_seq_length) for row in rows[: len(written)]])
    dtype = _run_dtype(folder, predictions.dtype)
    scale = max(1.0, float(np.abs(written).max()))
    off = np.abs(computed - written) / scale
    if not (off.mean() <= TOLERANCE[dtype] and off.max() <= 4 * TOLERANCE[dtype]):
        row = int(np.nan_to_num(off, nan=np.inf).max(axis=1).argmax())
        raise RunError(
            f"smoke test: the copy's logits are not those of {predictions.path.name}: row {row} has "
            f"{np.round(computed[row], 4).tolist()}, written is {np.round(written[row], 4).tolist()} "
            f"({dtype} explains {4 * TOLERANCE[dtype] * scale:.2g})"
        )


def _run_dtype(folder: Path, dtype: str) -> str:
    """The coarsest of `dtype`, what the training computed in, and what the weights are saved in."""
    run = read_json(folder / "trainer_state.json")["run"] or {}
    saved = read_json(folder / "config.json")["dtype"]
    used = {"float32", dtype, PRECISION_DTYPES.get(run.get("mixed_precision") or "no"), saved}
    return max(TOLERANCE.keys() & used, key=TOLERANCE.__getitem__)


def _check_zero_shot(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """The pipeline's ranking against the entailment logits of the same pairs; nothing to do without entailment."""
    entailment = entailment_id(model.config.label2id)
    if entailment is None:
        return
    length = min(model.config.max_position_embeddings, tokenizer.model_max_length)
    pairs = tokenizer([TEXT] * len(TOPICS), [TEMPLATE.format(topic) for topic in TOPICS], verbose=False)["input_ids"]
    if max(map(len, pairs)) > length:
        logger.info("smoke test: the model has too few positions for the sentence that zero-shot is tested with")
        return
    make_pipeline: Any = pipeline  # its overloads know every task but do not fit a model of type Any
    classify = make_pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, device="cpu")
    found = classify(TEXT, TOPICS, hypothesis_template=TEMPLATE)
    logits = [_logits(model, tokenizer, (TEXT, TEMPLATE.format(topic)), length)[entailment] for topic in TOPICS]
    by_hand = dict(zip(TOPICS, softmax(logits).tolist(), strict=True))
    ranked = [by_hand[label] for label in found["labels"]]
    # In order, but for ties that rounding alone decides.
    if not np.allclose(ranked, found["scores"], atol=1e-4) or np.any(np.diff(ranked) > 1e-5):
        raise RunError(
            f"smoke test: the zero-shot pipeline ranks {found['labels']}, NLI by hand "
            f"{sorted(by_hand, key=by_hand.__getitem__, reverse=True)}"
        )
