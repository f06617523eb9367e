"""Files of options, JSON or YAML, and the names that options had in 2020."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import yaml

from distilbart_mnli.errors import InputError
from distilbart_mnli.options.values import convert_number, convert_truth, shown

logger = logging.getLogger(__name__)

# Names of 2020 and of older releases of transformers. Each is translated with one log line.
# old name -> function of its value to the new keys, or None: the key has no effect any more.
OLD_NAMES: dict[str, Any] = {
    "evaluate_during_training": lambda value: {"eval_strategy": "steps"} if value else {},
    "evaluation_strategy": lambda value: {"eval_strategy": value},
    "warmup_ratio": lambda value: {"warmup_steps": value},
    "group_by_length": lambda value: {"train_sampling_strategy": "group_by_length" if value else "random"},
    "per_gpu_train_batch_size": lambda value: {"per_device_train_batch_size": value},
    "per_gpu_eval_batch_size": lambda value: {"per_device_eval_batch_size": value},
    "max_length": lambda value: {"max_seq_length": value},
    "no_cuda": lambda value: {"use_cpu": value},
    "activation_checkpointing": lambda value: {"gradient_checkpointing": value},
    "push_to_hub_model_id": lambda value: {"hub_model_id": value},
    "overwrite_cache": None,
    "fp16_opt_level": None,
    "fp16_backend": None,
    "logging_dir": None,
    "local_rank": None,
    "use_fast_tokenizer": None,
}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 3e-5 for text, because it has no dot, `no` (an eval_strategy) for false, 2020-10-01 for a date,
    1:30 for ninety and 010 for eight; everyone who writes them means a number, the word, and texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - how PyYAML's loaders are made
        first: [
            (tag, how) for tag, how in rules if tag.rpartition(":")[2] not in ("bool", "timestamp", "int", "float")
        ]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)

YAML_ENDINGS = (".yaml", ".yml")
FILE_ENDINGS = (".json", *YAML_ENDINGS)


def read_file(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON or YAML file (by its ending).

    Raises:
        InputError: no such file, not UTF-8, not JSON or YAML (with the line), no object, a key that stands twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    try:
        if path.suffix in YAML_ENDINGS:
            loader = _Loader(text)
            node = loader.get_single_node()
            if isinstance(node, yaml.MappingNode):
                _no_key_twice([(str(key.value), None) for key, _ in node.value])
            values = loader.construct_document(node) if node else None
        else:
            values = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    except (RecursionError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected an object of options, found {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key} stands twice")
        seen[key] = value
    return seen


def rename_old_keys(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Translate the names of 2020; the new name, where given as well, wins."""
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in OLD_NAMES:
            continue
        rule = OLD_NAMES[key]
        if rule is None:
            logger.info("%s: %s has no effect any more", where, key)
            continue
        if key in ("evaluate_during_training", "group_by_length"):
            value = convert_truth(value)
            if value is None:
                raise InputError(f"{where}: {key} must be true or false, not {shown(values[key])}")
        if key == "warmup_ratio" and (convert_number(value) or 0) >= 1:  # warmup_steps would take it for steps
            raise InputError(f"{where}: warmup_ratio must be a share of all steps, below 1, not {shown(value)}")
        new = rule(value)
        logger.info("%s: %s is now %s", where, key, ", ".join(f"{k}={v}" for k, v in new.items()) or "the default")
        renamed.update(new)
    return {**renamed, **{key: value for key, value in values.items() if key not in OLD_NAMES}}
