"""Whatever the folder holds, its card is valid for the Hub, every figure is from a file, and nothing is empty."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from distilbart_mnli.publish.card import write_model_card
from tests.support.card_reading import check_hub_rules, readme, table_rows, write
from tests.support.finished_run import KINDS

GLUE_ROWS = {"392,702", "9,815", "9,832", "8,551", "1,043", "5,749", "1,500"}  # GLUE's own files, wc -l less the head
TABLE_2020 = {"89.9", "90.01", "87.08", "87.5", "88.1", "88.19", "89.19", "89.01", "89.56", "89.52"}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def folder(request, tmp_path) -> Path:
    request.param(tmp_path / "distilbart-mnli-12-1")
    return tmp_path / "distilbart-mnli-12-1"


def test_no_cell_is_empty_and_every_row_is_as_long_as_its_head(folder):
    _, text = write(folder)
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = table_rows(block)
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(cell for row in rows for cell in row)


def test_nothing_unknown_is_printed(folder):
    write_model_card(folder)
    assert not re.search(r"\b(None|nan|NaN|null|inf|Infinity)\b", readme(folder))
    assert "{}" not in readme(folder).replace('"This text is about {}."', "")
    assert "\n\n\n" not in readme(folder)


def test_no_path_of_this_machine_is_printed(folder):
    write_model_card(folder)
    text = re.sub(r"https?://[\w./-]+", "", readme(folder))
    assert str(folder.parent) not in text
    assert not re.search(r"/home|/Users|/tmp|ada/|\.\./|~/|[A-Z]:\\", text)
    # Whatever else begins with a slash would be one, too.
    assert re.findall(r"(?<![\w.])/\w+", text) == []


def test_every_number_is_in_a_file_of_the_run_or_in_the_table_of_2020(folder):
    _, text = write(folder)
    known: set[str] = {"2020", *GLUE_ROWS, *TABLE_2020}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                collect(key), collect(entry)
        elif isinstance(value, list):
            for entry in value:
                collect(entry)
        elif isinstance(value, str):
            known.update(re.findall(r"\d[\d.,]*\d|\d", value))
        elif isinstance(value, bool) or value is None or not np.isfinite(value):
            pass
        else:
            known.update({repr(value), f"{value:,}", f"{value:g}"})
            for decimals in range(5):
                known.update({f"{value:,.{decimals}f}", f"{value:.{decimals}f}"})
            known.add(f"{100 * value:.2f}")

    for path in folder.glob("*.json"):
        values = json.loads(path.read_text())
        if path.name == "trainer_state.json":
            values["log_history"] = []  # else nearly any number would be known
        collect(values)
    for path in folder.glob("eval_results_*.txt"):
        collect([float(line.split(" = ")[1]) for line in path.read_text().splitlines()])
    collect(folder.name)
    text = text.split("## Citation")[0]
    text = re.sub(r"\]\(https?://[^)]*\)", "]", text)  # an arXiv identifier in an address is no figure
    text = re.sub(r"softmax\(-1\)\[1\]|\[0\]", "", text)  # nor is an index in code
    found = re.findall(r"(?<![\w.])\d[\d.,]*e-\d+|(?<![\w.])\d(?:[\d.,]*\d)?(?!\w)", text)
    assert [number for number in found if number not in known] == []
    assert len(found) >= (3 if (folder / "config.json").exists() else 0)


def test_the_metadata_follows_the_hubs_rules_and_the_hubs_client_reads_it_back(folder):
    metadata, _ = write(folder)
    check_hub_rules(metadata)
    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict() == metadata
    scored = [key for key, value in results_of(folder).items() if is_score(key, value)]
    assert len(card.data.eval_results or []) == len(scored)
    assert sorted(result.metric_value for result in card.data.eval_results or []) == sorted(
        results_of(folder)[key] for key in scored
    )


def results_of(folder: Path) -> dict[str, Any]:
    if (folder / "all_results.json").exists():
        return json.loads((folder / "all_results.json").read_text())
    lines = [line.split(" = ") for path in folder.glob("eval_results_*.txt") for line in path.read_text().splitlines()]
    return {f"{key}_{place}": float(value) for place, (key, value) in enumerate(lines)}


def is_score(key: str, value: Any) -> bool:
    return bool(re.match(r"eval_(accuracy|matthews|pearson|spearmanr)", key)) and np.isfinite(value)


def test_writing_it_again_changes_nothing(folder):
    write_model_card(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_model_card(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
