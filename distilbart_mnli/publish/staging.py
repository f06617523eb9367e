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
from distilbart_mnli.export.session import FLOAT_FILE, FOLDER, INT8_FIGURES, INT8_FILE
from distilbart_mnli.files import sha256
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.public_text import SECRET_VARIABLES, without_paths
from distilbart_mnli.publish.run_files import read_object

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
    *(f"{FOLDER}/{name}" for name in (FLOAT_FILE, INT8_FILE, INT8_FIGURES)),
)
"""Names and patterns of the files that are uploaded; nothing else ever is."""

WEIGHTS = (".safetensors", ".onnx")  # not copied, and not searched for what only text can be
NEEDED_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")
_OURS = re.compile(r"(?:training_args|trainer_state|all_results|tradeoffs|quantization)\.json|eval_results_.*\.txt")
_TOKEN = re.compile(rb"\b(?:hf|api_org)_[A-Za-z0-9]{30,}")
_CHUNK = 1 << 24


def check_publishable(output_dir: Path) -> None:
    """Raises InputError if output_dir does not hold a finished model, or a link in the place of one of its files."""
    refuse_links(output_dir)
    missing = [name for name in NEEDED_FILES if not (output_dir / name).is_file()]
    if missing:
        raise InputError(
            f"{output_dir}: no finished model to publish: {', '.join(missing)} missing; run_glue.py with do_train "
            "writes one there"
        )


def looks_like_token(text: str) -> bool:
    """Whether a text holds what looks like an access token of the Hub."""
    return _TOKEN.search(text.encode("utf-8", "replace")) is not None


def refuse_links(folder: Path) -> None:
    """Raises InputError if a file that would be published is a link: what is behind it may be anybody's secret."""
    for path in _matching(folder):
        if path.is_symlink() or (path.parent != folder and path.parent.is_symlink()):
            raise InputError(f"{path} is a link, and no link is published; put the file itself there, or remove it")


def known_secrets(args: Arguments) -> list[str]:
    """Values that must be in no output: this run's token and those of the environment."""
    values = [args.hub_token, get_token(), *(os.environ.get(name) for name in SECRET_VARIABLES)]
    return sorted({value.strip() for value in values if value and len(value.strip()) >= 8})


@contextlib.contextmanager
def staged(output_dir: Path, secrets: Iterable[str], *more_local: Path) -> Iterator[Path]:
    """A temporary folder, named as output_dir, with what will be published; gone afterwards.

    The weights are a symbolic link, so nothing large is copied. Local paths are reduced to base names in what others
    may have written: a teacher's settings, a person's words. What a run writes has none, and is refused with one.

    Args:
        more_local: further folders of this machine, paths into which must not be published.

    Raises:
        InputError: one of the files is a link; config.json or tokenizer_config.json is no JSON object.
        RunError: a file holds a token or a path of this machine, or cannot be copied.
    """
    refuse_links(output_dir)
    roots = _local_roots(output_dir.resolve().parent, *more_local)
    with tempfile.TemporaryDirectory(prefix="distilbart-mnli-") as temporary:
        folder = Path(temporary) / (output_dir.resolve().name or "model")
        try:
            folder.mkdir()
            for path in published_files(output_dir):
                target = folder / path.relative_to(output_dir)
                target.parent.mkdir(exist_ok=True)
                if path.name in ("config.json", "tokenizer_config.json"):
                    content = _public(read_object(path))
                    target.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
                elif path.name == "README.md":
                    text = path.read_text(encoding="utf-8")
                    target.write_text(roots.sub(lambda match: Path(match[0]).name, text), encoding="utf-8")
                elif path.suffix in WEIGHTS:
                    target.symlink_to(path.resolve())
                else:
                    shutil.copyfile(path, target)
                    if _OURS.fullmatch(path.name):
                        _refuse_paths(target, roots)
        except OSError as error:
            raise RunError(f"{error.filename}: cannot be staged: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: is not UTF-8, or nested too deeply: {error}") from error
        _refuse_secrets(folder, secrets)
        yield folder


def published_files(folder: Path) -> list[Path]:
    """The files of PUBLISHED_FILES that are there, in that order."""
    return [path for path in _matching(folder) if path.is_file()]


def checksums(folder: Path) -> dict[str, bytes]:
    """SHA-256 of every published file, by its path in the folder."""
    return {name_in(folder, path): bytes.fromhex(sha256(path)) for path in published_files(folder)}


def name_in(folder: Path, path: Path) -> str:
    """How the Hub calls a file of the folder: "config.json", "onnx/model.onnx"."""
    return path.relative_to(folder).as_posix()


def _matching(folder: Path) -> list[Path]:
    return [path for pattern in PUBLISHED_FILES for path in sorted(folder.glob(pattern))]


def _public(value: Any, key: str = "") -> Any:
    """`value` with local paths reduced to base names under the keys of files: a token such as </s> is no path."""
    if isinstance(value, dict):
        return {name: _public(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [_public(entry, key) for entry in value]
    if not isinstance(value, str) or not re.fullmatch(r".*_(?:path|file|dir)|file|path", key):
        return value
    if value.startswith(("/", "~/")) and Path(value).expanduser().exists():
        return Path(value).name  # a path with spaces is recognised by being there
    return without_paths(value)


def _local_roots(*folders: Path) -> re.Pattern[str]:
    """Finds paths into the folders of this user, run and machine. Prose may speak of any other: /usr/share."""
    roots = {Path.home(), Path.cwd(), Path(tempfile.gettempdir()), *folders}
    longest_first = sorted((re.escape(str(root)) for root in roots if len(root.parts) > 1), key=len, reverse=True)
    return re.compile(rf"(?<![\w.~-])(?:{'|'.join(longest_first)})(?:/[^\s'\"`,;:)\]}}<>]*)?(?![\w-])")


def _refuse_paths(path: Path, roots: re.Pattern[str]) -> None:
    text = path.read_text(encoding="utf-8")
    if found := roots.search(text) or re.search(r'(?<=")~?/[^"]+', text):
        raise RunError(f"{path.name} holds a path of this machine, {found[0]}; take it out of the file")


def _refuse_secrets(folder: Path, secrets: Iterable[str]) -> None:
    values = [secret.encode() for secret in secrets]
    overlap = max(map(len, values), default=0)
    for path in published_files(folder):
        text = path.suffix not in (*WEIGHTS, ".png")
        with path.open("rb") as file:
            rest = b""
            while chunk := file.read(_CHUNK):
                window = rest + chunk
                if any(value in window for value in values) or (text and _TOKEN.search(window)):
                    raise RunError(f"{path.name} holds an access token; remove it from the file, and revoke it")
                rest = window[-overlap:] if overlap else b""
