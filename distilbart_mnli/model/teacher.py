"""A teacher whose answers a student learns: its logits of a set, computed once and kept; its encoder's states.

    teacher = load_teacher(args, student)
    logits = teacher_logits(teacher, split, inference, folder)      # float32 [rows, labels], the student's label order

All of MNLI's logits are 4.7 MB, so they are kept beside the encoder caches, one folder a teacher, a set and a
precision, and every student of that teacher reads them:

    <key>/logits.bin   float32 [rows, num_labels], in the teacher's own label order
    <key>/meta.json    sizes, origin and SHA-256 of logits.bin

`python -m distilbart_mnli.model.encoder_cache list` shows them with the rest, and `prune` removes them.
"""

import dataclasses
import datetime
import functools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import PreTrainedTokenizerBase

from distilbart_mnli.data.batches import Collator, Padding
from distilbart_mnli.data.labels import folded
from distilbart_mnli.data.tasks import listed
from distilbart_mnli.data.tokens import TokenizedSplit, check_tokenizer, digest_of, tokenizer_digest
from distilbart_mnli.errors import RunError
from distilbart_mnli.files import atomic_folder
from distilbart_mnli.model.bart import ShortCutBart, count_parameters, weights_digest
from distilbart_mnli.model.predict import Inference, predict_logits
from distilbart_mnli.model.pretrained import Loaded, check_head, read_config, read_tokenizer, read_weights
from distilbart_mnli.model.source import Source
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.processes import gather_objects, same_outcome_on_all_ranks

logger = logging.getLogger(__name__)

BATCH_SIZE = 64
"""Rows in one forward pass of a teacher: its own number, so that the kept bits do not depend on the run's."""

DECIDES_LOGITS = (
    "activation_function scale_embedding pad_token_id eos_token_id decoder_start_token_id encoder_attention_heads "
    "decoder_attention_heads"
).split()
"""Of a configuration, beside what the weights' names and shapes say."""


@dataclass(frozen=True)
class Teacher:
    """A model in eval mode, and how its answers are read as the student's."""

    model: ShortCutBart
    tokenizer: PreTrainedTokenizerBase
    name: str
    labels: np.ndarray
    """int64 [num_labels]: the student's label id -> the teacher's."""
    same_ids: bool
    """Whether its tokenizer gives the same ids as the student's."""
    train: TokenizedSplit | None = None
    """The training set in its own tokens, where they are not the student's."""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        return weights_digest(self.model)


def load_teacher(args: Arguments, student: Loaded) -> Teacher:
    """The teacher of `student`, float32, in eval mode, without gradients.

    Raises:
        InputError: no BART classifier; labels that are not the student's; a tokenizer that cannot feed it; with
            fit_encoder, encoder states that are not comparable: another width, or other token ids.
        HubError: the Hub refused or could not be reached.
    """
    assert args.teacher_model_name_or_path is not None
    source = Source(args.teacher_model_name_or_path, "teacher", args.teacher_revision, args.cache_dir)
    config = read_config(source)
    check_head(source, config)
    labels = _match(source, config.id2label, student.model.config.id2label)
    tokenizer = read_tokenizer(source)
    check_tokenizer(tokenizer, config, args.max_seq_length, source.name)
    same_ids = tokenizer_digest(tokenizer) == tokenizer_digest(student.tokenizer)
    if args.fit_encoder:
        width, wanted = student.model.config.d_model, config.d_model
        if width != wanted:
            raise source.refused(f"fit_encoder needs one d_model; the teacher's is {wanted}, the student's {width}")
        if not same_ids:
            raise source.refused("its tokenizer is not the student's, so encoder states are not those of one input")
    model = read_weights(
        source, ShortCutBart, config=config, dtype=torch.float32, attn_implementation=args.attn_implementation
    )
    model.requires_grad_(False)
    model.encoder_is_frozen, model.encoder_has_dropout = True, False
    sizes = [count_parameters(found)[1] / 1e6 for found in (model, student.model)]
    if sizes[0] < sizes[1]:
        logger.warning("teacher %s: smaller than its student, %.1f M parameters against %.1f M", source.name, *sizes)
    return Teacher(model, tokenizer, source.name, labels, same_ids)


def _match(source: Source, its: dict[int, str], mine: dict[int, str]) -> np.ndarray:
    """int64 [labels]: the student's label id -> the teacher's, by name."""
    ids = {folded(name): number for number, name in its.items()}
    wanted = [folded(mine[number]) for number in sorted(mine)]
    if len(ids) != len(its) or sorted(ids) != sorted(wanted):
        names = listed(list(its.values())), listed(list(mine.values()))
        raise source.refused(f"its labels ({names[0]}) are not the student's ({names[1]})")
    return np.array([ids[name] for name in wanted], dtype=np.int64)


def teacher_logits(
    teacher: Teacher,
    split: TokenizedSplit,
    inference: Inference,
    folder: Path,
    states: Callable[[np.ndarray, np.ndarray, np.ndarray], torch.Tensor] | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """Logits float32 [rows, num_labels] of every row, labels in the student's order. All processes must call it.

    Args:
        split: tokenised by the teacher's tokenizer.
        folder: of the encoder caches.
        states: the teacher's encoder states, where a cache has them: only its decoder runs then.
        dtype: what products are computed in, as torch names it.

    Raises:
        RunError: the disk is full.
    """
    model = teacher.model
    key = digest_of(
        "teacher-logits-1",
        teacher.digest,
        *(str(getattr(model.config, name)) for name in DECIDES_LOGITS),
        split.digest,
        dtype,
        str(model.config._attn_implementation),
        model.device.type,
        str(states is not None),  # other batches: the last bits may differ, and a resumed run wants the same
        torch.__version__,
        transformers.__version__,
    )[:32]
    place, shape = folder / key, (len(split), model.config.num_labels)
    main = inference.process_index == 0
    logits = gather_objects(_read(place, shape) if main else None)[0]
    if logits is None:
        logger.info("teacher %s: its logits of %s are computed once, and kept in %s", teacher.name, split.name, place)
        collate = Collator(split, model.config.pad_token_id, Padding(int(split.lengths.max())), states)
        logits = predict_logits(model, collate, dataclasses.replace(inference, batch_size=BATCH_SIZE))
        with same_outcome_on_all_ranks():
            if not np.isfinite(logits).all():
                raise RunError(f"teacher {teacher.name}: it gives logits that are not finite on {split.name}")
            if main:
                _write(place, logits, split, teacher.name)
    else:
        logger.info("teacher %s: its logits of %s are read from %s", teacher.name, split.name, place)
    return logits[:, teacher.labels]


def _read(place: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Kept logits if they are whole; None, with a warning if something else is there."""
    if not place.exists():
        return None
    try:
        data = (place / "logits.bin").read_bytes()
        if sha256(data).hexdigest() != json.loads((place / "meta.json").read_text(encoding="utf-8"))["sha256"]:
            raise ValueError("logits.bin does not have its checksum")
        return np.frombuffer(data, np.float32).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the teacher's logits in %s are damaged (%s): they are computed again", place.name, error)
        return None


def _write(place: Path, logits: np.ndarray, split: TokenizedSplit, origin: str) -> None:
    data = np.ascontiguousarray(logits, np.float32).tobytes()
    meta = {
        "rows": len(split),
        "dtype": "logits",
        "split": split.name,
        "origin": Path(origin).name,
        "sha256": sha256(data).hexdigest(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        with atomic_folder(place) as temporary:
            (temporary / "logits.bin").write_bytes(data)
            (temporary / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{place.parent}: the teacher's logits cannot be written: {error.strerror or error}; free some space, or "
            "set encoder_cache_dir to another disk"
        ) from None
