"""A small random BERT encoder with a WordPiece tokenizer, made here."""

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from tests.support.tiny import WORDS

# Not at BERT's usual 0, 101 and 102: the ids have to come from the tokenizer.
SPECIAL = ("[UNK]", "[MASK]", "[SEP]", "[CLS]", "[PAD]")


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
