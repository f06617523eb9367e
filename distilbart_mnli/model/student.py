"""Building a student: the teacher with some of its layers left out, saved as a stock transformers model.

What is copied is the teacher's tensors as they are, in the teacher's dtype: embeddings, the kept layers and the
classification head with its labels. config.json is the teacher's as configuration.py reads it, and gets four keys:
teacher_name_or_path (a Hub id as given, of a local folder its base name), encoder_layer_ids and decoder_layer_ids
(indices into that teacher), and distillation (how it was trained since then: history.py). A student can be the teacher
of the next.

With encoder_from its encoder is a fitted one (fitted_encoder.py) and everything else the teacher's.

A student appears whole or not at all: it is written to a temporary neighbour of its final folder, read back with stock
transformers, run once, and only then renamed into place.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import ModelCardData
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForSequenceClassification,
    PreTrainedTokenizerBase,
)

from distilbart_mnli.data.tokens import check_tokenizer
from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import TEMPORARY, LocksNotSupported, atomic_folder, lock_file, lock_holder, remove_leftovers
from distilbart_mnli.model.bart import count_parameters, shares_one_table
from distilbart_mnli.model.configuration import ARCHITECTURE, check_head, read_config
from distilbart_mnli.model.fitted_encoder import Fitted, check_table, read_fitted
from distilbart_mnli.model.history import how_made
from distilbart_mnli.model.kept_layers import check_layers, select_layers, show_layers
from distilbart_mnli.model.pretrained import WEIGHT_FILES, read_card, read_tokenizer, read_weights
from distilbart_mnli.model.source import Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudentPlan:
    """What create_student.py is asked for. A stack for which nothing is given is kept whole."""

    teacher_name_or_path: str
    encoder_layers: int | None = None
    decoder_layers: int | None = None
    encoder_layer_ids: list[int] | None = None
    decoder_layer_ids: list[int] | None = None
    teacher_revision: str = "main"
    encoder_from: str | None = None
    """A model whose encoder the student gets in the place of the teacher's layers."""

    @property
    def sources(self) -> list[str]:
        """The models that it is made of."""
        return [self.teacher_name_or_path, *([self.encoder_from] if self.encoder_from else [])]

    def kept(self, stack: str, available: int) -> list[int]:
        """The layers that the student keeps of a stack ("encoder" or "decoder") of `available` layers.

        Raises:
            InputError: the teacher has no such layers, or number and indices do not agree.
        """
        number, layer_ids = getattr(self, f"{stack}_layers"), getattr(self, f"{stack}_layer_ids")
        if layer_ids is None:
            return select_layers(available, available if number is None else number, stack)
        if number not in (None, len(layer_ids)):
            raise InputError(f"student_{stack}_layers is {number}, but {stack}_layer_ids names {len(layer_ids)}")
        return check_layers(available, layer_ids, stack)


@dataclass(frozen=True)
class Student:
    """A student that is saved, and one line about it and about its teacher."""

    model: BartForSequenceClassification
    summary: str
    teacher_summary: str


def copy_layers(
    teacher: BartForSequenceClassification,
    encoder_layer_ids: list[int],
    decoder_layer_ids: list[int],
    encoder_from: BartForSequenceClassification | None = None,
) -> BartForSequenceClassification:
    """A stock model with the teacher's layers at these indices, in this order, and everything else of the teacher.

    No tensor is copied: student and teacher share memory, so train only one of the two.

    Args:
        encoder_from: a model with as many encoder layers, and the teacher's token table, whose encoder is taken. All
            is in the wider of the two dtypes then, which rounds neither.
    """
    config = BartConfig.from_dict(teacher.config.to_dict())
    config.encoder_layers, config.decoder_layers = len(encoder_layer_ids), len(decoder_layer_ids)
    config.architectures = [ARCHITECTURE]
    with torch.device("meta"):
        student = BartForSequenceClassification(config)
    source = teacher.state_dict()
    kept = {"encoder": encoder_layer_ids, "decoder": decoder_layer_ids}

    def name_in_teacher(name: str) -> str:
        part = name.split(".")  # model.decoder.layers.2.fc1.weight
        if part[2:3] == ["layers"]:
            part[3] = str(kept[part[1]][int(part[3])])
        return ".".join(part)

    tensors = {name: source[name_in_teacher(name)] for name in student.state_dict()}
    dtype = teacher.dtype
    if encoder_from is not None:
        dtype = torch.promote_types(dtype, encoder_from.dtype)
        of_encoder = {f"model.encoder.{name}": t for name, t in encoder_from.model.encoder.state_dict().items()}
        tensors = {name: tensor.to(dtype) for name, tensor in {**tensors, **of_encoder}.items()}
    student.load_state_dict(tensors, assign=True)
    student.tie_weights()
    student.config.dtype = dtype
    return student.eval()


def describe(model: BartForSequenceClassification) -> str:
    """ "12 + 3 layers, 255,417,347 parameters, 1,021.7 MB in float32": parameters once, 1 MB = 10^6 bytes."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    layers = f"{model.config.encoder_layers} + {model.config.decoder_layers} layers"
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{layers}, {count_parameters(model)[1]:,} parameters, {size / 1e6:,.1f} MB in {dtype}"


def create_student(plan: StudentPlan, save_path: Path, overwrite: bool = False) -> Student:
    """All of it: check, read the teacher, copy, save, verify. Nothing is written on any error.

    Raises:
        InputError: the layers do not fit the teacher, or the teacher or `save_path` cannot be used.
        HubError: the Hub refused or could not be reached.
        RunError: see save_verified.
    """
    check_save_path(save_path, plan.sources, overwrite)
    with _alone_at(save_path):
        # Again: another process may have finished a student there, or a killed one's is put back.
        check_save_path(save_path, plan.sources, overwrite)
        return _build(plan, save_path)


def _build(plan: StudentPlan, save_path: Path) -> Student:
    source = Source(plan.teacher_name_or_path, "teacher", plan.teacher_revision)
    config = read_config(source)
    check_head(source, config)
    if plan.encoder_from is None:
        encoder_layer_ids = plan.kept("encoder", config.encoder_layers)
    decoder_layer_ids = plan.kept("decoder", config.decoder_layers)
    tokenizer = read_tokenizer(source, config)
    with source.reading():
        check_tokenizer(tokenizer, config, config.max_position_embeddings, f"teacher {source.name}")
    fitted = None
    if plan.encoder_from is not None:
        fitted = read_fitted(Source(plan.encoder_from, "encoder_from"), config, tokenizer)
        encoder_layer_ids = fitted.kept(plan.encoder_layers, plan.encoder_layer_ids)
    teacher = read_weights(source, BartForSequenceClassification, config=config, dtype="auto")
    if fitted is not None:
        check_table(fitted, teacher)
    model = copy_layers(teacher, encoder_layer_ids, decoder_layer_ids, fitted.model if fitted else None)
    model.config.teacher_name_or_path = source.public_name
    model.config.encoder_layer_ids, model.config.decoder_layer_ids = encoder_layer_ids, decoder_layer_ids
    model.config.distillation = fitted.history if fitted else []
    save_verified(model, tokenizer, save_path, student_card(model, source, fitted))
    return Student(model, describe(model), f"{source.name}: {describe(teacher)}")


def student_card(model: BartForSequenceClassification, source: Source, fitted: Fitted | None = None) -> str:
    """README.md of an untuned student. License and language are those of the teacher's card, where it has one."""
    teacher = model.config.teacher_name_or_path
    metadata = ModelCardData(
        **read_card(source),
        library_name="transformers",
        pipeline_tag="zero-shot-classification",
        tags=["distilbart", "distilbart-mnli"],
        base_model=None if source.is_local else source.name,
    )
    if not source.is_local and source.revision != "main":
        teacher += f" (revision {source.revision})"
    origin, encoder = "Its layers are the teacher's, copied; nothing was trained.", "encoder"
    if fitted is not None:
        origin = f"Its encoder is that of {fitted.source.public_name}; its decoder's layers are the teacher's, copied."
        encoder = f"encoder ({how_made(fitted.history)})"
    body = f"""# Student of {teacher}, not fine-tuned yet

{describe(model)}. {origin}

| stack | layers of the teacher that are kept |
|---|---|
| {encoder} | {show_layers(model.config.encoder_layer_ids)} |
| decoder | {show_layers(model.config.decoder_layer_ids)} |

Labels, in the teacher's order: {", ".join(label for _, label in sorted(model.config.id2label.items()))}.
Made by create_student.py; run_glue.py fine-tunes it.
"""
    return f"---\n{metadata}\n---\n\n{body}"


def check_save_path(save_path: Path, sources: Sequence[str], overwrite: bool = False) -> None:
    """Whether a student of the models `sources` may be written to `save_path`; touches nothing.

    Raises:
        InputError: a file, a folder that cannot be replaced or written beside, a folder with something in it without
            `overwrite`, with `overwrite` one that is no model's, or one of `sources` itself.
    """

    def refused(reason: str) -> InputError:
        return InputError(f"save_path {save_path}: {reason}")

    path = save_path.resolve()
    if path.exists() and not path.is_dir():
        raise refused("is a file; expected a new or an empty folder")
    if path.is_dir():
        if path == Path.cwd() or os.path.ismount(path):
            raise refused("the current folder or a mount point; name a folder in it")
        for source in map(Path, sources):
            if source.is_dir() and path in (source.resolve(), *source.resolve().parents):
                raise refused(f"holds {source}, of which the student is made; name another folder")
        try:
            empty = not any(path.iterdir())
        except OSError as error:
            raise refused(f"cannot be read: {error.strerror}") from error
        if not empty and not overwrite:
            raise refused("is not empty; name another folder, or give --overwrite")
        if not empty and (reason := _no_model(path)):
            raise refused(f"{reason}, so --overwrite does not delete it; name another folder")
    ancestor = next(parent for parent in path.parents if parent.exists())
    if not ancestor.is_dir():
        raise refused(f"{ancestor.name} is a file, so no folder can be made in it")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise refused("the folder above it is not writable")


@contextlib.contextmanager
def _alone_at(save_path: Path) -> Iterator[None]:
    """While open, no other process builds a student in `save_path`; what dead ones left beside it is cleared up.

    Raises:
        InputError: one does, or a training writes into it; or the folder cannot be written.
    """
    path = save_path.resolve()
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        with contextlib.ExitStack() as stack:
            try:
                # The name of something temporary, so that remove_leftovers removes a dead process's.
                for lock_path in (path.with_name(f"{TEMPORARY}lock-{path.name[-100:]}"), path / ".lock"):
                    if lock_path.parent != path or lock_path.exists():
                        lock = lock_file(lock_path)
                        if lock is None:
                            raise InputError(
                                f"save_path {save_path}: {lock_holder(lock_path)} is writing to it; wait for it or "
                                "name another folder"
                            )
                        stack.enter_context(lock)
                remove_leftovers(path.parent)
            except LocksNotSupported as error:
                logger.warning("%s: this disk has no locks (%s)", save_path, error.strerror)
            except OSError as error:
                raise InputError(f"save_path {save_path}: cannot be written: {error.strerror}") from None
            yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: the student is in it
                folder.rmdir()


def _no_model(folder: Path) -> str | None:
    """Why a folder does not look like a single model, or None. What has folders in it is more than a model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or "model_type" not in config:
        return "has no config.json of a model"
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        return "has no weights of a model"
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return f"has a folder in it ({inner[0]})" if inner else None


def save_verified(
    model: BartForSequenceClassification, tokenizer: PreTrainedTokenizerBase, save_path: Path, card: str | None = None
) -> None:
    """Write, read back, run once, rename into place.

    Args:
        card: README.md; None: without one.

    Raises:
        RunError: what was written does not read back as the model, or the disk is full.
        InputError: the folder cannot be written.
    """
    try:
        with atomic_folder(save_path.resolve()) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            if card is not None:
                (folder / "README.md").write_text(card, encoding="utf-8")
            verify_saved(folder, model)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"save_path {save_path}: cannot be written: {error.strerror}") from error
    except (OSError, SafetensorError) as error:
        raise RunError(f"save_path {save_path}: writing failed, nothing is left of it: {error}") from error


def verify_saved(folder: Path, expected: BartForSequenceClassification) -> None:
    """Read `folder` as any user would, with stock transformers, and classify one pair.

    Raises:
        RunError: another class or label map, embeddings that no longer share storage, a tensor that differs from
            `expected`, or logits that are not finite.
    """
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto", local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise RunError(f"the saved model {message}; it was removed")

    require(type(model) is BartForSequenceClassification, f"reads back as {type(model).__name__}")
    require(model.config.label2id == expected.config.label2id, "has lost its labels")
    require(shares_one_table(model), "has token tables that do not share storage")
    saved = model.state_dict()
    for name, tensor in expected.state_dict().items():
        same = name in saved and saved[name].dtype == tensor.dtype and torch.equal(saved[name], tensor)
        require(same, f"differs from its origin in {name} (or that holds NaN there)")
    with torch.inference_mode():
        logits = model(**tokenizer("A man eats.", "A person eats.", return_tensors="pt")).logits
    require(bool(torch.isfinite(logits).all()), "gives logits that are not finite")
