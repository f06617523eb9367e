"""transformers.js classifies with an exported folder as Python's pipeline does with the model: `make test-js`.

Without options on a tiny model that is made here; with the variables MODEL (a folder that export_onnx.py wrote, int8
included) and TEXTS (JSON lines with the columns text and label) on that one. Needs Node and tests/js/node_modules.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from tests.support.exports import exported_student, needs_onnx
from tests.support.tiny import ROOT, sentence

HERE = ROOT / "tests/js"
TEXTS = 50
pytestmark = [
    *needs_onnx,
    pytest.mark.skipif(
        not (shutil.which("node") and (HERE / "node_modules").is_dir()), reason="needs Node: make test-js"
    ),
]


def texts_and_labels() -> tuple[list[str], list[str]]:
    if path := os.environ.get("TEXTS"):
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        # Over the whole file: it may be sorted by label.
        return [row["text"] for row in rows[:: max(1, len(rows) // TEXTS)]][:TEXTS], sorted(
            {row["label"] for row in rows}
        )
    rng = np.random.default_rng(0)
    return [sentence(rng) for _ in range(TEXTS)], ["cat", "dog", "house", "garden"]


def in_javascript(folder: Path, dtype: str, texts: list[str], labels: list[str]) -> list[dict[str, Any]]:
    """The answers of transformers.js."""
    given = json.dumps({"folder": str(folder.resolve()), "dtype": dtype, "texts": texts, "labels": labels})
    done = subprocess.run(
        ["node", "zero_shot.mjs"], cwd=HERE, input=given, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"transformers.js {found['version']}, {dtype}: {json.dumps(found['answers'][0])}")
    return found["answers"]


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(os.environ["MODEL"]) if os.environ.get("MODEL") else exported_student()


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[dict[str, Any]]:
    """The answers of Python's pipeline, in float32."""
    texts, labels = texts_and_labels()
    source = os.environ.get("SOURCE") or str(folder)
    classify: Any = pipeline("zero-shot-classification", model=source, device="cpu", dtype=torch.float32)
    return [classify(text, labels) for text in texts]


def test_float32_ranks_and_scores_as_python_does(folder, expected):
    found = in_javascript(folder, "fp32", *texts_and_labels())
    assert len(found) == TEXTS
    for ours, theirs in zip(found, expected, strict=True):
        scores = dict(zip(ours["labels"], ours["scores"], strict=True))
        assert scores == pytest.approx(dict(zip(theirs["labels"], theirs["scores"], strict=True)), abs=1e-3)
        if min(-np.diff(theirs["scores"])) > 1e-5:  # no tie that rounding decides
            assert ours["labels"] == theirs["labels"]


def test_int8_gives_the_same_label_as_often_as_the_gate_asks(folder, expected):
    found = in_javascript(folder, "q8", *texts_and_labels())
    if not os.environ.get("MODEL"):  # random weights: all labels are all but equal to it
        for ours, theirs in zip(found, expected, strict=True):
            scores = dict(zip(ours["labels"], ours["scores"], strict=True))
            assert scores == pytest.approx(dict(zip(theirs["labels"], theirs["scores"], strict=True)), abs=5e-3)
        return
    same = np.mean([ours["labels"][0] == theirs["labels"][0] for ours, theirs in zip(found, expected, strict=True)])
    print(f"q8: the same label on {100 * same:.1f} % of {TEXTS} texts")
    assert same >= 0.985
