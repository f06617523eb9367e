"""A student holds the teacher's tensors at the kept layers and everything else of the teacher, as a stock model.

References: the teacher's own state dict, stock transformers reading the saved folder, and a stock model with its layer
list cut by hand.
"""

import json

import pytest
import torch
from huggingface_hub import ModelCard
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from distilbart_mnli.model.bart import count_parameters
from distilbart_mnli.model.kept_layers import KEPT_LAYERS
from distilbart_mnli.model.student import copy_layers
from tests.support.files import edit_config
from tests.support.students import student_of
from tests.support.tiny import tiny_bart, tiny_tokenizer


@pytest.fixture
def teacher(tmp_path):
    """6 + 6 layers; its three labels have an order of their own."""
    folder = tmp_path / "in" / "teacher-6-6"
    tiny_bart(folder, encoder_layers=6, decoder_layers=6, labels=("neutral", "Entailment", "contradiction"))
    return folder


# ---- what is copied


@pytest.mark.parametrize("depth", sorted(KEPT_LAYERS))
def test_every_table_entry_gives_the_teachers_tensors_at_the_kept_layers(depth):
    teacher = tiny_bart(encoder_layers=depth, decoder_layers=depth)
    wanted = teacher.state_dict()
    for number, kept in KEPT_LAYERS[depth].items():
        # The encoder gets the row's layers too: the tables hold for both stacks.
        student = copy_layers(teacher, kept, kept)
        assert (student.config.encoder_layers, student.config.decoder_layers) == (number, number)
        for stack in ("encoder", "decoder"):
            layers = getattr(student.model, stack).layers
            assert len(layers) == number
            for layer, index in zip(layers, kept, strict=True):
                for name, tensor in layer.state_dict().items():
                    assert torch.equal(tensor, wanted[f"model.{stack}.layers.{index}.{name}"])
        for name, tensor in student.state_dict().items():
            if ".layers." not in name:
                assert torch.equal(tensor, wanted[name])


@pytest.mark.parametrize("order", [[0, 2, 5], [5, 0, 2]])
def test_the_saved_student_computes_what_the_teacher_with_its_layer_list_cut_by_hand_computes(
    teacher, tmp_path, order
):
    student_of(teacher, tmp_path / "student", encoder_layer_ids=[1, 4], decoder_layer_ids=order)
    cut = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    cut.model.encoder.layers = nn.ModuleList([cut.model.encoder.layers[index] for index in (1, 4)])
    cut.model.decoder.layers = nn.ModuleList([cut.model.decoder.layers[index] for index in order])
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    batch = tiny_tokenizer()("the dog eats in the garden", "a bird sees the house", return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(student(**batch).logits, cut(**batch, use_cache=False).logits)


def test_a_stack_that_is_not_mentioned_is_kept_whole(teacher, tmp_path):
    student = student_of(teacher, tmp_path / "student", decoder_layers=3).model
    assert student.config.encoder_layer_ids == [0, 1, 2, 3, 4, 5]
    assert student.config.decoder_layer_ids == [0, 2, 5]


def test_parameters_are_counted_once_though_three_tables_share_them(teacher, tmp_path):
    student = student_of(teacher, tmp_path / "student", encoder_layers=1, decoder_layers=1).model
    # By hand: table 400 x 16; two position tables (128 + 2) x 16; two embedding norms; layers; head 16 -> 16 -> 3.
    attention, norm, feed_forward = 4 * (16 * 16 + 16), 2 * 16, 16 * 32 + 32 + 32 * 16 + 16
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    head = 16 * 16 + 16 + 16 * 3 + 3
    assert count_parameters(student)[1] == 400 * 16 + 2 * 130 * 16 + 2 * norm + encoder + decoder + head


# ---- what is saved


def test_the_saved_student_is_a_stock_model_with_the_teachers_labels_and_its_provenance(teacher, tmp_path):
    folder = tmp_path / "new" / "nested" / "student-6-3"
    student_of(teacher, folder, encoder_layers=6, decoder_layers=3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["student-6-3"]
    config = json.loads((folder / "config.json").read_text())
    theirs = json.loads((teacher / "config.json").read_text())
    assert config["architectures"] == ["BartForSequenceClassification"]
    assert config.pop("teacher_name_or_path") == "teacher-6-6"
    assert config.pop("encoder_layer_ids") == [0, 1, 2, 3, 4, 5]
    assert config.pop("decoder_layer_ids") == [0, 2, 5]
    assert config.pop("distillation") == []
    assert config == {**theirs, "decoder_layers": 3}
    assert config["label2id"] == {"neutral": 0, "Entailment": 1, "contradiction": 2}
    assert str(tmp_path).encode() not in b"".join(path.read_bytes() for path in folder.iterdir())
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    again, ours = AutoTokenizer.from_pretrained(folder), tiny_tokenizer()
    assert again("a dog", "not a bird")["input_ids"] == ours("a dog", "not a bird")["input_ids"]


def test_the_zero_shot_pipeline_loads_the_student(teacher, tmp_path):
    student_of(teacher, tmp_path / "student", decoder_layers=1)
    classify = pipeline("zero-shot-classification", model=str(tmp_path / "student"))
    result = classify("the dog eats", candidate_labels=["dog", "house", "bird"])
    assert sorted(result["labels"]) == ["bird", "dog", "house"]
    assert sum(result["scores"]) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_teachers_dtype_is_kept(tmp_path, dtype):
    tiny_bart().to(dtype).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer(tmp_path / "teacher")
    student = student_of(tmp_path / "teacher", tmp_path / "student", decoder_layers=1)
    assert json.loads((tmp_path / "student" / "config.json").read_text())["dtype"] == str(dtype)[6:]
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert {tensor.dtype for tensor in saved.state_dict().values()} == {dtype}
    assert f"in {str(dtype)[6:]}" in student.summary
    # 1 MB = 10^6 bytes, of each parameter once
    assert f"{count_parameters(saved)[1] * dtype.itemsize / 1e6:,.1f} MB" in student.summary


def test_a_student_can_be_the_teacher_of_the_next(teacher, tmp_path):
    student_of(teacher, tmp_path / "six-four", decoder_layers=4)  # 0 1 3 5
    student_of(tmp_path / "six-four", tmp_path / "six-two", decoder_layer_ids=[2, 3])
    config = json.loads((tmp_path / "six-two" / "config.json").read_text())
    assert (config["teacher_name_or_path"], config["decoder_layer_ids"]) == ("six-four", [2, 3])
    first = AutoModelForSequenceClassification.from_pretrained(teacher).model.decoder.layers
    last = AutoModelForSequenceClassification.from_pretrained(tmp_path / "six-two").model.decoder.layers
    for layer, origin in zip(last, (first[3], first[5]), strict=True):
        for name, tensor in layer.state_dict().items():
            assert torch.equal(tensor, origin.state_dict()[name])


def test_the_configuration_of_2020_with_its_old_keys_is_read(teacher, tmp_path):
    """facebook/bart-large-mnli still carries keys of transformers 3, among them num_hidden_layers, which means the
    encoder's layers; left in a student's config.json it would overrule encoder_layers."""
    old = {"num_hidden_layers": 6, "classif_dropout": 0.0, "_num_labels": 3, "gradient_checkpointing": False}
    edit_config(teacher, drop=["dtype"], **old, normalize_before=False)
    student_of(teacher, tmp_path / "student", encoder_layers=2, decoder_layers=1)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert (len(model.model.encoder.layers), len(model.model.decoder.layers)) == (2, 1)


def test_weights_stored_as_pytorch_model_bin_are_read(tmp_path):
    model = tiny_bart()
    model.config.save_pretrained(tmp_path / "teacher")
    tiny_tokenizer(tmp_path / "teacher")
    torch.save(model.state_dict(), tmp_path / "teacher" / "pytorch_model.bin")
    edit_config(tmp_path / "teacher", architectures=["BartForSequenceClassification"])
    student_of(tmp_path / "teacher", tmp_path / "student", decoder_layers=1)
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").state_dict()
    assert all(torch.equal(saved[name], model.state_dict()[name]) for name in saved)


# ---- the card


def test_the_card_carries_license_and_language_of_the_teachers_card_and_no_base_model_of_a_folder(teacher, tmp_path):
    (teacher / "README.md").write_text(
        "---\nlicense: mit\nlanguage: [en, de]\nbase_model: some/one\n---\n\n# Teacher\n"
    )
    student_of(teacher, tmp_path / "student", encoder_layers=6, decoder_layers=3)
    card = ModelCard.load(tmp_path / "student" / "README.md")
    assert card.data.to_dict() == {
        "language": ["en", "de"],
        "license": "mit",
        "library_name": "transformers",
        "pipeline_tag": "zero-shot-classification",
        "tags": ["distilbart", "distilbart-mnli"],
    }
    assert "not fine-tuned" in card.text
    assert "| decoder | 0, 2, 5 |" in card.text
    assert "neutral, Entailment, contradiction" in card.text


@pytest.mark.parametrize("readme", [None, "# no metadata", "---\n: [broken\n---\n", "---\n- a list\n---\n", "\udcff"])
def test_a_teacher_without_a_readable_card_gives_a_card_without_a_license(teacher, tmp_path, readme):
    if readme is not None:
        (teacher / "README.md").write_bytes(readme.encode("utf-8", "surrogateescape"))
    student_of(teacher, tmp_path / "student", decoder_layers=1)
    assert "license" not in ModelCard.load(tmp_path / "student" / "README.md").data.to_dict()
