"""A figure that stands on several pages is the one of docs/figures.json, on each; what can be counted is counted."""

import json
import re

import torch
from transformers import BartConfig, BartForSequenceClassification

from benchmarks import arithmetic
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.publish.card_facts import REPORTED_2020, REPORTED_2020_TEACHER
from tests.support import documents
from tests.support.documents import PAGES, ROOT

FIGURES = json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))
MODELS = FIGURES["tables"]["published models"]


def test_tables_agree_with_the_file():
    """A page may leave out rows, columns, and what stands in brackets behind a figure."""
    pages: dict[str, set[str]] = {}
    for page in PAGES:
        for name, table in documents.marked_tables(page):
            pages.setdefault(name, set()).add(page.name if page.parent == ROOT else str(page.parent.name))
            for row, cells in table.items():
                figures = FIGURES["tables"][name][row.rsplit("/", 1)[-1]]
                for column, cell in cells.items():
                    figure = figures[column]
                    assert cell in (figure, figure.partition(" (")[0]), f"{page}: {name}, {row}, {column}"
    assert pages.keys() == FIGURES["tables"].keys()
    assert all("README.md" in where and len(where) > 1 for where in pages.values()), pages


def test_figures_in_the_readmes_sentences_agree_with_the_file_and_a_page_below():
    """Figures: numbers with a decimal point or a comma between thousands."""
    number = re.compile(r"(?<![\w.-])\d[\d,]*(?:[.,]\d+)+(?!\w)")
    in_readme = set(number.findall(documents.prose(ROOT / "README.md")))
    assert in_readme == set(FIGURES["prose"].values())
    below = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent != ROOT)
    assert in_readme <= set(number.findall(below))


def test_the_table_of_tasks_is_that_of_the_code():
    ((_, table),) = documents.marked_tables(ROOT / "docs" / "data.md", "facts")
    submissions = {f"{source.submission}.tsv" for task in TASKS.values() for source in task.test}
    assert submissions == {name for row in table.values() for name in row["submission file"].split(", ")}
    for task in TASKS.values():
        row = table[task.folder]
        assert task.is_regression or row["labels"] == ", ".join(task.label_names)
        assert len(row["metrics"].replace(", two sets", "").split(", ")) == len(task.metrics)
    assert len(table) == len({task.folder for task in TASKS.values()})


def test_scores_of_2020_are_those_of_the_model_card():
    scores = {name: {set: row[set] for set in ("matched", "mismatched")} for name, row in MODELS.items()}
    students = {f"distilbart-mnli-12-{layers}": reported for layers, reported in REPORTED_2020.items()}
    assert scores == {"bart-large-mnli": REPORTED_2020_TEACHER, **students}


def test_sizes_of_the_published_models_are_counted():
    """Parameters of the stock model, MB of its float32 file, a checkpoint with two moments; cost by multiply-adds."""
    teacher_cost = 0
    for name, row in MODELS.items():
        layers = 12 if name == "bart-large-mnli" else int(name.rsplit("-", 1)[1])
        config = BartConfig(num_labels=3, decoder_layers=layers)  # the defaults are bart-large's
        with torch.device("meta"):
            model = BartForSequenceClassification(config)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        assert row["parameters"] == f"{parameters / 1e6:.1f} M"
        cost = arithmetic.stock(config, [(1, arithmetic.MEAN_LENGTH)], "trained")
        teacher_cost = teacher_cost or cost
        assert row["cost"] == f"{100 * cost / teacher_cost:.0f} %"
        if "trained" not in row:
            continue
        for frozen in (model.model.encoder, model.model.shared, model.model.decoder.embed_positions):
            frozen.requires_grad_(False)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        assert row["trained"] == f"{trained / 1e6:.1f} M"
        assert row["weights on disk"] == f"{4 * parameters / 1e6:.0f} MB"
        assert row["one checkpoint"] == f"{4 * (parameters + 2 * trained) / 1e9:.2f} GB"
        assert row["device memory"] == f"{4 * (parameters + 3 * trained) / 1e9:.1f} GB"
