"""What computes the logits of pairs: torch or ONNX Runtime, behind one call.

    backend = open_backend("distilbart-mnli-12-3", BackendOptions(dtype="auto"))
    backend.logits(input_ids, attention_mask)       # int64 [batch, length] both -> float32 [batch, num_labels]
    predict(backend, tokens)                        # of a whole set, in batches of equal lengths

torch computes with the exact short cut of model/bart.py. ONNX Runtime takes `onnx/model.onnx` of the model's folder,
or `onnx/model_quantized.onnx` for int8: a graph with the inputs input_ids and attention_mask and the output logits.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from transformers import BartConfig, PreTrainedTokenizerBase

from distilbart_mnli.data.tokens import TokenizedSplit, check_tokenizer, digest_of, tokenizer_digest
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.export.session import (
    FLOAT_FILE,
    FOLDER,
    INPUTS,
    INT8_FILE,
    check_installed,
    explained,
    open_session,
    run_session,
)
from distilbart_mnli.files import sha256
from distilbart_mnli.model.array_logits import array_logits
from distilbart_mnli.model.bart import ShortCutBart, count_parameters, weights_digest
from distilbart_mnli.model.configuration import ARCHITECTURE, check_head, read_config
from distilbart_mnli.model.kernels import pack_linear_layers, supports_bf16
from distilbart_mnli.model.pretrained import read_tokenizer, read_weights
from distilbart_mnli.model.source import Source

logger = logging.getLogger(__name__)

Dtype = Literal["auto", "float32", "bfloat16", "int8"]
ONNX_FILES = {"float32": f"{FOLDER}/{FLOAT_FILE}", "int8": f"{FOLDER}/{INT8_FILE}"}
# Padded tokens of a batch: on a CPU as many as its caches hold the activations of.
BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """How logits are computed."""

    kind: Literal["torch", "onnx"] = "torch"
    dtype: Dtype = "auto"
    """auto: of torch bfloat16 where the device multiplies it itself, else float32; of ONNX float32."""
    device: Literal["cpu", "cuda"] | None = None
    """None: a GPU where torch sees one. ONNX Runtime computes on the CPU."""


class Backend:
    """A model that is ready to be used."""

    kind: str
    dtype: str
    device = "cpu"

    def __init__(self, source: Source, config: BartConfig, tokenizer: PreTrainedTokenizerBase):
        self.name, self.config, self.tokenizer = source.name, config, tokenizer

    def logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """int64 [batch, length] both -> float32 [batch, num_labels]."""
        raise NotImplementedError

    def weights_digest(self) -> str:
        """SHA-256 of the weights."""
        raise NotImplementedError

    @property
    def megabytes(self) -> float:
        """Size of the weights in `dtype`, or of the file."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of everything that decides a logit."""
        config = json.dumps(self.config.to_diff_dict(), sort_keys=True, default=str)
        tokenizer = tokenizer_digest(self.tokenizer), str(self.tokenizer.model_max_length)
        return digest_of(self.weights_digest(), config, *tokenizer, self.kind, self.dtype, self.device)


def open_backend(name: str, options: BackendOptions) -> Backend:
    """The model of a folder or a Hub id.

    Raises:
        InputError: nothing there, damaged, no BART classifier, a tokenizer that cannot feed it; a dtype that the
            backend does not compute in, onnxruntime or the ONNX file not there, no GPU.
        HubError: the Hub refused or could not be reached.
    """
    if options.device == "cuda" and options.kind == "onnx":
        raise InputError("device cuda: the backend onnx computes on the CPU")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda: torch sees no GPU here; leave it out, or give cpu")
    known = {"torch": ("auto", "float32", "bfloat16"), "onnx": ("auto", *ONNX_FILES)}[options.kind]
    if options.dtype not in known:
        raise InputError(f"dtype {options.dtype}: the backend {options.kind} has {', '.join(known)}")
    source = Source(name)
    config = read_config(source)
    config.architectures = config.architectures or [ARCHITECTURE]  # not named: its weights will tell
    check_head(source, config)
    tokenizer = read_tokenizer(source, config)
    with source.reading():
        check_tokenizer(tokenizer, config, config.max_position_embeddings, name)
    kind = OnnxBackend if options.kind == "onnx" else TorchBackend
    return kind(source, config, tokenizer, options)


class TorchBackend(Backend):
    """The short cut of model/bart.py, on a CPU or a GPU."""

    kind = "torch"

    def __init__(
        self, source: Source, config: BartConfig, tokenizer: PreTrainedTokenizerBase, options: BackendOptions
    ):
        super().__init__(source, config, tokenizer)
        self.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = options.dtype
        if self.dtype == "auto":
            self.dtype = "bfloat16" if supports_bf16(self.device) else "float32"
        elif self.dtype == "bfloat16" and not supports_bf16(self.device):
            logger.warning("this %s emulates bfloat16, slowly; float32 is faster", self.device)
        dtype = getattr(torch, self.dtype)
        self.model = read_weights(source, ShortCutBart, config=config, dtype=torch.float32).requires_grad_(False)
        self._weights_digest = weights_digest(self.model)
        self._parameters = count_parameters(self.model)[1]
        stacks = self.model.model
        # The last layer is computed from its weights themselves (model/bart.py), and for one position: in float32.
        layers = [*stacks.encoder.layers, *stacks.decoder.layers[:-1]]
        if self.device != "cpu" or not pack_linear_layers(layers, dtype):
            self.model.to(torch.device(self.device), dtype)

    def logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        ids, mask = (torch.from_numpy(array).to(self.device) for array in (input_ids, attention_mask))
        with torch.inference_mode():
            return self.model(ids, mask).float().cpu().numpy()

    def weights_digest(self) -> str:
        return self._weights_digest

    @property
    def megabytes(self) -> float:
        return self._parameters * getattr(torch, self.dtype).itemsize / 1e6


class OnnxBackend(Backend):
    """ONNX Runtime, on a CPU."""

    kind = "onnx"

    def __init__(
        self, source: Source, config: BartConfig, tokenizer: PreTrainedTokenizerBase, options: BackendOptions
    ):
        check_installed("onnxruntime")
        super().__init__(source, config, tokenizer)
        self.dtype = "float32" if options.dtype == "auto" else options.dtype
        file = ONNX_FILES[self.dtype]
        self.path = Path(source.name, file)
        with source.reading():
            if not source.is_local:
                self.path = Path(hf_hub_download(source.name, file, revision=source.revision))
        if not self.path.is_file():
            raise source.refused(f"no {file} in it; export_onnx.py writes it")
        self.session = open_session(self.path)
        names = [node.name for node in self.session.get_inputs()]
        if sorted(names) != sorted(INPUTS):
            raise source.refused(f"{file} takes {', '.join(names)}; expected {' and '.join(INPUTS)}")

    def logits(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        with explained(self.path, RunError):
            return run_session(self.session, input_ids, attention_mask)

    def weights_digest(self) -> str:
        return sha256(self.path)

    @property
    def megabytes(self) -> float:
        return self.path.stat().st_size / 1e6


def predict(
    backend: Backend,
    tokens: TokenizedSplit,
    batch_tokens: int | None = None,
    report: Callable[[int], object] = lambda rows: None,
) -> np.ndarray:
    """Logits float32 [rows, num_labels] of a set, in the order of its rows.

    Args:
        batch_tokens: padded tokens of a batch; default: BATCH_TOKENS.
        report: called with the number of rows of every batch that is done.
    """
    batch_tokens = batch_tokens or BATCH_TOKENS[backend.device]
    return array_logits(backend.logits, tokens, backend.config.pad_token_id, batch_tokens, report)
