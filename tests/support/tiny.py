"""Small models, tokenizers and data for the tests: made here, the same on every machine, nothing downloaded."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import BartConfig, BartForSequenceClassification, PreTrainedTokenizerFast

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


def run(script: str, *arguments: object, env: dict[str, str] | None = None, timeout: float = 300, check: bool = False):
    """Run one of the top-level scripts in a process of its own, offline; returns the CompletedProcess with text."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **(env or {})}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{script} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done
