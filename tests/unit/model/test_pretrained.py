"""What a run starts from: the right weights in float32, labels matched by name, a tokenizer that fits.

Where one of them cannot be had, one line says why.
"""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BartForConditionalGeneration, BartModel, BertConfig, BertForSequenceClassification

from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.bart import ShortCutBart
from distilbart_mnli.model.pretrained import load
from distilbart_mnli.options.fields import Arguments
from tests.support.files import edit_config, edit_json
from tests.support.tiny import GLUE_LABELS, TEACHER_LABELS, tiny_bart, tiny_config, tiny_tokenizer

MNLI, RTE, STSB = TASKS["mnli"], TASKS["rte"], TASKS["stsb"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_bart(folder)
    return folder


@pytest.fixture
def model(saved, tmp_path) -> Path:
    """A folder of one's own with a model and its tokenizer."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def label(folder: Path, names) -> Path:
    edit_config(folder, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    return folder


def loaded(folder: Path | None, task=MNLI, **options):
    return load(Arguments(model_name_or_path=str(folder) if folder else None, do_train=True, **options), task)


def refusal(folder: Path | None, task=MNLI, **options) -> str:
    with pytest.raises(InputError) as caught:
        loaded(folder, task, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# Labels


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (TEACHER_LABELS, [2, 1, 0]),
        (GLUE_LABELS, [0, 1, 2]),
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), [2, 1, 0]),
        (("Neutral", "Entailment", "Contradiction"), [1, 0, 2]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), [0, 1, 2]),
    ],
)
def test_labels_are_matched_by_name_never_by_position(model, names, expected):
    found = loaded(label(model, names))
    assert found.label_map.tolist() == expected
    for task_id, name in enumerate(MNLI.label_names):
        shown = found.model.config.id2label[int(found.label_map[task_id])]
        assert shown.lower() == name
    if names[0] != "LABEL_0":
        assert tuple(found.model.config.id2label.values()) == names  # untouched: capitals and order are the teacher's


def test_generic_names_become_the_task_s_in_the_saved_model(model):
    config = loaded(label(model, ("LABEL_0", "LABEL_1", "LABEL_2"))).model.config
    assert config.id2label == dict(enumerate(GLUE_LABELS))
    assert config.label2id == {name: index for index, name in enumerate(GLUE_LABELS)}


def test_the_logits_do_not_depend_on_what_the_labels_are_called(model):
    before = loaded(model).model
    after = loaded(label(model, ("LABEL_0", "LABEL_1", "LABEL_2"))).model
    ids = torch.tensor([[0, 20, 21, 2, 2, 22, 2]])
    with torch.no_grad():
        assert torch.equal(before(ids, torch.ones_like(ids)), after(ids, torch.ones_like(ids)))


@pytest.mark.parametrize("names", [("yes", "no", "maybe"), ("entailment", "neutral", "other"), ("entailment",) * 3])
def test_labels_that_are_not_the_task_s_stop_the_run_and_name_the_option(model, names):
    message = refusal(label(model, names))
    assert "--reinit_classifier true" in message and names[-1] in message


def test_a_three_way_head_on_a_two_way_task_is_refused(model):
    assert "--reinit_classifier true" in refusal(model, RTE)
    assert "task stsb" in refusal(model, STSB)


@pytest.mark.parametrize(
    ("task", "names"), [(RTE, ("entailment", "not_entailment")), (STSB, ("LABEL_0",)), (TASKS["cola"], None)]
)
def test_a_new_head_has_the_task_s_labels_and_the_rest_is_kept(model, task, names):
    before = load_file(model / "model.safetensors")
    found = loaded(model, task, reinit_classifier=True)
    config, names = found.model.config, names or task.label_names
    assert tuple(config.id2label.values()) == names and config.num_labels == len(names)
    assert found.model.classification_head.out_proj.weight.shape == (len(names), 16)
    assert (config.problem_type == "regression") == task.is_regression
    assert (found.label_map is None) == task.is_regression
    for name, tensor in found.model.state_dict().items():
        if name.startswith("classification_head."):
            assert name not in before or not torch.equal(tensor, before[name]) or tensor.abs().max() == 0
        elif "embed_tokens" not in name:
            assert torch.equal(tensor, before[name]), name
    again = loaded(model, task, reinit_classifier=True).model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.model.state_dict().items())
    other = loaded(model, task, reinit_classifier=True, seed=7).model.classification_head.out_proj.weight
    assert not torch.equal(other, found.model.classification_head.out_proj.weight)


def test_a_head_that_fits_is_kept_even_where_a_new_one_is_allowed(model):
    before = load_file(model / "model.safetensors")
    found = loaded(model, reinit_classifier=True)
    assert torch.equal(found.model.classification_head.out_proj.weight, before["classification_head.out_proj.weight"])
    assert found.label_map.tolist() == [2, 1, 0]


def test_a_bart_without_a_head_gets_one_only_when_asked(tmp_path):
    BartModel(tiny_config()).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    message = refusal(tmp_path)
    assert "is BartModel" in message and "--reinit_classifier true" in message
    found = loaded(tmp_path, reinit_classifier=True)
    kept = load_file(tmp_path / "model.safetensors")
    weight = found.model.model.decoder.layers[1].fc1.weight
    assert any(
        torch.equal(weight, tensor) for name, tensor in kept.items() if name.endswith("decoder.layers.1.fc1.weight")
    )
    assert found.model.classification_head.out_proj.weight.abs().max() > 0


def test_a_bart_for_generation_is_refused_by_name(tmp_path):
    BartForConditionalGeneration(tiny_config()).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    assert "BartForConditionalGeneration" in refusal(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Weights and configuration


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_checkpoint_is_trained_in_float32(tmp_path, dtype):
    half = tiny_bart().to(dtype)
    half.save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    model = loaded(tmp_path).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, tensor in half.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.float()), name


def test_what_is_loaded_computes_what_stock_does(model):
    stock, ours = tiny_bart(), loaded(model).model
    assert isinstance(ours, ShortCutBart) and not ours.training
    ids = torch.tensor([[0, 20, 21, 2, 2, 22, 2]])
    with torch.no_grad():
        expected = stock(ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(ours(ids, torch.ones_like(ids)), expected, rtol=1e-5, atol=1e-6)


def test_a_configuration_alone_gives_a_new_model_that_is_the_seed_s(model):
    (model / "model.safetensors").unlink()
    label(model, TEACHER_LABELS)
    found = loaded(None, config_name=str(model))
    same, other = loaded(None, config_name=str(model)), loaded(None, config_name=str(model), seed=1)
    assert found.label_map.tolist() == [2, 1, 0]
    name = "model.decoder.layers.0.fc1.weight"
    assert torch.equal(found.model.state_dict()[name], same.model.state_dict()[name])
    assert not torch.equal(found.model.state_dict()[name], other.model.state_dict()[name])
    assert found.model.state_dict()[name].std() == pytest.approx(0.2, rel=0.2)  # init_std of the configuration


def test_a_new_model_takes_the_labels_of_the_task_where_its_configuration_names_none(model):
    edit_config(model, drop=("id2label", "label2id"))
    found = loaded(None, config_name=str(model))
    assert found.model.config.id2label == dict(enumerate(GLUE_LABELS))
    edit_config(model, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1})
    assert loaded(None, config_name=str(model)).model.config.num_labels == 3


def test_config_name_beside_a_model_changes_its_configuration_and_keeps_its_weights(model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors"))
    edit_config(Path(other), dropout=0.25)
    found = loaded(model, config_name=str(other)).model
    assert found.config.dropout == 0.25
    assert torch.equal(found.model.shared.weight, loaded(model).model.model.shared.weight)


def test_given_dropouts_win_over_the_configuration_and_reach_every_layer(model):
    rates = {"dropout": 0.11, "attention_dropout": 0.12, "activation_dropout": 0.13, "classifier_dropout": 0.14}
    edit_config(model, dropout=0.3, attention_dropout=0.3)
    found = loaded(model, **rates).model
    for layer in [*found.model.encoder.layers, *found.model.decoder.layers]:
        assert (layer.dropout, layer.self_attn.dropout, layer.activation_dropout) == (0.11, 0.12, 0.13)
    assert found.model.decoder.layers[-1].encoder_attn.dropout == 0.12
    assert found.classification_head.dropout.p == 0.14
    kept = loaded(model, attention_dropout=0.0).model
    assert (kept.config.dropout, kept.config.attention_dropout) == (0.3, 0.0)


def test_layer_drop_is_off_in_training(model):
    edit_config(model, decoder_layerdrop=0.5, encoder_layerdrop=0.5)
    found = loaded(model).model
    assert found.model.decoder.layerdrop == found.model.encoder.layerdrop == 0


# ---------------------------------------------------------------------------------------------------------------------
# Refused


def test_a_model_of_another_kind_is_refused_by_name(tmp_path):
    BertForSequenceClassification(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=400)
    ).save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    assert "is BertForSequenceClassification (model type bert)" in refusal(tmp_path)


def damage_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGES = {
    "no folder": (lambda f: shutil.rmtree(f), "no such folder"),
    "a file": (lambda f: (shutil.rmtree(f), f.write_text("")), "is a file"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "config"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), "config"),
    "a wrong type": (lambda f: edit_config(f, d_model="sixteen"), "d_model"),
    "no layers": (lambda f: edit_config(f, decoder_layers=0), "decoder_layers"),
    "architectures as text": (lambda f: edit_config(f, architectures="BartModel"), "is BartModel"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "model"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:999]), ""),
    "a missing tensor": (
        lambda f: damage_weights(f, lambda t: t.pop("model.decoder.layers.1.fc1.weight")),
        "model.decoder.layers.1.fc1.weight",
    ),
    "another shape": (
        lambda f: damage_weights(f, lambda t: t.update({"model.decoder.layers.1.fc1.bias": torch.zeros(31)})),
        "fc1.bias",
    ),
    "fewer layers than configured": (lambda f: edit_config(f, decoder_layers=3), "model.decoder.layers.2"),
    "no tokenizer": (
        lambda f: [(f / n).unlink(missing_ok=True) for n in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer.json",
    ),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer"),
    "more tokens than embeddings": (
        lambda f: (tiny_bart(f, vocab_size=300), tiny_tokenizer(f)),
        "ids up to 338",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_loaded_is_refused_in_one_line_that_names_it(model, damage):
    harm, told = DAMAGES[damage]
    harm(model)
    message = refusal(model)
    assert told in message and str(model) in message


def test_a_tokenizer_elsewhere_is_used_and_one_that_does_not_fit_is_refused(model, tmp_path):
    tiny_tokenizer(tmp_path / "tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    found = loaded(model, tokenizer_name=str(tmp_path / "tokenizer"))
    assert found.tokenizer("the cat", "a dog")["input_ids"] == tiny_tokenizer()("the cat", "a dog")["input_ids"]
    edit_json(tmp_path / "tokenizer" / "tokenizer.json", post_processor=None)
    message = refusal(model, tokenizer_name=str(tmp_path / "tokenizer"))
    assert "eos_token_id 2" in message and str(tmp_path / "tokenizer") in message


def test_the_hub_s_tokenizer_of_2020_is_replaced_offline_by_the_one_beside_the_model(model, caplog, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = loaded(model, tokenizer_name="facebook/bart-large-mnli")
    assert found.tokenizer("the cat")["input_ids"] == tiny_tokenizer()("the cat")["input_ids"]
    assert "facebook/bart-large-mnli" in caplog.text
    (model / "tokenizer.json").unlink()
    with pytest.raises(CommandError, match="tokenizer facebook/bart-large-mnli"):
        loaded(model, tokenizer_name="facebook/bart-large-mnli")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/tokenizer", "a/b/c"])
def test_a_mistyped_path_of_a_tokenizer_is_refused_though_there_is_one_beside_the_model(model, name):
    assert name in refusal(model, tokenizer_name=name)


def test_more_tokens_than_positions_are_refused_before_anything_is_computed(model):
    assert "max_seq_length 129" in refusal(model, max_seq_length=129)


def test_the_card_s_license_and_language_are_read(model):
    (model / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# x\n")
    assert loaded(model).card == {"license": "mit", "language": "en"}
