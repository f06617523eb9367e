"""Ways to put a student's ONNX graph into int8: how often each gives float32's label, its accuracy, size and speed.

    python -m benchmarks.onnx_int8 STUDENT --data_dir glue_data/MNLI --rows 1500

One thread. Speed is rows a second of processor time, in batches of equal length, which other processes on the machine
disturb less than the clock. The last setting but one is what export_onnx.py writes. "Static" is calibrated on
training rows.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from sklearn.metrics import accuracy_score

from benchmarks.options import check_options, make_parser, quiet_transformers, write_report
from distilbart_mnli.data.splits import load_train
from distilbart_mnli.data.tokens import tokenize
from distilbart_mnli.errors import run_command
from distilbart_mnli.export.export import Rows, load_for_export, load_rows
from distilbart_mnli.export.graph import export_graph, padded
from distilbart_mnli.export.int8 import ACCURACY_LEVEL, BLOCK, agreement, drop_unused, quantize_tables
from distilbart_mnli.export.session import open_session, session_logits
from distilbart_mnli.model.predict import to_task_predictions
from distilbart_mnli.options.fields import Arguments


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = make_parser("onnx_int8", __doc__)
    parser.add_argument("model", help="folder or Hub id of an NLI classifier")
    parser.add_argument("--data_dir", help="MNLI's TSV files (default: nyu-mll/glue on the Hub)")
    parser.add_argument("--rows", type=int, default=1500, help="first rows of the matched set")
    parser.add_argument("--calibration_rows", type=int, default=64, help="first training rows, for the static setting")
    parser.add_argument("--settings", nargs="+", help="only those whose name holds one of these words")
    return parser.parse_args(arguments)


class TrainingRows(CalibrationDataReader):
    """Training rows as onnxruntime asks for them, eight at a time."""

    def __init__(self, args: Arguments, rows: Rows, loaded: Any):
        tokens = tokenize(load_train(args, rows.task), loaded.tokenizer, args.max_seq_length)
        ids = sorted((tokens.ids[a:b] for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)), key=len)
        self.batches: Iterator[tuple[np.ndarray, np.ndarray]] = iter(
            [padded(ids[start : start + 8], loaded.model.config.pad_token_id) for start in range(0, len(ids), 8)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"input_ids": batch[0], "attention_mask": batch[1]}


def names_of_fc2(path: Path) -> list[str]:
    """The products behind GELU: those whose input is wider than their output."""
    graph = onnx.load(path).graph
    shapes = {each.name: each.dims for each in graph.initializer if len(each.dims) == 2}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in shapes]
    return [node.name for node in products if shapes[node.input[1]][0] > shapes[node.input[1]][1]]


def dynamic(source: Path, target: Path, **options: Any) -> None:
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True}, **options)


def blocks(source: Path, target: Path, block: int, level: int) -> None:
    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), bits=8, block_size=block, is_symmetric=True, accuracy_level=level
    )
    quantizer.process()
    drop_unused(quantizer.model.model)
    onnx.save(quantizer.model.model, target)


def settings(make_reader: Callable[[], CalibrationDataReader]) -> dict[str, Callable[[Path, Path], None]]:
    """Name -> what makes the file; the embedding tables are quantised after it, where it left them in float32."""

    def static(source: Path, target: Path) -> None:
        quantize_static(
            source,
            target,
            make_reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )

    return {
        "dynamic, a scale a tensor (ONNX Runtime's default)": lambda s, t: dynamic(s, t),
        "dynamic, a scale a channel": lambda s, t: dynamic(s, t, op_types_to_quantize=["MatMul"], per_channel=True),
        "the same, reduced range": lambda s, t: dynamic(
            s, t, op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True
        ),
        "the same without fc2, which stays float32": lambda s, t: dynamic(
            s, t, op_types_to_quantize=["MatMul"], per_channel=True, nodes_to_exclude=names_of_fc2(s)
        ),
        "static, a scale a channel": static,
        f"blocks of {BLOCK}, activations float32": lambda s, t: blocks(s, t, BLOCK, 0),
        "blocks of 32, activations int8": lambda s, t: blocks(s, t, 32, ACCURACY_LEVEL),
        f"blocks of {BLOCK}, activations int8": lambda s, t: blocks(s, t, BLOCK, ACCURACY_LEVEL),
        "embedding tables alone": lambda s, t: onnx.save(onnx.load(s), t),
    }


def main() -> None:
    options = parse()
    check_options(options)
    quiet_transformers()
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    args = Arguments(
        task_name="mnli",
        model_name_or_path=options.model,
        data_dir=options.data_dir,
        max_eval_samples=options.rows,
        max_train_samples=options.calibration_rows,
        do_eval=True,
    )
    loaded = load_for_export(args)
    rows = load_rows(args, loaded)
    found: list[dict[str, Any]] = []
    print(
        "| weights | float32's label | accuracy | size | of float32 | rows a second |\n|---|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(export_graph(loaded.model), source)

        def measure(name: str, path: Path, reference: np.ndarray | None) -> np.ndarray:
            session = open_session(path)
            started = time.process_time()
            logits = session_logits(session, rows.tokens, loaded.model.config.pad_token_id)
            seconds = time.process_time() - started
            same = 1.0 if reference is None else agreement(logits, reference)
            accuracy = accuracy_score(rows.labels, to_task_predictions(logits, rows.task, rows.label_map))
            size, whole = path.stat().st_size / 1e6, source.stat().st_size / 1e6
            found.append({"name": name, "agreement": same, "accuracy": accuracy, "mb": size, "share": size / whole})
            found[-1]["rows_per_second"] = len(rows.tokens) / seconds
            print(
                f"| {name} | {100 * same:.2f} % | {100 * accuracy:.2f} | {size:.1f} MB | {size / whole:.3f} | "
                f"{len(rows.tokens) / seconds:.0f} |",
                flush=True,
            )
            return logits

        reference = measure("float32", source, None)
        for name, make in settings(lambda: TrainingRows(args, rows, loaded)).items():
            if options.settings and not any(word in name for word in options.settings):
                continue
            make(source, target)
            graph = onnx.load(target)
            quantize_tables(graph)
            drop_unused(graph)
            onnx.save(graph, target)
            measure(name, target, reference)
    write_report(options, {"model": Path(options.model).name, "rows": len(rows.tokens), "settings": found})


if __name__ == "__main__":
    sys.exit(run_command(main))
