"""From texts to token ids, once: kept in the datasets library's cache under what decides them, with a checksum.

check_tokenizer(tokenizer, model.config, 128, "my-model")
train = tokenize(split, tokenizer, 128, match_labels(task, id2label, "my-model"))
train.ids[train.offsets[i] : train.offsets[i + 1]]      # row i, without padding
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from distilbart_mnli.data.splits import NO_LABEL, Split
from distilbart_mnli.errors import InputError, cannot_write
from distilbart_mnli.files import atomic_file, remove, sha256

logger = logging.getLogger(__name__)

USUAL_SETTINGS = {"truncation_side": "right", "split_special_tokens": False}


@dataclass(frozen=True)
class TokenizedSplit:
    """Token ids of all rows, ragged, in two flat arrays (row i is `ids[offsets[i]:offsets[i + 1]]`)."""

    name: str
    ids: np.ndarray  # int32 [tokens]
    offsets: np.ndarray  # int64 [rows + 1]
    labels: np.ndarray | None  # int64 [rows], ids of the model; float32 for regression; None without labels
    digest: str  # SHA-256 of ids and offsets: the content that a model sees

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def unlabelled(self) -> int:
        """Rows without a label in a set that has labels: transfer rows."""
        return 0 if self.labels is None else int((self.labels == NO_LABEL).sum())

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row: int64 [rows]."""
        return np.diff(self.offsets)


def digest_of(*parts: str | np.ndarray) -> str:
    """SHA-256 over the parts and their lengths, so that ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data.cast("B")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def tokenizer_settings(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What decides a fast tokenizer's ids beside the state of its tokenizer.json, where it is not as usual.

    All else of tokenizer_config.json that matters (special and added tokens, do_lower_case, add_prefix_space, the
    class with its post-processor) is in that state once the tokenizer is loaded. Padding is ours (data/batches.py),
    and a length is given with every call.
    """
    settings = {name: getattr(tokenizer, name) for name, usual in USUAL_SETTINGS.items()}
    settings = {name: value for name, value in settings.items() if value != USUAL_SETTINGS[name]}
    if type(tokenizer)._encode_plus is not PreTrainedTokenizerFast._encode_plus:
        settings["tokenizer_class"] = type(tokenizer).__name__  # it does more than its state says
    return settings


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides a fast tokenizer's ids but the length: its state, and its unusual settings."""
    backend = tokenizer.backend_tokenizer.__class__.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    settings = tokenizer_settings(tokenizer)
    return digest_of(backend.to_str(), *([json.dumps(settings, sort_keys=True)] if settings else []))


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, max_length: int, name: str, otherwise: str = ""
) -> None:
    """Raises InputError where the tokenizer cannot feed this model; `otherwise`: what the user can do about it."""
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{name}: the tokenizer has no tokenizer.json; save it as a fast tokenizer first")
    if getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        raise InputError(
            f"{name}: its tokenizer.json has a dropout, so that it cuts a text otherwise each time; remove it"
        )
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise InputError(
            f"{name}: the tokenizer has ids up to {largest}, the model {config.vocab_size} embeddings{otherwise}"
        )
    ids = tokenizer("a", "b")["input_ids"]
    if not ids or ids[-1] != config.eos_token_id:
        raise InputError(
            f"{name}: the tokenizer ends a pair with id {ids[-1] if ids else None}, the model reads its answer at "
            f"eos_token_id {config.eos_token_id}{otherwise}"
        )
    if max_length > config.max_position_embeddings:
        raise InputError(
            f"max_seq_length {max_length} is more than the model's {config.max_position_embeddings} positions"
        )
    if max_length < len(ids):
        raise InputError(f"max_seq_length {max_length} leaves no room for text beside the special tokens")


def tokenize(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    label_map: np.ndarray | None = None,
    progress: bool = False,
) -> TokenizedSplit:
    """Tokenise every row once; the result is kept in datasets' cache, by the content of both.

    Args:
        label_map: int64 [task labels] -> the model's label ids (labels.match_labels).
        progress: show a bar.

    Raises:
        RunError: the disk has no room for the tokens. InputError: they may not be written there.
    """
    columns = {"sentence1": split.sentence1}
    if split.sentence2 is not None:
        columns["sentence2"] = split.sentence2
    # \0 cannot end one text and begin the next: lengths go in as well.
    texts = [digest_of("\0".join(column), np.array([len(text) for text in column])) for column in columns.values()]
    key = digest_of("tokens-1", tokenizer_digest(tokenizer), str(max_length), *texts)
    file = Path(datasets.config.HF_DATASETS_CACHE) / "distilbart_mnli" / f"tokens-{key}.arrow"

    def encode(*texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": tokenizer(*texts, truncation=True, max_length=max_length)["input_ids"]}

    with _bars(progress), _disk_errors(split.name, file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = _is_whole(file)
        if not kept:
            remove(file)
            remove(_checksum_file(file))
        tokens = datasets.Dataset.from_dict(
            columns
        ).map(  # read from the file if it is there
            encode,
            input_columns=list(columns),
            batched=True,
            batch_size=10_000,
            remove_columns=list(columns),
            features=datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))}),
            cache_file_name=str(file),
            new_fingerprint=key[:16],
            desc=f"Tokenising {split.name}",
        )
        if not kept:
            with atomic_file(_checksum_file(file)) as temporary:
                temporary.write_text(sha256(file) + "\n", encoding="ascii")
    rows = tokens.data.column("input_ids").combine_chunks()
    ids, offsets = rows.values.to_numpy(), rows.offsets.to_numpy().astype(np.int64)
    labels = split.labels
    if labels is not None and label_map is not None:
        labels = np.where(labels == NO_LABEL, NO_LABEL, label_map[np.maximum(labels, 0)])
    return TokenizedSplit(split.name, ids, offsets, labels, digest_of(ids, offsets))


def _checksum_file(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _is_whole(file: Path) -> bool:
    """Whether the kept tokens are there, byte for byte: Arrow itself checks little of what it reads."""
    if not (file.is_file() and _checksum_file(file).is_file()):
        return False  # none, an earlier release's, or those of a run that was killed between the two files
    try:
        whole = sha256(file) == _checksum_file(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        whole = False
    if not whole:
        logger.warning("the tokens kept in %s are damaged: tokenising again", file)
    return whole


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Without `shown`, no bars of the datasets library."""
    hide = not shown and datasets.is_progress_bar_enabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _disk_errors(name: str, folder: Path) -> Iterator[None]:
    """The disk's error in one line. datasets closes its file on the way out, and what fails then hides it."""
    try:
        yield
    except (OSError, ValueError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        message = f"the tokens of {name} could not be kept in {folder}"
        raise cannot_write(message, cause, "name another one in HF_HOME or HF_DATASETS_CACHE") from None
