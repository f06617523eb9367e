"""A BART classifier as an ONNX graph, and the proof that the graph computes what the model computes.

What is exported is the short cut (model/bart.py): the same logits, less arithmetic, and no operation whose shape
depends on the tokens. Stock's head gathers `hidden_states[eos_mask]`: its graph fails, or mixes rows up, when a text
holds a literal </s>.

The exporter is torch.onnx.export on torch.export's program. transformers.exporters wraps the same call for stock
models alone, and calls itself experimental; the older exporter by TorchScript is deprecated. docs/exporting.md has
what was tried. Attention is exported as two products and a softmax ("eager"): torch's fused attention becomes the same
with a test for NaN behind every softmax.
"""

import itertools
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from transformers import BartConfig

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.export.session import INPUTS, OUTPUT, WEIGHTS_KEY, open_session, run_session
from distilbart_mnli.model.bart import ShortCutBart, to_stock, weights_digest

BATCH_SIZES = (1, 7, 33)
LONGEST = 128  # tokens of the made-up rows
TOLERANCE = 1e-5  # of the largest logit, or of 1
LARGEST = 2_000_000_000  # bytes of weights: a protobuf, the file's format, ends at 2 GiB


class Classifier(nn.Module):
    """The model with the signature of the graph."""

    def __init__(self, model: ShortCutBart):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids, attention_mask)


def export_graph(model: ShortCutBart) -> onnx.ModelProto:
    """The graph of a float32 model in eval mode, with any batch size and length.

    Args:
        model: with attn_implementation "eager".

    Raises:
        InputError: it is too large for one file.
    """
    if sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) > LARGEST:
        raise InputError(f"{model.config.name_or_path}: over 2 GB in float32, which one ONNX file cannot hold")
    rows = next(made_up_batches(model.config, (2,)))  # of one row, torch would make a constant
    dynamic = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # It tells of operators of libraries that are not installed.
        quiet, logger = logging.ERROR, logging.getLogger("torch.onnx")
        before = logger.level
        logger.setLevel(quiet)
        try:
            program = torch.onnx.export(
                Classifier(model),
                tuple(map(torch.from_numpy, padded(rows, model.config.pad_token_id))),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes=(dynamic, dynamic),
                dynamo=True,
                verbose=False,
            )
        finally:
            logger.setLevel(before)
    assert program is not None
    graph = program.model_proto
    _forget_the_machine(graph)
    for value in graph.graph.input:
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "length"), strict=True):
            dimension.dim_param = name
    graph.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.metadata_props.add(key=WEIGHTS_KEY, value=weights_digest(model))
    return graph


def _forget_the_machine(graph: onnx.ModelProto) -> None:
    """torch writes into every node where in the source it came from, with this machine's paths."""
    del graph.metadata_props[:], graph.graph.metadata_props[:], graph.graph.value_info[:]
    for part in (*graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


# ---------------------------------------------------------------------------------------------------------------------
# The proof


def padded(rows: Sequence[np.ndarray], pad_token_id: int) -> tuple[np.ndarray, np.ndarray]:
    """input_ids and attention_mask, int64 [rows, longest]."""
    longest = max(map(len, rows))
    ids, mask = np.full((len(rows), longest), pad_token_id, np.int64), np.zeros((len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = row, 1
    return ids, mask


def made_up_batches(config: BartConfig, sizes: Sequence[int] = BATCH_SIZES) -> Iterator[list[np.ndarray]]:
    """Rows of any tokens, from 3 to LONGEST of them: every second ends in several eos, every third has one inside.

    Random tokens try a graph harder than sentences do; what a text may hold, a literal </s>, is among them.
    """
    rng = np.random.default_rng(0)
    special = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
    words = np.setdiff1d(np.arange(config.vocab_size), [token for token in special if token is not None])
    for size in sizes:
        rows = []
        for number, length in enumerate(
            np.linspace(min(LONGEST, config.max_position_embeddings), 3, size).astype(int)
        ):
            row = rng.choice(words, length)
            row[0] = words[0] if config.bos_token_id is None else config.bos_token_id
            row[-1 - (number % 2) * min(2, length - 2) :] = config.eos_token_id
            if number % 3 == 0:
                row[length // 2] = config.eos_token_id
            rows.append(row)
        yield rows


def check_graph(path: Path, model: ShortCutBart, real: Sequence[np.ndarray] = ()) -> float:
    """Whether the file gives stock transformers' logits; returns the largest difference, in the unit of TOLERANCE.

    The reference is the stock class on one row at a time, without padding: neither the short cut nor a batch is in it.

    Args:
        real: token ids of rows of a data set, checked beside the made-up ones.

    Raises:
        RunError: it does not, or has other inputs or outputs.
    """
    session = open_session(path)
    names = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
    if names != (list(INPUTS), [OUTPUT]):
        raise RunError(f"{path.name}: the graph's inputs and outputs are {names}; expected {INPUTS} and {OUTPUT}")
    starts = np.cumsum([0, *BATCH_SIZES])
    batches = [*made_up_batches(model.config), *(list(real[a:b]) for a, b in itertools.pairwise(starts))]
    stock, worst = to_stock(model), 0.0
    for rows in filter(None, batches):
        computed = run_session(session, *padded(rows, model.config.pad_token_id))
        expected = np.stack([_stock_logits(stock, row) for row in rows])
        off = float(np.abs(computed - expected).max() / max(1.0, np.abs(expected).max()))
        worst = max(worst, off)
        if not off <= TOLERANCE:
            raise RunError(
                f"{path.name}: of {len(rows)} rows of up to {max(map(len, rows))} tokens the logits are {off:.1e} off "
                f"torch's; at most {TOLERANCE} of the largest was expected"
            )
    return worst


def _stock_logits(model: Any, row: np.ndarray) -> np.ndarray:
    ids = torch.from_numpy(row.astype(np.int64))[None]
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].numpy()
