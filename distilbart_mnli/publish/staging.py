"""What leaves the machine: the published files, copied to a clean folder, without local paths and without tokens."""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.public_text import public_command, without_paths

PUBLISHED_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "README.md",
    "training_args.json",
    "trainer_state.json",
    "all_results.json",
    "eval_results_*.txt",
    "tradeoffs.json",
    "training_curves.png",
)
"""Names and patterns of the files that are uploaded; nothing else ever is."""

NEEDED_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")
# Written by a run, so every path in them is one of this machine.
_OURS = ("training_args.json", "trainer_state.json", "all_results.json", "tradeoffs.json")
# Written by transformers. Only keys that name files may be touched: a token such as </s> is no path.
_STOCK = ("config.json", "tokenizer_config.json")
_FILE_KEY = re.compile(r".*_(?:path|file|dir)|file|path")
_TOKEN = re.compile(rb"\b(?:hf|api_org)_[A-Za-z0-9]{30,}")
_SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "WANDB_API_KEY")
_CHUNK = 1 << 24


def check_publishable(output_dir: Path) -> None:
    """Raises InputError if output_dir does not hold a finished model."""
    missing = [name for name in NEEDED_FILES if not (output_dir / name).is_file()]
    if missing:
        raise InputError(
            f"{output_dir}: no finished model to publish: {', '.join(missing)} missing; run_glue.py with do_train "
            "writes one there"
        )


def known_secrets(args: Arguments) -> list[str]:
    """Values that must be in no output: this run's token and those of the environment."""
    values = [args.hub_token, get_token(), *(os.environ.get(name) for name in _SECRET_VARIABLES)]
    return sorted({value.strip() for value in values if value and len(value.strip()) >= 8})


@contextlib.contextmanager
def staged(output_dir: Path, secrets: Iterable[str]) -> Iterator[Path]:
    """A temporary folder, named as output_dir, with what will be published; gone afterwards.

    The weights are a symbolic link, so nothing large is copied.

    Raises:
        RunError: a file holds a token or cannot be copied.
    """
    with tempfile.TemporaryDirectory(prefix="distilbart-mnli-") as temporary:
        folder = Path(temporary) / (output_dir.resolve().name or "model")
        try:
            folder.mkdir()
            for path in published_files(output_dir):
                target = folder / path.name
                if path.name in _OURS + _STOCK:
                    content = _public(json.loads(path.read_text(encoding="utf-8")), path.name in _OURS)
                    target.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
                elif path.name == "README.md" or path.name.startswith("eval_results_"):
                    text = _without_local_roots(path.read_text(encoding="utf-8"), output_dir)
                    target.write_text(text, encoding="utf-8")
                elif path.suffix == ".safetensors":
                    target.symlink_to(path.resolve())
                else:
                    shutil.copyfile(path, target)
        except OSError as error:
            raise RunError(f"{error.filename}: cannot be staged: {error.strerror}") from error
        except ValueError as error:
            raise RunError(f"{path}: is not UTF-8, or not JSON: {error}") from error
        _refuse_secrets(folder, secrets)
        yield folder


def published_files(folder: Path) -> list[Path]:
    """The files of PUBLISHED_FILES that are there, in that order."""
    return [path for pattern in PUBLISHED_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]


def _public(value: Any, all_keys: bool, key: str = "") -> Any:
    """`value` with paths of this machine reduced to base names: under every key, or only under those of files."""
    if isinstance(value, dict):
        return {name: _public(entry, all_keys, name) for name, entry in value.items() if name != "hub_token"}
    if isinstance(value, list):
        return [_public(entry, all_keys, key) for entry in value]
    if not isinstance(value, str) or not (all_keys or _FILE_KEY.fullmatch(key)):
        return value
    if key == "command":
        return public_command(value)
    if value.startswith(("/", "~/")) and Path(value).expanduser().exists():
        return Path(value).name  # a path with spaces is recognised by being there
    return without_paths(value)


def _without_local_roots(text: str, output_dir: Path) -> str:
    """Prose may speak of /any/path; what lies in a folder of this user, run or machine is reduced to its base name."""
    roots = {Path.home(), Path.cwd(), output_dir.resolve().parent, Path(tempfile.gettempdir())}
    for root in sorted((str(root) for root in roots if len(root.parts) > 1), key=len, reverse=True):
        pattern = re.escape(root) + r"(?:/[^\s'\"`,;:)\]}<>]*)?(?![\w-])"
        text = re.sub(pattern, lambda match: Path(match.group()).name, text)
    return text


def _refuse_secrets(folder: Path, secrets: Iterable[str]) -> None:
    values = [secret.encode() for secret in secrets]
    overlap = max(map(len, values), default=0)
    for path in sorted(folder.iterdir()):
        text = path.suffix not in (".safetensors", ".png")
        with path.open("rb") as file:
            rest = b""
            while chunk := file.read(_CHUNK):
                window = rest + chunk
                if any(value in window for value in values) or (text and _TOKEN.search(window)):
                    raise RunError(f"{path.name} holds an access token; remove it from the file, and revoke it")
                rest = window[-overlap:] if overlap else b""
