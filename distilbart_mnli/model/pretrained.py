"""Reading a BART classifier, for every script: its settings, weights, tokenizer and card, from a folder or the Hub.

    teacher = Source("facebook/bart-large-mnli", "teacher")
    config = read_config(teacher)
    model = read_weights(teacher, BartForSequenceClassification, dtype="auto")
    tokenizer = read_tokenizer(teacher)

    loaded = load(args, task)    # what a run trains or evaluates: float32, with a head that fits the task

Nothing of it is executed: weights come from safetensors or, for the models of 2020, from a pytorch_model.bin that is
read with weights_only; code beside a model is never run. A model of another kind is refused by name.
"""

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoTokenizer, BartConfig, PreTrainedModel, PreTrainedTokenizerBase

from distilbart_mnli.data.labels import folded, is_generic, match_labels
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.data.tokens import check_tokenizer
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.source import Source
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.yaml_text import read_front_matter

logger = logging.getLogger(__name__)

ARCHITECTURE = "BartForSequenceClassification"
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout")
CARD_KEYS = ("license", "license_name", "license_link", "language")  # what holds for a student as for its teacher
LONGEST_CARD = 1_000_000  # characters; the metadata are at its beginning

Model = TypeVar("Model", bound=PreTrainedModel)


# ---------------------------------------------------------------------------------------------------------------------
# Any BART classifier. All of these raise InputError, and HubError where the Hub refused or could not be reached.


def read_settings(source: Source) -> dict[str, Any]:
    """config.json as it stands there; nothing large is read."""
    folder = Path(source.name)
    if folder.is_file():
        raise source.refused("is a file; expected a model's folder or a Hub id")
    if source.is_local and not (folder / "config.json").is_file():
        raise source.refused("the folder has no config.json, so it holds no model")
    with source.reading():
        values, _ = BartConfig.get_config_dict(source.name, revision=source.revision, cache_dir=source.cache_dir)
    if not isinstance(values, dict):
        raise source.refused("config.json cannot be read: expected an object of settings")
    return values


def read_config(source: Source) -> BartConfig:
    """The configuration of any BART that has layers; nothing large is read."""
    values = read_settings(source)
    kind, named = values.get("model_type"), values.get("architectures") or []
    named = named if isinstance(named, list) else [named]
    if kind != "bart":
        raise source.refused(f"is {_listed(named)} (model type {kind}); only a {ARCHITECTURE} can be used")
    with source.reading():
        config = BartConfig.from_dict({**values, "architectures": named})
    if not (config.encoder_layers and config.decoder_layers):
        raise source.refused("config.json must say encoder_layers and decoder_layers, at least 1 of each")
    return config


def check_head(source: Source, config: BartConfig, otherwise: str = "") -> None:
    """Refuse a BART that is no classifier; `otherwise`: what else the user could do about it."""
    if ARCHITECTURE not in config.architectures:
        raise source.refused(
            f"is {_listed(config.architectures)}, which has no classification head; give a {ARCHITECTURE}{otherwise}"
        )


def _listed(architectures: list) -> str:
    return " and ".join(map(str, architectures)) or "no architecture"


def read_weights(source: Source, kind: type[Model], new_head: bool = False, **options: Any) -> Model:
    """The model in eval mode, every tensor of it from the file.

    Args:
        kind: the class of the model.
        new_head: the classification head may be missing, or have another shape.
        options: further arguments of from_pretrained.
    """
    # Weights in a pytorch_model.bin would otherwise set off a request for their conversion, in the background.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    with source.reading():
        model, info = kind.from_pretrained(
            source.name,
            revision=source.revision,
            cache_dir=source.cache_dir,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
            weights_only=True,
            trust_remote_code=False,
            **options,
        )
    for names, problem in (
        ([name for name, *_ in info["mismatched_keys"]], "tensors have another shape than config.json says"),
        (info["missing_keys"], "tensors are missing"),
    ):
        wrong = sorted(name for name in names if not (new_head and name.startswith("classification_head.")))
        if wrong:
            raise source.refused(f"its weights do not fit: {len(wrong)} {problem}, the first is {wrong[0]}")
    return model.eval()


def read_tokenizer(source: Source, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model; `options`: further arguments of AutoTokenizer.from_pretrained."""
    with source.reading():
        tokenizer = AutoTokenizer.from_pretrained(
            source.name, revision=source.revision, cache_dir=source.cache_dir, trust_remote_code=False, **options
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # transformers makes up one that knows no words where there is no file of it.
        raise source.refused("no tokenizer beside the model; save one there (tokenizer.json)")
    return tokenizer


def read_card(source: Source) -> dict[str, Any]:
    """License and language of the card beside a model; empty where there is no card, or none that can be read."""
    path = Path(source.name) / "README.md"
    try:
        if not source.is_local:
            path = Path(
                hf_hub_download(source.name, "README.md", revision=source.revision, cache_dir=source.cache_dir)
            )
        with path.open(encoding="utf-8-sig") as file:
            data, _ = read_front_matter(file.read(LONGEST_CARD))
    except (OSError, ValueError) as error:
        if path.exists():
            logger.warning("%s: its README.md cannot be read, so no license is taken from it: %s", source.name, error)
        return {}
    found = {key: data[key] for key in CARD_KEYS if data.get(key)}
    for key in [key for key, value in found.items() if not isinstance(value, str)]:
        languages = found.pop(key)
        if key == "language" and isinstance(languages, list) and all(isinstance(code, str) for code in languages):
            found[key] = languages
        else:
            logger.warning("%s: its README.md has no text as %s, so it is left out", source.name, key)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The model of a run


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to be trained or evaluated on a task."""

    model: ShortCutBart
    tokenizer: PreTrainedTokenizerBase
    label_map: np.ndarray | None  # int64 [task labels] -> model labels; None for regression
    name: str  # as the user gave it
    card: dict[str, Any]  # license and language of the card beside the model, where there is one


def load(args: Arguments, task: Task) -> Loaded:
    """The model of `args` with a head that fits `task`, float32, in eval mode.

    Raises:
        InputError: nothing there, damaged, or no BART; no classification head, or labels that are not the task's,
            without reinit_classifier; a tokenizer that cannot feed the model.
        HubError: the Hub refused or could not be reached.
    """
    name = args.model_name_or_path or args.config_name
    assert name is not None
    source = Source(name, revision=args.model_revision, cache_dir=args.cache_dir)
    config = _config_of_run(args, source)
    torch.manual_seed(args.seed)  # new weights (a new head, a model from scratch) are the seed's
    new_head = args.reinit_classifier and _needs_new_head(config, task)
    if new_head or not args.model_name_or_path:
        _set_task_labels(config, task)
    if args.model_name_or_path:
        model = read_weights(
            source,
            ShortCutBart,
            new_head,
            config=config,
            dtype=torch.float32,
            attn_implementation=args.attn_implementation,
        )
        if new_head:
            _renew_head(model)
            logger.info("%s: the classification head is new (%d labels); the rest is kept", name, config.num_labels)
    else:
        model = ShortCutBart._from_config(config, attn_implementation=args.attn_implementation, dtype=torch.float32)
        logger.info("%s: a new model from its configuration, nothing trained yet", name)
    label_map = match_labels(task, config.id2label, f"model {name}")
    if not task.is_regression and is_generic(config.id2label.values()):
        # A head that never knew its labels learns, and is saved with, the task's names.
        _set_task_labels(config, task)
        model.config.id2label, model.config.label2id = config.id2label, config.label2id
    tokenizer = _tokenizer_of_run(args, source)
    check_tokenizer(tokenizer, config, args.max_seq_length, args.tokenizer_name or name)
    return Loaded(model.eval(), tokenizer, label_map, name, read_card(source) if args.model_name_or_path else {})


def _config_of_run(args: Arguments, source: Source) -> BartConfig:
    """The configuration, with the dropouts that were given."""
    source = dataclasses.replace(source, name=args.config_name or source.name)
    config = read_config(source)
    config.architectures = config.architectures or [ARCHITECTURE]  # not named: its weights will tell
    if args.model_name_or_path and not args.reinit_classifier:
        check_head(source, config, ", or --reinit_classifier true for a new head")
    for key in DROPOUTS:
        if getattr(args, key) is not None:
            setattr(config, key, getattr(args, key))
    if args.do_train and (config.decoder_layerdrop or config.encoder_layerdrop):
        # The last layer is computed at one position; skipping it at random would leave all of them.
        logger.info("layer drop is off: every layer of the student is trained in every step")
        config.decoder_layerdrop = config.encoder_layerdrop = 0.0
    return config


def _needs_new_head(config: BartConfig, task: Task) -> bool:
    """Whether the model has no head, or one that cannot answer the task."""
    if ARCHITECTURE not in config.architectures:
        return True
    try:
        match_labels(task, config.id2label, "")
    except InputError:
        return True
    return config.num_labels != task.num_labels


def _set_task_labels(config: BartConfig, task: Task) -> None:
    names = task.label_names or ("LABEL_0",)
    if not task.is_regression and sorted(map(folded, config.id2label.values())) == sorted(map(folded, names)):
        return  # a configuration with the task's names in an order of its own: it keeps that order
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "regression" if task.is_regression else "single_label_classification"


def _renew_head(model: ShortCutBart) -> None:
    for module in (model.classification_head.dense, model.classification_head.out_proj):
        torch.nn.init.normal_(module.weight, std=model.config.init_std)
        torch.nn.init.zeros_(module.bias)


def _tokenizer_of_run(args: Arguments, source: Source) -> PreTrainedTokenizerBase:
    source = dataclasses.replace(source, what="tokenizer")
    if not args.tokenizer_name or args.tokenizer_name == source.name:
        return read_tokenizer(source)
    try:
        return read_tokenizer(Source(args.tokenizer_name, "tokenizer", cache_dir=args.cache_dir))
    except CommandError:
        # Offline, with the Hub's name from 2020: a tokenizer beside the model is the same one.
        if not (_is_hub_name(args.tokenizer_name) and (Path(source.name) / "tokenizer.json").is_file()):
            raise
        logger.warning("tokenizer %s cannot be had; the one beside the model is used", args.tokenizer_name)
        return read_tokenizer(source)


def _is_hub_name(name: str) -> bool:
    """Whether a model on the Hub can be called so; a mistyped path cannot."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()
