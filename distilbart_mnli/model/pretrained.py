"""Reading a BART classifier, for every script: its settings, weights, tokenizer and card, from a folder or the Hub.

    teacher = Source("facebook/bart-large-mnli", "teacher")
    config = read_config(teacher)    # configuration.py
    model = read_weights(teacher, BartForSequenceClassification, config=config, dtype="auto")
    tokenizer = read_tokenizer(teacher, config=config)

    loaded = load(args, task)    # what a run trains or evaluates: float32, with a head that fits the task

Nothing of it is executed: weights come from safetensors or, for the models of 2020, from a pytorch_model.bin that is
read with weights_only; code beside a model is never run, and what names such code does not come along. A model of
another kind is refused by name.
"""

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from huggingface_hub import file_exists, hf_hub_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_utils import load_state_dict
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)

from distilbart_mnli.data.labels import check_names, folded, is_generic, match_labels
from distilbart_mnli.data.tasks import Task
from distilbart_mnli.data.tokens import check_tokenizer
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.hub_client import bounded_client
from distilbart_mnli.model.bart import ShortCutBart, embedding_tables, not_finite, shares_one_table
from distilbart_mnli.model.configuration import ARCHITECTURE, RATES, check_head, read_config
from distilbart_mnli.model.source import Source
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.yaml_text import read_front_matter

logger = logging.getLogger(__name__)

WEIGHT_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)  # in stock's order
CODE_KEYS = ("auto_map", "custom_pipelines")  # of tokenizer_config.json: they name code beside a model
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
NEW_HEAD = "; give --reinit_classifier true to put a new classification head in place of its own"
CARD_KEYS = ("license", "license_name", "license_link", "language")  # what holds for a student as for its teacher
LONGEST_CARD = 1_000_000  # characters; the metadata are at its beginning

Model = TypeVar("Model", bound=PreTrainedModel)


# ---------------------------------------------------------------------------------------------------------------------
# Any BART classifier. All of these raise InputError, and HubError where the Hub refused or could not be reached.


def read_weights(source: Source, kind: type[Model], new_head: bool = False, **options: Any) -> Model:
    """The model in eval mode, every tensor of it from the file.

    Args:
        kind: the class of the model.
        new_head: the classification head may be missing, or have another shape.
        options: further arguments of from_pretrained.
    """
    # Weights in a pytorch_model.bin would otherwise set off a request for their conversion, in the background.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    if source.is_local:
        _check_weight_files(source, Path(source.name))
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
    if not source.is_local:  # now they are in the Hub's cache, whose client lets no name leave its folder
        with source.reading():
            place = {"revision": source.revision, "cache_dir": source.cache_dir, "local_files_only": True}
            _check_weight_files(source, Path(str(cached_file(source.name, "config.json", **place))).parent)
    if isinstance(model, BartForSequenceClassification):
        _tie_embeddings(source, model)
    if name := not_finite(model):
        raise source.refused(f"{name} holds values that are not finite, NaN or infinite")
    return model.eval()


def _check_weight_files(source: Source, folder: Path) -> None:
    """Refuse what transformers takes: shards that lie elsewhere, and numbers that are no floating-point weights."""
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None:
        return  # from_pretrained says what is missing
    with source.reading():
        files = [found]
        if found.suffix == ".json":
            index = json.loads(found.read_text(encoding="utf-8"))
            weight_map = index.get("weight_map") if isinstance(index, dict) else None
            if not (weight_map and isinstance(weight_map, dict)):
                raise source.refused(f"{found.name} has no weight_map, which says where each tensor is")
            # Shards lie beside their index. They may be links: in the Hub's cache all files are.
            for name in sorted(set(map(str, weight_map.values()))):
                if Path(name).name != name or not (folder / name).is_file():
                    raise source.refused(f"{found.name} names {name}; expected a file in the same folder")
            files = [folder / name for name in sorted(set(weight_map.values()))]
        for file in files:
            for name, tensor in load_state_dict(file, map_location="meta").items():
                if name.endswith((".weight", ".bias")) and tensor.dtype not in FLOATS:
                    raise source.refused(f"{file.name}: {name} is of {tensor.dtype}; expected floating-point numbers")


def _tie_embeddings(source: Source, model: BartForSequenceClassification) -> None:
    """One table for encoder and decoder, as BART's code and every published file has it: equal ones become one."""
    if shares_one_table(model):
        return
    first, *others = embedding_tables(model)
    if not all(torch.equal(first, table) for table in others):
        raise source.refused("its encoder and decoder have embeddings of their own; expected one table for both")
    model.config.tie_word_embeddings = True
    model.tie_weights()


def read_tokenizer(source: Source, config: BartConfig | None = None, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model, for texts no longer than the model's positions, and without code or templates.

    Args:
        config: of the model, as `read_config` gave it.
        options: further arguments of AutoTokenizer.from_pretrained.
    """
    with source.reading():
        tokenizer = AutoTokenizer.from_pretrained(
            source.name,
            revision=source.revision,
            cache_dir=source.cache_dir,
            trust_remote_code=False,
            config=config,
            **options,
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # transformers makes up one that knows no words where there is no file of it, or the Hub gives none.
        if not source.is_local:
            with source.reading():
                file_exists(source.name, "tokenizer.json", revision=source.revision)
        raise source.refused("no tokenizer beside the model; save one there (tokenizer.json)")
    for key in CODE_KEYS:
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.chat_template = None
    if config is not None:  # or transformers' pipelines send longer texts than the model has positions for
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
    return tokenizer


def read_card(source: Source) -> dict[str, Any]:
    """License and language of the card beside a model; empty where there is no card, or none that can be read."""
    path = Path(source.name) / "README.md"
    try:
        if not source.is_local:
            with bounded_client():
                path = Path(
                    hf_hub_download(source.name, "README.md", revision=source.revision, cache_dir=source.cache_dir)
                )
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")  # a pipe would be waited for
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


def load(args: Arguments, task: Task | None) -> Loaded:
    """The model of `args` with a head that fits `task`, float32, in eval mode.

    Args:
        task: None: with the labels that it has (a comparison looks what they are good for); label_map is None.

    Raises:
        InputError: nothing there, damaged, or no BART; no classification head, or labels that are not the task's,
            without reinit_classifier; a tokenizer that cannot feed the model.
        HubError: the Hub refused or could not be reached.
    """
    name = args.model_name_or_path or args.config_name
    assert name is not None
    source = Source(name, revision=args.model_revision, cache_dir=args.cache_dir)
    config = _config_of_run(args, source, NEW_HEAD if task else "")
    torch.manual_seed(args.seed)  # new weights (a new head, a model from scratch) are the seed's
    new_head = task is not None and args.reinit_classifier and _needs_new_head(config, task)
    if task and (new_head or not args.model_name_or_path):
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
        with source.reading():
            model = ShortCutBart._from_config(
                config, attn_implementation=args.attn_implementation, dtype=torch.float32
            )
        logger.info("%s: a new model from its configuration, nothing trained yet", name)
    tokenizer = _tokenizer_of_run(args, source, config)
    other_tokenizer = "; give the model's own tokenizer with tokenizer_name" if task else ""
    with source.reading():
        check_tokenizer(tokenizer, config, args.max_seq_length, args.tokenizer_name or name, other_tokenizer)
    card = read_card(source) if args.model_name_or_path else {}
    loaded = Loaded(model.eval(), tokenizer, None, name, card)
    return loaded if task is None else with_labels_of(loaded, task, NEW_HEAD)


def with_labels_of(loaded: Loaded, task: Task, otherwise: str = "") -> Loaded:
    """The model with its labels matched to the task's; generic ones get the task's names.

    Raises:
        InputError: they are not the task's, or have names that cannot be written; `otherwise` ends its message.
    """
    config = loaded.model.config
    label_map = match_labels(task, config.id2label, f"model {loaded.name}", otherwise)
    if not task.is_regression and is_generic(config.id2label.values()):
        # A head that never knew its labels learns, and is saved with, the task's names.
        _set_task_labels(config, task)
    check_names(config.id2label.values(), f"model {loaded.name}")
    # How the head was used before says nothing about how it is trained now.
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    return dataclasses.replace(loaded, label_map=label_map)


def _config_of_run(args: Arguments, source: Source, otherwise: str) -> BartConfig:
    """The configuration, with the dropouts that were given."""
    source = dataclasses.replace(source, name=args.config_name or source.name)
    config = read_config(source, otherwise, args.reinit_classifier)
    config.architectures = config.architectures or [ARCHITECTURE]  # not named: its weights will tell
    if args.model_name_or_path and not args.reinit_classifier:
        check_head(source, config, otherwise)
    for key in RATES:
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


def _renew_head(model: ShortCutBart) -> None:
    for module in (model.classification_head.dense, model.classification_head.out_proj):
        torch.nn.init.normal_(module.weight, std=model.config.init_std)
        torch.nn.init.zeros_(module.bias)


def _tokenizer_of_run(args: Arguments, source: Source, config: BartConfig) -> PreTrainedTokenizerBase:
    source = dataclasses.replace(source, what="tokenizer")
    if not args.tokenizer_name or args.tokenizer_name == source.name:
        return read_tokenizer(source, config)
    try:
        return read_tokenizer(Source(args.tokenizer_name, "tokenizer", cache_dir=args.cache_dir), config)
    except CommandError:
        # Offline, with the Hub's name from 2020: a tokenizer beside the model is the same one.
        if not (_is_hub_name(args.tokenizer_name) and (Path(source.name) / "tokenizer.json").is_file()):
            raise
        logger.warning("tokenizer %s cannot be had; the one beside the model is used", args.tokenizer_name)
        return read_tokenizer(source, config)


def _is_hub_name(name: str) -> bool:
    """Whether a model on the Hub can be called so; a mistyped path cannot."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()
