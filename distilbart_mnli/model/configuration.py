"""config.json of a BART classifier: read, every value checked, and rid of what does not belong to the model.

    config = read_config(Source("facebook/bart-large-mnli", "teacher"))
    config.to_dict()                                # what a student or a trained model saves

What a configuration may hold is one table, RULES: a value is kept if it stands there and keeps its rule. Everything
else of the file stays behind: what loads code (auto_map, custom_pipelines), how the file was once used or served
(finetuning_task, task_specific_params, function_to_apply, output_attentions), and whatever nobody knows. Whether stock
transformers would raise, hang or compute nonsense with a value, it is refused here, before anything large is read.
`distillation` alone, how a student was trained, decides nothing, so what is odd in it refuses no model (history.py).
"""

import logging
from pathlib import Path
from typing import Any

from transformers import BartConfig
from transformers.activations import ACT2FN

from distilbart_mnli.data.labels import label_names
from distilbart_mnli.data.tasks import listed
from distilbart_mnli.errors import InputError
from distilbart_mnli.model.history import read_history
from distilbart_mnli.model.source import Source
from distilbart_mnli.model.value_rules import Rule, number, one_of, whole

logger = logging.getLogger(__name__)

ARCHITECTURE = "BartForSequenceClassification"


def list_of_layers(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(type(n) is int and 0 <= n <= LAYERS for n in value))


# Far above any BART that there is, and low enough that nobody waits for hours, or runs out of memory, over a slip.
LAYERS, WIDTH, LENGTH, WORDS, LABELS = 1_000, 1 << 17, 1 << 20, 1 << 24, 1 << 20
ID: Rule = whole(0, WORDS)
ID_OR_NOT: Rule = (lambda value: value is None or type(value) is int, "a token's id or null")
RATES = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout")
DTYPES = ("float32", "float16", "bfloat16", "float64")

RULES: dict[str, Rule] = {
    "vocab_size": whole(1, WORDS),
    "max_position_embeddings": whole(1, LENGTH),
    "d_model": whole(1, WIDTH),
    **{
        f"{stack}_{name}": rule
        for stack in ("encoder", "decoder")
        for name, rule in {
            "layers": whole(1, LAYERS),
            "attention_heads": whole(1, WIDTH),
            "ffn_dim": whole(1, LENGTH),
            "layerdrop": number(1),
            "layer_ids": (list_of_layers, "indices of the teacher's layers"),
        }.items()
    },
    **dict.fromkeys(RATES, number(1)),
    "init_std": number(1_000),
    "activation_function": (lambda name: isinstance(name, str) and name in ACT2FN, "a function of transformers"),
    "scale_embedding": one_of(False, True, None),
    "tie_word_embeddings": one_of(True, False),
    "pad_token_id": ID,
    "eos_token_id": ID,
    "decoder_start_token_id": ID,
    "bos_token_id": ID_OR_NOT,  # a classifier never reads these two
    "forced_eos_token_id": ID_OR_NOT,
    "num_labels": whole(1, LABELS),
    "problem_type": one_of(None, "single_label_classification", "multi_label_classification", "regression"),
    "dtype": one_of(None, *DTYPES),
    "teacher_name_or_path": (lambda value: value is None or isinstance(value, str), "a name"),
}
REFUSED: dict[str, str] = {
    "quantization_config": "its weights are quantised; give the model they were made from",
    "compression_config": "its weights are compressed; give the model they were made from",
    "per_layer_config": "its layers differ from each other, as no BART's do",
}


def read_settings(source: Source) -> dict[str, Any]:
    """config.json as it stands there; nothing large is read.

    Raises:
        InputError: there is none, or it is no object. HubError: the Hub refused or could not be reached.
    """
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


def read_config(source: Source, otherwise: str = "", new_head: bool = False) -> BartConfig:
    """The configuration of any BART that has layers: what RULES knows, and nothing else of the file.

    Args:
        otherwise: what else the user could do about labels that cannot be used.
        new_head: the head may be replaced, so one with such labels counts as none.

    Raises:
        InputError: no BART; a value that stock transformers could not run either; a damaged label map.
        HubError: the Hub refused or could not be reached.
    """
    values = read_settings(source)
    named = values.get("architectures") or []
    named = named if isinstance(named, list) else [named]
    if values.get("model_type") != "bart":
        raise source.refused(
            f"is {_listed(named)} (model type {values.get('model_type')}); only a {ARCHITECTURE} can be used"
        )
    for key, reason in REFUSED.items():
        if values.get(key) is not None:
            raise source.refused(f"config.json has {key}: {reason}")
    kept = {key: value for key, value in _by_todays_names(values).items() if key in RULES}
    for key, value in kept.items():
        fits, expected = RULES[key]
        if not fits(value):
            raise source.refused(f"config.json: {key} is {str(value)[:60]!r}; expected {expected}")
    try:
        names = label_names(values, f"{source.what} {source.name}", otherwise)
    except InputError:
        if not new_head:
            raise
        names, named = None, ["BartModel"]
    if names:
        both = {str(i): name for i, name in enumerate(names)}, {name: i for i, name in enumerate(names)}
        if both != (values.get("id2label"), values.get("label2id")):
            logger.warning("%s: its label map is not whole; by what it says: %s", source.name, listed(names))
        kept["id2label"], kept["label2id"] = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
        del kept["num_labels"]
    with source.reading():
        config = BartConfig(**kept, architectures=named)
    if (history := read_history(values.get("distillation"), f"{source.what} {source.name}")) is not None:
        config.distillation = history
    _check_together(source, config)
    return config


def check_head(source: Source, config: BartConfig, otherwise: str = "") -> None:
    """Refuse a BART that is no classifier; `otherwise`: what else the user could do about it."""
    if ARCHITECTURE not in config.architectures:
        raise source.refused(
            f"is {_listed(config.architectures)}, which has no classification head; give a {ARCHITECTURE}{otherwise}"
        )


def _listed(architectures: list) -> str:
    return " and ".join(map(str, architectures)) or "no architecture"


def _by_todays_names(values: dict[str, Any]) -> dict[str, Any]:
    """Another name for a value wins over its own, as in transformers; but torch_dtype only stands in for dtype."""
    others = {BartConfig.attribute_map[key]: value for key, value in values.items() if key in BartConfig.attribute_map}
    dtype = values.get("dtype") or values.get("torch_dtype")
    return {**values, **others, "dtype": dtype, "num_labels": values.get("num_labels", 3)}


def _check_together(source: Source, config: BartConfig) -> None:
    """Rules between values, BART's defaults included."""
    for stack in ("encoder", "decoder"):
        heads = getattr(config, f"{stack}_attention_heads")
        if config.d_model % heads:
            raise source.refused(f"config.json: d_model {config.d_model} cannot be cut into {heads} {stack} heads")
    for key in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        if getattr(config, key) >= config.vocab_size:
            raise source.refused(
                f"config.json: {key} is {getattr(config, key)}; expected an id below vocab_size {config.vocab_size}"
            )
