"""Small models, tokenizers and data for the tests: made here, the same on every machine, nothing downloaded."""

import string
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedTokenizerFast,
)

from examples.quickstart.make_tokenizer import make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "a the cat dog bird child man woman sees eats likes chases small big red old in on under house garden not".split()
)
TEACHER_LABELS = ("contradiction", "neutral", "entailment")  # the order of facebook/bart-large-mnli
GLUE_LABELS = ("entailment", "neutral", "contradiction")  # the order of nyu-mll/glue
MNLI_COLUMNS = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label"
).split()

# Not at BERT's usual 0, 101 and 102: the ids have to come from the tokenizer.
SPECIAL = ("[UNK]", "[MASK]", "[SEP]", "[CLS]", "[PAD]")


def sentence(rng: np.random.Generator, low: int = 3, high: int = 12) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(low, high)))


def tiny_tokenizer(folder: Path | None = None) -> PreTrainedTokenizerFast:
    rng = np.random.default_rng(0)
    tokenizer = make_tokenizer([sentence(rng) for _ in range(200)], vocab_size=400)
    if folder is not None:
        tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_config(encoder_layers=2, decoder_layers=2, labels=TEACHER_LABELS, dropout=0.0, **changes) -> BartConfig:
    return BartConfig(
        **{
            "vocab_size": 400,
            "d_model": 16,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 128,
            "dropout": dropout,
            "attention_dropout": dropout,
            "activation_dropout": 0.0,
            "classifier_dropout": dropout,
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
            "init_std": 0.2,  # BART's 0.02 at d_model 16 gives nearly constant logits, which would hide faults
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
            **changes,
        }
    )


def tiny_bart(folder: Path | None = None, seed: int = 0, **config) -> BartForSequenceClassification:
    """A random BART classifier of 2 + 2 layers, in eval mode; saved with its tokenizer if a folder is given."""
    torch.manual_seed(seed)
    model = BartForSequenceClassification(tiny_config(**config)).eval()
    if folder is not None:
        model.save_pretrained(folder)
        tiny_tokenizer(folder)
    return model


def tiny_wordpiece(folder: Path | None = None) -> BertTokenizer:
    pieces = [*SPECIAL, *WORDS, *string.ascii_lowercase[1:], *(f"##{letter}" for letter in string.ascii_lowercase)]
    tokenizer = BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})
    if folder is not None:
        tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_bert(folder: Path | None = None, **config) -> BertModel:
    """A random encoder of 2 layers in eval mode; saved with its tokenizer if a folder is given."""
    torch.manual_seed(0)
    tokenizer = tiny_wordpiece()
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,  # BERT's 0.02 at this size gives nearly constant outputs, which would hide faults
        "pad_token_id": tokenizer.pad_token_id,
        **config,
    }
    model = BertModel(BertConfig(**values)).eval()
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, float(name.endswith("LayerNorm.weight")), 0.2)  # no two alike
    if folder is not None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return model


def tiny_mnli(folder: Path, train: int = 48, matched: int = 21, mismatched: int = 13, seed: int = 0) -> Path:
    """MNLI's three TSV files with the columns of the real ones; the label is learnable from the words."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("dev_matched", matched), ("dev_mismatched", mismatched)):
        lines = ["\t".join(MNLI_COLUMNS)]
        for index in range(rows):
            label = GLUE_LABELS[rng.integers(3)]
            first, second = sentence(rng), sentence(rng, 2, 6)
            second += {"entailment": " in the house", "neutral": " under the bird", "contradiction": " not"}[label]
            lines.append("\t".join([str(index), "", "", "fiction", "", "", "", "", first, second, label, label]))
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
