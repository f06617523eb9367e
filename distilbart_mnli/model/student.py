"""Building a student: the teacher with some of its layers left out, saved as a stock transformers model.

What is copied is the teacher's tensors as they are, in the teacher's dtype: embeddings, the kept layers and the
classification head, whose labels (id2label, label2id) are not touched. config.json gets three keys more:
teacher_name_or_path (a Hub id as given, of a local folder its base name), encoder_layer_ids and decoder_layer_ids
(indices into that teacher). A student can be the teacher of the next.

A student appears whole or not at all: it is written to a temporary neighbour of its final folder, read back with stock
transformers, run once, and only then renamed into place.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import ModelCardData
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForSequenceClassification,
    PreTrainedTokenizerBase,
)

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.model.layers import check_layers, select_layers, show_layers
from distilbart_mnli.model.teacher import (
    ARCHITECTURE,
    is_local,
    load_teacher,
    load_teacher_config,
    load_tokenizer,
    teacher_card_data,
)
from distilbart_mnli.model.whole_folder import check_save_path, whole_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """A student in memory, and what its card and its summary say about it."""

    model: BartForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    teacher_summary: str
    summary: str
    card: str


def copy_layers(
    teacher: BartForSequenceClassification, encoder_layer_ids: list[int], decoder_layer_ids: list[int]
) -> BartForSequenceClassification:
    """A stock model with the teacher's layers at these indices, in this order, and everything else of the teacher.

    No tensor is copied: student and teacher share memory, so train only one of the two.
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

    student.load_state_dict({name: source[name_in_teacher(name)] for name in student.state_dict()}, assign=True)
    student.tie_weights()
    student.config.dtype = teacher.dtype
    return student.eval()


def count_parameters(model: nn.Module) -> int:
    """Parameters, each once: BART's three embedding tables are one tensor."""
    return sum(parameter.numel() for parameter in {id(p): p for p in model.parameters()}.values())


def describe(model: BartForSequenceClassification) -> str:
    """ "12 + 3 layers, 255,417,347 parameters, 1,021.7 MB in float32": parameters once, 1 MB = 10^6 bytes."""
    size = sum(p.numel() * p.element_size() for p in {id(p): p for p in model.parameters()}.values())
    layers = f"{model.config.encoder_layers} + {model.config.decoder_layers} layers"
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{layers}, {count_parameters(model):,} parameters, {size / 1e6:,.1f} MB in {dtype}"


def build_student(
    teacher_name_or_path: str,
    encoder_layers: int | None = None,
    decoder_layers: int | None = None,
    encoder_layer_ids: list[int] | None = None,
    decoder_layer_ids: list[int] | None = None,
    teacher_revision: str = "main",
) -> Student:
    """Read the teacher and copy its layers. A stack for which nothing is given is kept whole.

    Raises:
        InputError: the layers do not fit the teacher, or the teacher cannot be used.
        HubError: the Hub refused or could not be reached.
    """
    config = load_teacher_config(teacher_name_or_path, teacher_revision)
    ids: dict[str, list[int]] = {}
    for stack, number, chosen in (
        ("encoder", encoder_layers, encoder_layer_ids),
        ("decoder", decoder_layers, decoder_layer_ids),
    ):
        available = getattr(config, f"{stack}_layers")
        if chosen is not None:
            ids[stack] = check_layers(available, chosen, stack)
            if number not in (None, len(chosen)):
                raise InputError(f"student_{stack}_layers is {number}, but {stack}_layer_ids names {len(chosen)}")
        else:
            ids[stack] = select_layers(available, available if number is None else number, stack)
    tokenizer = load_tokenizer(teacher_name_or_path, config.vocab_size, teacher_revision)
    teacher = load_teacher(teacher_name_or_path, teacher_revision)
    model = copy_layers(teacher, ids["encoder"], ids["decoder"])
    # A local path says where files lay on one machine; only the folder's own name is worth publishing.
    local = is_local(teacher_name_or_path)
    model.config.teacher_name_or_path = Path(teacher_name_or_path).resolve().name if local else teacher_name_or_path
    model.config.encoder_layer_ids, model.config.decoder_layer_ids = ids["encoder"], ids["decoder"]
    return Student(
        model=model,
        tokenizer=tokenizer,
        teacher_summary=f"{teacher_name_or_path}: {describe(teacher)}",
        summary=describe(model),
        card=student_card(model, teacher_name_or_path, teacher_revision),
    )


def student_card(model: BartForSequenceClassification, teacher_name_or_path: str, teacher_revision: str) -> str:
    """README.md of an untuned student. License and language are those of the teacher's card, where it has one."""
    local, teacher = is_local(teacher_name_or_path), model.config.teacher_name_or_path
    data = teacher_card_data(teacher_name_or_path, teacher_revision)
    inherited = {key: getattr(data, key, None) for key in ("language", "license", "license_name", "license_link")}
    metadata = ModelCardData(
        **{key: value for key, value in inherited.items() if value},
        library_name="transformers",
        pipeline_tag="zero-shot-classification",
        tags=["distilbart", "distilbart-mnli"],
        base_model=None if local else teacher_name_or_path,
    )
    if not local and teacher_revision != "main":
        teacher += f" (revision {teacher_revision})"
    body = f"""# Student of {teacher}, not fine-tuned yet

{describe(model)}. Its layers are the teacher's, copied; nothing was trained.

| stack | layers of the teacher that are kept |
|---|---|
| encoder | {show_layers(model.config.encoder_layer_ids)} |
| decoder | {show_layers(model.config.decoder_layer_ids)} |

Labels, in the teacher's order: {", ".join(label for _, label in sorted((model.config.id2label or {}).items()))}.
Made by create_student.py; run_glue.py fine-tunes it.
"""
    return f"---\n{metadata}\n---\n\n{body}"


def save_student(student: Student, save_path: Path) -> None:
    """Write, read back, run once, rename into place.

    Raises:
        RunError: what was written does not read back as the student, or the disk is full.
        InputError: the folder cannot be written.
    """
    try:
        with whole_folder(save_path) as folder:
            student.model.save_pretrained(folder)
            student.tokenizer.save_pretrained(folder)
            # safetensors writes for the owner alone; a model is as readable as the files beside it.
            (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
            (folder / "README.md").write_text(student.card, encoding="utf-8")
            verify_student(folder, student.model)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"save_path {save_path}: cannot be written: {error.strerror}") from error
    except (OSError, SafetensorError) as error:
        raise RunError(f"save_path {save_path}: writing failed, nothing is left of it: {error}") from error


def verify_student(folder: Path, expected: BartForSequenceClassification) -> None:
    """Read `folder` as any user would, with stock transformers, and classify one pair.

    Raises:
        RunError: another class or label map, embeddings that no longer share storage, a tensor that differs from
            `expected`, or logits that are not finite.
    """
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto", local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise RunError(f"the saved student {message}; it was removed")

    require(type(model) is BartForSequenceClassification, f"reads back as {type(model).__name__}")
    require(model.config.label2id == expected.config.label2id, "has lost the teacher's labels")
    tables = (model.model.shared, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    require(len({table.weight.data_ptr() for table in tables}) == 1, "has token tables that do not share storage")
    saved = model.state_dict()
    for name, tensor in expected.state_dict().items():
        same = name in saved and saved[name].dtype == tensor.dtype and torch.equal(saved[name], tensor)
        require(same, f"differs from the teacher in {name} (or the teacher holds NaN there)")
    with torch.inference_mode():
        logits = model(**tokenizer("A man eats.", "A person eats.", return_tensors="pt")).logits
    require(logits.shape == (1, expected.config.num_labels), f"gives logits of shape {tuple(logits.shape)}")
    require(bool(torch.isfinite(logits).all()), "gives logits that are not finite")


def create_student(
    teacher_name_or_path: str,
    save_path: str | Path,
    encoder_layers: int | None = None,
    decoder_layers: int | None = None,
    encoder_layer_ids: list[int] | None = None,
    decoder_layer_ids: list[int] | None = None,
    teacher_revision: str = "main",
    overwrite: bool = False,
) -> Student:
    """All of it: check, read the teacher, copy, save, verify. Nothing is written on any error.

    Raises:
        InputError, RunError, HubError: see build_student, check_save_path and save_student.
    """
    save_path = Path(save_path)
    check_save_path(save_path, teacher_name_or_path, overwrite)
    student = build_student(
        teacher_name_or_path, encoder_layers, decoder_layers, encoder_layer_ids, decoder_layer_ids, teacher_revision
    )
    save_student(student, save_path)
    return student
