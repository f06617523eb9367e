"""The model and tokenizer of a run, from a folder, the Hub, or a configuration alone; its labels and its head."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoTokenizer, BartConfig, PreTrainedTokenizerBase

from distilbart_mnli.data.batches import check_tokenizer, digest_of, tokenizer_digest
from distilbart_mnli.data.splits import Task, match_labels
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.teacher import ARCHITECTURE, LOAD_ERRORS, load_error, read_settings, teacher_card_data
from distilbart_mnli.options.fields import Arguments

logger = logging.getLogger(__name__)

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout")


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to be trained or evaluated on a task."""

    model: ShortCutBart
    tokenizer: PreTrainedTokenizerBase
    label_map: np.ndarray | None  # int64 [task labels] -> model labels; None for regression
    name: str  # as the user gave it
    card: dict  # license and language of the card beside the model, where there is one


def load_config(args: Arguments) -> BartConfig:
    """The configuration, with the dropouts that were given; nothing large is read.

    Raises:
        InputError: nothing there, not readable, no BART, layer drop in the decoder.
        HubError: the Hub refused or could not be reached.
    """
    name = args.config_name or args.model_name_or_path
    assert name is not None
    values = read_settings(name, "model", revision=args.model_revision, cache_dir=args.cache_dir)
    if values.get("model_type") != "bart":
        raise InputError(
            f"model {name}: is of type {values.get('model_type')}; only BART classifiers ({ARCHITECTURE}) can be "
            "trained or evaluated here"
        )
    architectures = values.get("architectures") or [ARCHITECTURE]
    architectures = architectures if isinstance(architectures, list) else [architectures]
    if args.model_name_or_path and not args.reinit_classifier and ARCHITECTURE not in architectures:
        raise InputError(
            f"model {name}: is {' and '.join(map(str, architectures))}, which has no classification head; give a "
            f"{ARCHITECTURE}, or --reinit_classifier true for a new head"
        )
    try:
        config = BartConfig.from_dict(values)
    except LOAD_ERRORS as error:
        raise load_error(name, error, "model") from error
    if not (config.encoder_layers and config.decoder_layers):
        raise InputError(f"model {name}: config.json must say encoder_layers and decoder_layers, at least 1 of each")
    for key in DROPOUTS:
        if getattr(args, key) is not None:
            setattr(config, key, getattr(args, key))
    if args.do_train and (config.decoder_layerdrop or config.encoder_layerdrop):
        # The last layer is computed at one position; skipping it at random would leave all of them.
        logger.info("layer drop is off: every layer of the student is trained in every step")
        config.decoder_layerdrop = config.encoder_layerdrop = 0.0
    return config


def load(args: Arguments, task: Task) -> Loaded:
    """The model of `args` with a head that fits `task`, float32, in eval mode.

    Raises:
        InputError: as load_config; weights missing or damaged; labels that are not the task's without
            reinit_classifier; a tokenizer that cannot feed the model.
        HubError: the Hub refused or could not be reached.
    """
    config = load_config(args)
    source = args.model_name_or_path or args.config_name
    assert source is not None
    torch.manual_seed(args.seed)  # new weights (a new head, a model from scratch) are the seed's
    renew = args.model_name_or_path is None or _needs_new_head(args, config, task, source)
    if renew:
        _set_task_labels(config, task)
    if args.model_name_or_path is None:
        model = ShortCutBart._from_config(config, attn_implementation=args.attn_implementation, dtype=torch.float32)
        logger.info("%s: a new model from its configuration, nothing trained yet", source)
    else:
        model = _load_weights(args, config, renew)
    label_map = match_labels(task, _names(config), f"model {source}")
    if not task.is_regression and label_map is not None and _is_generic(config):
        # A head that never knew its labels learns, and is saved with, the task's names.
        _set_task_labels(config, task)
        model.config.id2label, model.config.label2id = config.id2label, config.label2id
    tokenizer = _load_tokenizer(args)
    check_tokenizer(tokenizer, config, args.max_seq_length, args.tokenizer_name or source)
    card = teacher_card_data(args.model_name_or_path).to_dict() if args.model_name_or_path else {}
    return Loaded(model.eval(), tokenizer, label_map, source, card)


def _load_weights(args: Arguments, config: BartConfig, renew: bool) -> ShortCutBart:
    name = args.model_name_or_path
    assert name is not None
    try:
        loaded: Any = ShortCutBart.from_pretrained(
            name,
            config=config,
            revision=args.model_revision,
            cache_dir=args.cache_dir,
            dtype=torch.float32,
            attn_implementation=args.attn_implementation,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
            weights_only=True,
            trust_remote_code=False,
        )
    except LOAD_ERRORS as error:
        raise load_error(name, error, "model") from error
    model, info = loaded
    missing, wrong = (
        sorted(key for key in keys if not (renew and key.startswith("classification_head.")))
        for keys in (info["missing_keys"], [key for key, *_ in info["mismatched_keys"]])
    )
    if wrong:
        raise InputError(
            f"model {name}: {len(wrong)} of its tensors have another shape than config.json says, the first is "
            f"{wrong[0]}"
        )
    if missing:
        raise InputError(
            f"model {name}: its weights are incomplete: {len(missing)} tensors that config.json asks for are missing, "
            f"the first is {missing[0]}"
        )
    if renew:
        for module in (model.classification_head.dense, model.classification_head.out_proj):
            torch.nn.init.normal_(module.weight, std=config.init_std)
            torch.nn.init.zeros_(module.bias)
        logger.info("%s: the classification head is new (%d labels); the rest is kept", name, config.num_labels)
    return model


def _load_tokenizer(args: Arguments) -> PreTrainedTokenizerBase:
    name = args.tokenizer_name or args.model_name_or_path or args.config_name
    assert name is not None
    revision = args.model_revision if name == args.model_name_or_path else "main"
    try:
        found = AutoTokenizer.from_pretrained(
            name, revision=revision, cache_dir=args.cache_dir, trust_remote_code=False
        )
    except LOAD_ERRORS as error:
        beside = args.model_name_or_path
        # Offline, with the Hub's name from 2020: a tokenizer beside the model is the same one.
        if _is_hub_name(name) and beside and (Path(beside) / "tokenizer.json").is_file():
            logger.warning("tokenizer %s cannot be had; the one beside the model is used", name)
            return AutoTokenizer.from_pretrained(beside, trust_remote_code=False)
        raise load_error(name, error, "tokenizer") from error
    if len(found) <= len(found.all_special_ids):
        # transformers makes up one that knows no words where there is no file of it.
        raise InputError(f"tokenizer {name}: there is none (tokenizer.json); name the model's own with tokenizer_name")
    return found


def _is_hub_name(name: str) -> bool:
    """Whether a model on the Hub can be called so; a mistyped path cannot."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _names(config: BartConfig) -> dict[int, str]:
    return {int(index): str(label) for index, label in (config.id2label or {}).items()}


def _is_generic(config: BartConfig) -> bool:
    return all(label.upper() == f"LABEL_{index}" for index, label in _names(config).items())


def _needs_new_head(args: Arguments, config: BartConfig, task: Task, source: str) -> bool:
    if not args.reinit_classifier:
        return False
    if ARCHITECTURE not in (config.architectures or [ARCHITECTURE]):
        return True  # it has none
    try:
        match_labels(task, _names(config), source)
    except InputError:
        return True
    return config.num_labels != task.num_labels


def _set_task_labels(config: BartConfig, task: Task) -> None:
    names = task.label_names or ("LABEL_0",)
    if not task.is_regression and sorted(map(str.lower, _names(config).values())) == sorted(map(str.lower, names)):
        return  # a configuration with the task's names in an order of its own: it keeps that order
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "regression" if task.is_regression else "single_label_classification"


def model_digest(model: ShortCutBart) -> str:
    """SHA-256 of all weights, by name."""
    return digest_of(
        *(part for name, t in sorted(model.state_dict().items()) for part in (name, t.detach().cpu().numpy()))
    )


def input_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what the tokenizer does."""
    return tokenizer_digest(tokenizer)
