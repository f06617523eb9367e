"""Reading a model card as the Hub and its visitors do."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from distilbart_mnli.publish.card import HUB_LICENSES, write_model_card


def write(folder: Path, hub_model_id: str | None = None) -> tuple[dict[str, Any], str]:
    """Write the card and read it as the Hub does: (metadata, visible text)."""
    write_model_card(folder, hub_model_id)
    metadata, text = re.fullmatch(r"---\n(.*?)\n---\n(.*)", readme(folder), re.DOTALL).groups()
    return yaml.safe_load(metadata), re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def readme(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of every Markdown table, heads included, rulers left out."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set(" -:")]


def results_table(text: str) -> dict[str, list[str]]:
    """Evaluation set -> the other cells of its row; the head under "head"."""
    rows = table_rows(text.split("## Results")[1].split("\n## ")[0])
    return {"head": rows[0], **{row[0]: row[1:] for row in rows[1:]}}


def check_hub_rules(metadata: dict[str, Any]) -> None:
    """What the Hub asks of a model's metadata (docs/hub/model-cards, and the specification of model-index)."""
    repository = r"[\w-][\w.-]*/[\w.-]+"
    assert "" not in metadata.values() and None not in metadata.values() and [] not in metadata.values()
    assert metadata.get("license", "other") in HUB_LICENSES
    assert re.fullmatch(r"[a-z0-9.-]+", metadata.get("license_name", "x"))
    assert metadata.get("pipeline_tag", "text-classification") in ("zero-shot-classification", "text-classification")
    assert all(re.fullmatch(repository, name) for name in metadata.get("datasets", []))
    assert re.fullmatch(repository, metadata.get("base_model", "a/b"))
    for key in ("tags", "datasets", "metrics"):
        assert all(isinstance(entry, str) for entry in metadata.get(key, []))
    for example in metadata.get("widget", []):
        assert isinstance(example["text"], str)
        if metadata["pipeline_tag"] == "zero-shot-classification":
            assert isinstance(example["candidate_labels"], str) and "," in example["candidate_labels"]
            assert isinstance(example["multi_class"], bool)
    for model in metadata.get("model-index", []):
        assert isinstance(model["name"], str)
        for result in model["results"]:
            assert result["task"]["type"] in ("text-classification", "zero-shot-classification")
            assert isinstance(result["dataset"]["type"], str) and isinstance(result["dataset"]["name"], str)
            for metric in result["metrics"]:
                assert metric["type"] in metadata["metrics"]
                assert isinstance(metric["value"], float) and np.isfinite(metric["value"])
