"""An ONNX graph with its weights in int8, and how often it answers as the float32 one does.

Weights of linear layers: MatMulNBits with 8 bits, symmetric, one scale for each output and BLOCK inputs. Where the
processor has int8 products, ONNX Runtime rounds a row's activations to int8 as well, with a scale for each block of
them (accuracy level 4); elsewhere, in a browser too, it multiplies them as they are. Either way a row's logits do not
depend on the rows beside it.

Embedding tables: int8, one scale a token. They are a quarter to two fifths of a student, and a lookup costs nothing.

What it replaces, dynamic quantisation, gives a whole batch of activations one scale. One large value behind BART's
GELU then takes the precision of all others: a tenth of the answers change (docs/exporting.md has the figures, and
benchmarks/onnx_int8.py measures them anew).
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

BITS, BLOCK, ACCURACY_LEVEL = 8, 128, 4
SMALLEST_TABLE = 100  # rows: what is looked up in fewer is no embedding
SETTING = {
    "linear": f"int8, symmetric, a scale for {BLOCK} inputs (MatMulNBits, accuracy level {ACCURACY_LEVEL})",
    "embeddings": "int8, symmetric, a scale a token",
    "rest": "float32",
}
"""As onnx/quantization.json names it."""


def quantize_graph(path: Path) -> onnx.ModelProto:
    """The graph of a float32 file with its weights in int8."""
    model = onnx.load(path)
    quantizer = MatMulNBitsQuantizer(
        model, bits=BITS, block_size=BLOCK, is_symmetric=True, accuracy_level=ACCURACY_LEVEL
    )
    quantizer.process()
    model = quantizer.model.model
    quantize_tables(model)
    drop_unused(model)
    return model


def quantize_tables(model: onnx.ModelProto) -> None:
    """Embedding tables, in place: Gather becomes Mul(Cast(Gather(int8 [rows, width])), Gather(scales [rows, 1])).

    A symmetric scale a row: |table| / scale is at most 127.
    """
    graph = model.graph
    tables = {
        each.name: each
        for each in graph.initializer
        if each.data_type == TensorProto.FLOAT and len(each.dims) == 2 and each.dims[0] >= SMALLEST_TABLE
    }
    nodes, done = [], set()
    for node in graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables:
            nodes.append(node)
            continue
        table, output = node.input[0], node.output[0]
        if table not in done:
            done.add(table)
            values = numpy_helper.to_array(tables[table])
            scales = np.maximum(np.abs(values).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
            whole = np.round(values / scales).astype(np.int8)
            graph.initializer.append(numpy_helper.from_array(whole, f"{table}_int8"))
            graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), f"{table}_scales"))
        parts = {part: f"{output}_{part}" for part in ("int8", "scales", "float")}
        for part in ("int8", "scales"):
            nodes.append(helper.make_node("Gather", [f"{table}_{part}", node.input[1]], [parts[part]], axis=0))
        nodes.append(helper.make_node("Cast", [parts["int8"]], [parts["float"]], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [parts["float"], parts["scales"]], [output], name=f"{node.name}_int8"))
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove the tensors that no node reads any more, in place."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def agreement(logits: np.ndarray, reference: np.ndarray) -> float:
    """The share of rows whose largest logit is that of the same label."""
    return float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean())
