"""A BERT encoder becomes a stock BART classifier that computes the same.

References: stock BertModel as an encoder and, with cross-attention, as a decoder.
"""

import sys

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel, pipeline

from distilbart_mnli.errors import run_command
from examples.mini_reproduction import bert_to_bart
from tests.support.files import Payload, edit_config
from tests.support.tiny import tiny_bart, tiny_bert, tiny_mnli, tiny_wordpiece

PAIRS = (["a cat sees the small dog", "the man"], ["the dog eats", "a woman not in the garden"])


def convert(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bert_to_bart.py", *map(str, words)])
    return run_command(bert_to_bart.main)


def batch(tokenizer):
    return tokenizer(*PAIRS, padding=True, return_tensors="pt", return_token_type_ids=False)


# ---- what it computes


def encoder_difference(bert: BertModel) -> float:
    """Largest difference between the last hidden states of BERT and of BART's encoder, at real tokens."""
    tokenizer = tiny_wordpiece()
    bart, inputs = bert_to_bart.bert_to_bart(bert, tokenizer), batch(tokenizer)
    with torch.inference_mode():
        wanted = bert(**inputs).last_hidden_state  # token types are all 0 unless they are given
        found = bart.model.encoder(**inputs).last_hidden_state
    return (found - wanted)[inputs["attention_mask"].bool()].abs().max().item()


def test_the_encoder_computes_what_the_bert_computes():
    assert encoder_difference(tiny_bert(layer_norm_eps=1e-5)) < 1e-5


def test_berts_smaller_epsilon_is_the_only_difference():
    # BART's layer norms have 1e-5. A layer norm's output changes by the share (1e-5 - 1e-12) / (2 x variance of its
    # input); the embeddings' variance here is 3 x 0.2 ^ 2, so 4e-5 there, and that goes through two layers.
    assert encoder_difference(tiny_bert(layer_norm_eps=1e-12)) < 1e-3


def test_the_decoder_computes_what_a_bert_decoder_with_its_self_attention_as_cross_attention_computes():
    bert, tokenizer = tiny_bert(layer_norm_eps=1e-5), tiny_wordpiece()
    decoder = BertModel(
        BertConfig(**{**bert.config.to_dict(), "is_decoder": True, "add_cross_attention": True, "use_cache": False})
    ).eval()
    weights = bert.state_dict()
    crossed = {
        name.replace(".attention.", ".crossattention."): value
        for name, value in weights.items()
        if ".attention." in name
    }
    decoder.load_state_dict({**weights, **crossed})
    bart, inputs = bert_to_bart.bert_to_bart(bert, tokenizer), batch(tokenizer)
    states = {
        "encoder_hidden_states": torch.randn(2, 7, 16, generator=torch.manual_seed(1)),
        "encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
    }
    with torch.inference_mode():
        wanted = decoder(**inputs, **states).last_hidden_state
        found = bart.model.decoder(**inputs, **states).last_hidden_state
    assert (found - wanted)[inputs["attention_mask"].bool()].abs().max() < 1e-5


# ---- the folder


def test_the_folder_is_a_stock_classifier_with_a_tokenizer_that_feeds_it(tmp_path, monkeypatch, capsys):
    bert = tiny_bert(tmp_path / "bert", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    card = "---\nlicense: apache-2.0\nlanguage: en\n---\n"
    (tmp_path / "bert" / "README.md").write_text(card, encoding="utf-8")
    assert convert(monkeypatch, "--bert", tmp_path / "bert", "--save_path", tmp_path / "bart") == 0
    assert "2 + 2 layers" in capsys.readouterr().out
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bart")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bart")
    config = model.config
    assert config.architectures == ["BartForSequenceClassification"]
    assert [config.id2label[index] for index in range(3)] == ["contradiction", "neutral", "entailment"]
    assert (config.dropout, config.attention_dropout, config.classifier_dropout) == (0.2, 0.3, 0.2)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (4, 3, 2)
    assert config.decoder_start_token_id == 2 and config.scale_embedding is False
    pair = tokenizer("a cat", "a dog")
    assert (pair["input_ids"][0], pair["input_ids"][-1]) == (3, 2)
    assert set(pair) == {"input_ids", "attention_mask"}
    # Row 0 and 1 of the positions are never read; 128 positions are left.
    assert model.model.encoder.embed_positions.weight.shape == (130, 16)
    assert torch.equal(model.model.shared.weight, bert.embeddings.word_embeddings.weight)
    assert ModelCard.load(tmp_path / "bart" / "README.md").data.license == "apache-2.0"
    classifier = pipeline("zero-shot-classification", model=str(tmp_path / "bart"))
    assert len(classifier("a cat sees", ["dog", "bird"])["scores"]) == 2


def test_old_weights_give_the_same_model_as_safetensors(tmp_path, monkeypatch):
    bert = tiny_bert(tmp_path / "bert")
    (tmp_path / "old").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "old" / name).write_bytes((tmp_path / "bert" / name).read_bytes())
    torch.save(bert.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    for name in ("bert", "old"):
        assert convert(monkeypatch, "--bert", tmp_path / name, "--save_path", tmp_path / f"bart-{name}") == 0
    first, second = ((tmp_path / f"bart-{name}" / "model.safetensors").read_bytes() for name in ("bert", "old"))
    assert first == second


def test_the_seed_decides_the_head_alone():
    bert, tokenizer = tiny_bert(), tiny_wordpiece()
    one, same, other = (bert_to_bart.bert_to_bart(bert, tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    differ = {name for name in one if not torch.equal(one[name], other[name])}
    assert differ == {"classification_head.dense.weight", "classification_head.out_proj.weight"}


# ---- what is refused


def without(folder, name):
    weights = {key: value for key, value in tiny_bert().state_dict().items() if name not in key}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def with_pickle(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Payload(folder.parent / "made-by-a-pickle")}, folder / "pytorch_model.bin")


def without_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def without_sep(folder):
    tokenizer = tiny_wordpiece()
    tokenizer.sep_token = None
    tokenizer.save_pretrained(folder)


REFUSED = {
    "a BART": (tiny_bart, "model_type is bart"),
    "RoBERTa": (lambda folder: edit_config(folder, model_type="roberta"), "model_type is roberta"),
    "relative positions": (
        lambda folder: edit_config(folder, position_embedding_type="relative_key"),
        "position_embedding_type is relative_key",
    ),
    "another activation": (lambda folder: edit_config(folder, hidden_act="relu"), "hidden_act is relu"),
    "a decoder": (lambda folder: edit_config(folder, is_decoder=True), "is_decoder is True"),
    "heads that do not divide": (lambda folder: edit_config(folder, num_attention_heads=3), "3 heads"),
    "other shapes": (lambda folder: edit_config(folder, intermediate_size=24), "dense.bias"),
    "a missing tensor": (lambda folder: without(folder, "layer.1.output.dense.weight"), "missing"),
    "a pickle with code": (with_pickle, "pickle"),
    "no tokenizer": (without_tokenizer, "no tokenizer"),
    "no [SEP]": (without_sep, "sep_token"),
    "no config.json": (lambda folder: (folder / "config.json").unlink(), "config.json"),
}


@pytest.mark.parametrize(("spoil", "named"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, spoil, named):
    monkeypatch.chdir(tmp_path)
    tiny_bert(tmp_path / "bert")
    spoil(tmp_path / "bert")
    capsys.readouterr()  # saving a model may show a bar
    assert convert(monkeypatch, "--bert", tmp_path / "bert", "--save_path", tmp_path / "bart") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: BERT {tmp_path / 'bert'}: ") and named in line
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_a_folder_with_something_in_it_is_replaced_only_if_it_is_a_model_and_that_was_asked(
    tmp_path, monkeypatch, capsys
):
    tiny_bert(tmp_path / "bert")
    tiny_mnli(tmp_path / "data")
    tiny_bart(tmp_path / "bart")
    before = (tmp_path / "bart" / "model.safetensors").read_bytes()
    command = ("--bert", tmp_path / "bert", "--save_path")
    assert convert(monkeypatch, *command, tmp_path / "bart") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "bart" / "model.safetensors").read_bytes() == before
    assert convert(monkeypatch, *command, tmp_path / "data", "--overwrite") == 2
    assert "is no model" not in capsys.readouterr().out and len(list((tmp_path / "data").iterdir())) == 3
    assert convert(monkeypatch, *command, tmp_path / "bart", "--overwrite") == 0
    assert (tmp_path / "bart" / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--save_path", "x"], "--bert"),
        (["--bert", "./no/such/model", "--save_path", "x"], "BERT ./no/such/model: "),
        (["--bert", "b", "--save_path", "x", "--seed", "one"], "--seed"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    assert convert(monkeypatch, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
