"""Reading a teacher: a BART classifier from a folder or from the Hub, and what to say when that fails.

Nothing of it is executed: weights come from safetensors or, for the models of 2020, from a pytorch_model.bin that is
read with weights_only; code beside a model is never run.
"""

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError
from transformers import AutoTokenizer, BartConfig, BartForSequenceClassification, PreTrainedTokenizerBase

from distilbart_mnli.errors import CommandError, HubError, InputError

logger = logging.getLogger(__name__)

ARCHITECTURE = "BartForSequenceClassification"


def is_local(name_or_path: str) -> bool:
    """Whether transformers would read `name_or_path` from the disk: a folder goes before a Hub id of the same name."""
    return Path(name_or_path).is_dir()


def load_error(name_or_path: str, error: Exception, what: str = "teacher") -> CommandError:
    """One line for what transformers or the Hub's client raised while reading a model: InputError or HubError."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)

    def first(*kinds: type) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if is_local(name_or_path):
        if first(pickle.UnpicklingError):
            reason = "its weights are a pickle that holds more than tensors, and such files are not loaded"
        else:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
        return InputError(f"{what} {name_or_path}: cannot be read: {reason}")
    if first(HFValidationError):
        return InputError(f"{what} {name_or_path}: there is no such folder, and it is not a name on the Hub")
    if isinstance(gated := first(GatedRepoError), GatedRepoError):
        kind = "datasets/" if "/datasets/" in gated.response.url.path else ""
        return HubError(
            f"{what} {name_or_path}: access is gated; ask for it at https://huggingface.co/{kind}{name_or_path}, then "
            "log in with `hf auth login`"
        )
    if first(RevisionNotFoundError):
        return InputError(f"{what} {name_or_path}: the Hub has no such revision of it")
    if first(RepositoryNotFoundError):
        return HubError(
            f"{what} {name_or_path}: neither a folder here nor a model on the Hub that you may read; if it is "
            "private, log in with `hf auth login`"
        )
    if first(LocalEntryNotFoundError):
        if len(causes) > 1 and os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("1", "on", "yes", "true"):
            return HubError(f"{what} {name_or_path}: no such folder here, and the Hub cannot be reached")
        return InputError(
            f"{what} {name_or_path}: no such folder here, and not in the Hub's cache (HF_HUB_OFFLINE is set)"
        )
    if first(HfHubHTTPError):
        return HubError(
            f"{what} {name_or_path}: the Hub refused: {' '.join(str(first(HfHubHTTPError)).split())[:300]}"
        )
    return InputError(f"{what} {name_or_path}: cannot be read: {' '.join(str(error).split())[:300]}")


# What a damaged or a foreign file makes transformers, torch and safetensors raise.
LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
    AttributeError,
    pickle.UnpicklingError,
    SafetensorError,
    StrictDataclassError,
)


def read_settings(name_or_path: str, what: str = "teacher", **options: Any) -> dict[str, Any]:
    """config.json of a model, as it stands there; nothing large is read.

    Args:
        what: how a message calls the model.
        options: revision and cache_dir, where a model on the Hub is wanted.

    Raises:
        InputError: nothing there, or not readable.
        HubError: the Hub refused or could not be reached.
    """
    if Path(name_or_path).is_file():
        raise InputError(f"{what} {name_or_path}: is a file; expected a model's folder or a Hub id")
    if is_local(name_or_path) and not (Path(name_or_path) / "config.json").is_file():
        raise InputError(f"{what} {name_or_path}: the folder has no config.json, so it holds no model")
    try:
        values, _ = BartConfig.get_config_dict(name_or_path, **options)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, error, what) from error
    if not isinstance(values, dict):
        raise InputError(f"{what} {name_or_path}: config.json cannot be read: expected an object of settings")
    return values


def load_teacher_config(name_or_path: str, revision: str = "main") -> BartConfig:
    """The configuration of a BART classifier; nothing large is read.

    Raises:
        InputError: nothing there, not readable, or a model of another kind, which is named.
        HubError: the Hub refused or could not be reached.
    """
    values = read_settings(name_or_path, revision=revision)
    kind, architectures = values.get("model_type"), values.get("architectures") or "no architecture"
    architectures = architectures if isinstance(architectures, list) else [architectures]
    if kind != "bart" or ARCHITECTURE not in architectures:
        raise InputError(
            f"teacher {name_or_path}: is {' and '.join(map(str, architectures))} (model type {kind}); "
            f"only BART classifiers ({ARCHITECTURE}) can be teachers"
        )
    try:
        config = BartConfig.from_dict(values)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, error) from error
    if not (config.encoder_layers and config.decoder_layers):
        raise InputError(f"teacher {name_or_path}: config.json must say encoder_layers and decoder_layers")
    return config


def load_teacher(name_or_path: str, revision: str = "main") -> BartForSequenceClassification:
    """The teacher in eval mode, in the dtype it was saved in; from safetensors, or a .bin read without running it.

    Raises:
        InputError: weights missing, damaged, incomplete, of other shapes than config.json says, or an unsafe pickle.
        HubError: the Hub refused or could not be reached.
    """
    try:
        loaded: Any = BartForSequenceClassification.from_pretrained(
            name_or_path,
            revision=revision,
            dtype="auto",
            output_loading_info=True,
            weights_only=True,
            trust_remote_code=False,
        )
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, error) from error
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise InputError(
            f"teacher {name_or_path}: its weights are incomplete: {len(missing)} tensors that config.json asks for "
            f"are missing, the first is {missing[0]}"
        )
    return model.eval()


def load_tokenizer(
    name_or_path: str, vocab_size: int, revision: str = "main", what: str = "teacher", **options: Any
) -> PreTrainedTokenizerBase:
    """The teacher's tokenizer.

    Args:
        what: how a message calls the model.
        options: further arguments of AutoTokenizer.from_pretrained.

    Raises:
        InputError: none there (transformers then makes up one that knows no words), or one with more entries than the
            model has.
        HubError: the Hub refused or could not be reached.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision, trust_remote_code=False, **options)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, error, what) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(f"{what} {name_or_path}: no tokenizer beside the model; save one there (tokenizer.json)")
    if len(tokenizer) > vocab_size:
        raise InputError(
            f"{what} {name_or_path}: its tokenizer has {len(tokenizer)} entries and the model {vocab_size}: they do "
            "not belong together"
        )
    return tokenizer


def teacher_card_data(name_or_path: str, revision: str = "main") -> ModelCardData:
    """Metadata of the teacher's README.md; empty where there is none, or none that can be read."""
    path = Path(name_or_path) / "README.md"
    try:
        if not is_local(name_or_path):
            path = Path(hf_hub_download(name_or_path, "README.md", revision=revision))
        return ModelCard.load(path, ignore_metadata_errors=True).data
    except (OSError, ValueError, HfHubHTTPError, yaml.YAMLError) as error:
        if path.exists():
            logger.warning("the teacher's README.md cannot be read, so the student's names no license: %s", error)
        return ModelCardData()
