"""ONNX Runtime on the CPU, which is optional: whether it is there, a session, the logits of a whole set.

session = open_session(folder / "onnx" / "model.onnx")
logits = session_logits(session, tokens, config.pad_token_id)      # float32 [rows, num_labels]
weights_of(session)                                                # digest of the weights it was made from
"""

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from distilbart_mnli.data.tokens import TokenizedSplit
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.array_logits import array_logits

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # what an export needs; its files need onnxruntime alone
FOLDER = "onnx"
FLOAT_FILE, INT8_FILE, INT8_FIGURES = "model.onnx", "model_quantized.onnx", "quantization.json"
"""In FOLDER, where transformers.js looks for them: its dtypes "fp32" and "q8"."""
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "logits"
BATCH_TOKENS = 512  # of 256 to 4096 among the fastest (6-3, d_model 384, one thread); 4096 took 1.5 times as long
WEIGHTS_KEY = "weights_sha256"
"""Of a file's metadata: the weights that it was made from, as model/bart.py's weights_digest has them."""


def check_installed(*names: str) -> None:
    """Raises InputError where one of these packages is missing."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "pip install -r requirements-onnx.txt"
        raise InputError(f"{', '.join(missing)} not installed for {sys.executable}: {remedy}")


def check_place(output_dir: Path) -> None:
    """Raises InputError where FOLDER in output_dir is no folder: through a link, files elsewhere would be replaced."""
    path = output_dir / FOLDER
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(
            f"output_dir {output_dir}: {FOLDER} in it is no folder; remove it, or name another output_dir"
        )


def open_session(path: Path) -> Any:
    """An onnxruntime.InferenceSession with as many threads as torch has.

    Raises:
        InputError: ONNX Runtime is not installed, or cannot read the file.
    """
    check_installed("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised; it would be printed as well
    with explained(path, InputError):
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def explained(path: Path, kind: type[CommandError]) -> Iterator[None]:
    """ONNX Runtime's exceptions, which have no class in common, as one line."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise kind(f"{path}: ONNX Runtime: {error}") from error


def weights_of(session: Any) -> str | None:
    """Digest of the weights that the session's file was made from; None: the file does not say."""
    return session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY)


def run_session(session: Any, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Logits float32 [batch, num_labels] of int64 [batch, length] each."""
    return session.run([OUTPUT], {"input_ids": input_ids, "attention_mask": attention_mask})[0]


def session_logits(session: Any, split: TokenizedSplit, pad_token_id: int) -> np.ndarray:
    """Logits float32 [rows, num_labels] of a whole set, in the order of its rows; computed in length order."""
    with tqdm(total=len(split), desc=f"ONNX on {split.name}", unit="row", leave=False, disable=None) as bar:
        return array_logits(functools.partial(run_session, session), split, pad_token_id, BATCH_TOKENS, bar.update)
