"""One tiny student, exported with int8 by export_onnx.py, for all tests of a process.

    pytestmark = needs_onnx                # skipped without requirements-onnx.txt; one process has all of these tests
    folder = exported_student()            # read only: copy it to change it

An export takes a dozen seconds, whatever the model's size.
"""

import atexit
import contextlib
import functools
import importlib
import importlib.util
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export_onnx
from distilbart_mnli.errors import CommandError
from tests.support.in_process import as_in_a_new_process
from tests.support.tiny import tiny_bart, tiny_mnli

_INSTALLED = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
needs_onnx = [
    pytest.mark.skipif(not _INSTALLED, reason="needs pip install -r requirements-onnx.txt"),
    pytest.mark.xdist_group("onnx"),
]


def export_here(*words: object) -> tuple[int, str]:
    """export_onnx.py with this command line: its exit code, and what it prints or its one line on stderr."""
    with as_in_a_new_process("export_onnx.py", *words), contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            export_onnx.main()
        except CommandError as error:
            return error.exit_code, str(error)
    return 0, printed.getvalue()


@functools.cache
def exported_student() -> Path:
    """A folder with a student of 1 + 2 layers, its onnx/, and MNLI's files in data/, which int8 is measured on."""
    folder = Path(tempfile.mkdtemp(prefix="exported-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_bart(folder, encoder_layers=1)
    data = tiny_mnli(folder / "data", matched=60)
    code, said = export_here(folder, "--quantize", "int8", "--min_agreement", "0.9", "--data_dir", data)
    assert code == 0, said
    return folder


def spoiled(path: Path, factor: float = 1.001) -> Any:
    """The graph of a file with the last layer of the classification head that much larger."""
    onnx = importlib.import_module("onnx")
    graph = onnx.load(path)
    head = next(each for each in graph.graph.initializer if each.name.endswith("head.out_proj.weight"))
    head.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) * np.float32(factor), head.name))
    return graph
