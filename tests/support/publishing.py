"""For the tests of publishing: a finished run's folder, arguments for it, a logged-in Hub, and short waits."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub.utils._http
import numpy as np
import pytest
import torch
from huggingface_hub import constants, hf_api

from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.publish import client as hub_client
from tests.support.hub_server import Hub
from tests.support.tiny import sentence, tiny_bart, tiny_tokenizer

# hf_xet's own retries, in Rust: read when it is first used.
os.environ.setdefault("HF_XET_CLIENT_RETRY_BASE_DELAY", "50ms")
REPO = "ann/distilbart-mnli-2-1"
CARD = "---\nlanguage: en\nlicense: mit\ntags:\n- distilbart\npipeline_tag: zero-shot-classification\n---\n# Hi\n"
ROWS = [(sentence(rng), sentence(rng)) for rng in map(np.random.default_rng, range(70))]
RESULTS = {"eval_accuracy": 0.8125, "eval_accuracy_mm": 0.75, "eval_loss": 0.5, "eval_samples": 70, "epoch": 2.0}


def finished_run(folder: Path, **config) -> Path:
    """What run_glue.py leaves: a tiny model, its evaluation rows' true logits, results, and things not to publish."""
    model = tiny_bart(folder, **{"decoder_layers": 1, **config})
    tokenizer = tiny_tokenizer()
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]
    lines = ["\t".join(["index", "label", "prediction", *(f"logit_{name}" for name in names)])]
    for index, row in enumerate(ROWS):
        with torch.no_grad():
            logits = model(**tokenizer(*row, return_tensors="pt")).logits[0].tolist()
        lines.append("\t".join([str(index), names[0], names[int(np.argmax(logits))], *(f"{v:.9g}" for v in logits)]))
    files = {
        "README.md": CARD,
        "all_results.json": json.dumps(RESULTS),
        "trainer_state.json": json.dumps({"log_history": [], "run": {"mixed_precision": "no"}}),
        "training_args.json": json.dumps({"data_dir": "MNLI", "hub_model_id": REPO}),
        "eval_results_mnli.txt": "eval_accuracy = 0.8125\n",
        "eval_predictions_mnli.tsv": "\n".join(lines) + "\n",
        "checkpoint-10/model.safetensors": "not for others",
        "notes.txt": "not for others",
        ".env": "SECRET=1",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def arguments(output_dir: Path, **changes) -> Arguments:
    return Arguments(**{"output_dir": str(output_dir), "push_to_hub": True, "hub_model_id": REPO, **changes})


def log_in(monkeypatch: pytest.MonkeyPatch, hub: Hub, token: str | None, xet: bool = True) -> None:
    """This process talks to `hub` as the token's owner, from now on."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", token or "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whoever runs the tests may have set it


def read_from(monkeypatch: pytest.MonkeyPatch, hub: Hub, cache: Path) -> None:
    """Models and data come from `hub` too, through an empty cache; HF_ENDPOINT and HF_HOME say so at the import."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache / "datasets"))


def shorten_waits(monkeypatch: pytest.MonkeyPatch, factor: float = 50) -> None:
    """Both retry loops, ours and the client's, run as they are, at `factor` times the speed."""
    clock = SimpleNamespace(
        sleep=lambda seconds: time.sleep(seconds / factor),
        monotonic=lambda: time.monotonic() * factor,
        time=time.time,
    )
    monkeypatch.setattr(hub_client, "time", clock)
    monkeypatch.setattr(huggingface_hub.utils._http, "time", clock)
