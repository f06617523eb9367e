"""The model card: valid for the Hub, every figure from a file, nothing empty, nothing of this machine, and a person's
additions kept.
"""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from transformers import pipeline

from distilbart_mnli.card_facts import public_command, without_paths
from distilbart_mnli.card_format import percent
from distilbart_mnli.errors import InputError
from distilbart_mnli.model_card import HUB_LICENSES, write_model_card
from distilbart_mnli.training_curves import plot_training_curves
from tests.finished_run import RESULTS, RUN, finished_run, write_json
from tests.tiny import GLUE_LABELS, TEACHER_LABELS

GLUE_ROWS = {"392,702", "9,815", "9,832", "8,551", "1,043", "5,749", "1,500"}  # GLUE's own files, wc -l less the head
TABLE_2020 = {"89.9", "90.01", "87.08", "87.5", "88.1", "88.19", "89.19", "89.01", "89.56", "89.52"}


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


# ---------------------------------------------------------------------------------------------------------------------
# Every kind of folder: what must hold for all of them

OTHER_TASK = {"train_examples": 8551, "task": "cola"}
CLASSES = {"id2label": {0: "unacceptable", 1: "acceptable"}, "label2id": {"unacceptable": 0, "acceptable": 1}}
SCORE = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}, "num_labels": 1}
ONLY_COLA = {key: ... for key in RESULTS if key.endswith("_mm") or key == "eval_accuracy"}
TRADEOFFS = {
    "model": "/home/ada/runs/distilbart-mnli-12-1",
    "parameters": 221940738,
    "size_mb": 887.7629,
    "zero_shot": {"accuracy": 0.6412, "macro_f1": None},
    "devices": [
        {"device": "cpu", "latency_ms_p50": 41.25, "latency_ms_p95": 47.5, "texts_per_second": 61.75},
        {"device": "cuda", "latency_ms_p50": 9.125, "latency_ms_p95": float("nan"), "texts_per_second": 2048},
    ],
}


def without_a_mismatched_set(folder):
    finished_run(folder, results={key: ... for key in RESULTS if key.endswith("_mm")})


def on_part_of_the_sets(folder):
    results = {"eval_samples": 9815, "eval_samples_mm": 1000, "eval_accuracy_mm": 0.875, "train_samples": 29340}
    finished_run(folder, results=results, run={"train_examples": 29340})


def on_data_that_is_not_glue(folder):
    results = {"eval_samples": 300, "eval_samples_mm": 150, "train_samples": 2400}
    finished_run(folder, results=results, run={"train_examples": 2400}, arguments={"data_dir": "toy"})


def of_another_teacher(folder):
    config = {"teacher_name_or_path": "minibart", "encoder_layers": 6, "decoder_layers": 3}
    layers = {"encoder_layer_ids": [0, 1, 2, 3, 4, 5], "decoder_layer_ids": [0, 2, 5]}
    finished_run(folder, config={**config, **layers}, run={"license": None})


def of_a_size_without_figure(folder):
    finished_run(folder, config={"decoder_layers": 2, "decoder_layer_ids": [0, 6]})


def trained_from_scratch(folder):
    layers = dict.fromkeys(("teacher_name_or_path", "encoder_layer_ids", "decoder_layer_ids"), ...)
    finished_run(folder, config=layers, arguments={"model_name_or_path": None, "config_name": "bart"})


def for_another_task(folder):
    results = {**ONLY_COLA, "eval_matthews_correlation": 0.5412345, "eval_samples": 1043, "train_samples": 8551}
    finished_run(folder, CLASSES, {"task_name": "CoLA", "data_dir": None}, results, OTHER_TASK)


def for_regression(folder):
    results = {**ONLY_COLA, "eval_pearson": 0.8812345, "eval_spearmanr": 0.87999996, "eval_samples": 1500}
    finished_run(folder, SCORE, {"task_name": "STS-B"}, results, {"task": "stsb", "train_examples": 5749})


def on_the_users_own_data(folder):
    own = {"task_name": None, "data_dir": None, "train_file": "tickets.csv", "validation_file": "dev.csv"}
    results = {**dict.fromkeys((key for key in RESULTS if key.endswith("_mm")), ...), "eval_samples": 250}
    labels = {"id2label": {0: "a|b", 1: "<none>"}, "label2id": {"a|b": 0, "<none>": 1}}
    finished_run(folder, labels, own, results, {"task": "custom", "train_examples": 900})


def with_unknown_values(folder):
    empty = {"eval_loss": float("nan"), "train_loss": float("inf"), "eval_accuracy_mm": float("nan"), "epoch": None}
    finished_run(folder, results=empty, run=dict.fromkeys(RUN))


def with_a_trade_off_sheet(folder):
    finished_run(folder)
    write_json(folder / "tradeoffs.json", TRADEOFFS)


def of_an_evaluation_only(folder):
    finished_run(folder, arguments={"do_train": False, "model_name_or_path": "facebook/bart-large-mnli"})
    for name in ("config.json", "trainer_state.json"):
        (folder / name).unlink()
    results = {key: value for key, value in RESULTS.items() if key.startswith("eval_")}
    write_json(folder / "all_results.json", results)


def with_text_results_only(folder):
    of_an_evaluation_only(folder)
    (folder / "all_results.json").unlink()
    (folder / "eval_results_mnli.txt").write_text("eval_accuracy = 0.8990\neval_samples = 9815\n")
    (folder / "eval_results_mnli-mm.txt").write_text("eval_accuracy = 0.9001\neval_samples = 9832\n")


def with_a_model_only(folder):
    finished_run(folder)
    for path in folder.glob("*.json"):
        if path.name != "config.json":
            path.unlink()


def with_nothing(folder):
    folder.mkdir()


KINDS = [
    finished_run,
    without_a_mismatched_set,
    on_part_of_the_sets,
    on_data_that_is_not_glue,
    of_another_teacher,
    of_a_size_without_figure,
    trained_from_scratch,
    for_another_task,
    for_regression,
    on_the_users_own_data,
    with_unknown_values,
    with_a_trade_off_sheet,
    of_an_evaluation_only,
    with_text_results_only,
    with_a_model_only,
    with_nothing,
]


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


# ---------------------------------------------------------------------------------------------------------------------
# The card of a student of 2020's size


@pytest.fixture
def student(tmp_path) -> Path:
    return finished_run(tmp_path / "distilbart-mnli-12-1")


def test_the_metadata_of_a_student(student):
    metadata, _ = write(student)
    assert {key: metadata[key] for key in metadata if key not in ("widget", "model-index")} == {
        "base_model": "facebook/bart-large-mnli",
        "datasets": ["nyu-mll/glue"],
        "language": "en",
        "library_name": "transformers",
        "license": "mit",
        "metrics": ["accuracy"],
        "pipeline_tag": "zero-shot-classification",
        "tags": ["distilbart", "distilbart-mnli"],
    }
    matched, mismatched = ModelCard.load(student / "README.md").data.eval_results
    assert (matched.dataset_type, matched.dataset_config) == ("nyu-mll/glue", "mnli")
    assert (matched.dataset_split, mismatched.dataset_split) == ("validation_matched", "validation_mismatched")
    assert (matched.metric_type, matched.metric_value) == ("accuracy", RESULTS["eval_accuracy"])
    assert (mismatched.metric_type, mismatched.metric_value) == ("accuracy", RESULTS["eval_accuracy_mm"])


def test_our_scores_stand_beside_those_of_2020_and_the_two_are_told_apart(student):
    _, text = write(student)
    table = results_table(text)
    assert table["head"][1:] == [
        "Examples",
        "Accuracy, **this run**",
        "*Reported in 2020: distilbart-mnli-12-1*",
        "*Reported in 2020: bart-large-mnli, the teacher*",
    ]
    # 8547 / 9815 and 8606 / 9832; the figures of 2020 with the digits that they were reported with
    assert table["MNLI, matched"] == ["9,815", "**87.08 %**", "*87.08 %*", "*89.9 %*"]
    assert table["MNLI, mismatched"] == ["9,832", "**87.53 %**", "*87.5 %*", "*90.01 %*"]
    assert "nothing in them was measured here" in text


@pytest.mark.parametrize(
    ("layers", "matched", "mismatched"),
    [(1, "87.08", "87.5"), (3, "88.1", "88.19"), (6, "89.19", "89.01"), (9, "89.56", "89.52")],
)
def test_the_row_of_2020_is_the_one_with_the_same_layers(tmp_path, layers, matched, mismatched):
    config = {"decoder_layers": layers, "decoder_layer_ids": list(range(layers))}
    _, text = write(finished_run(tmp_path / "student", config=config))
    table = results_table(text)
    assert f"distilbart-mnli-12-{layers}*" in table["head"][3]
    assert (table["MNLI, matched"][2], table["MNLI, mismatched"][2]) == (f"*{matched} %*", f"*{mismatched} %*")


def test_a_student_of_a_size_without_figure_says_so_and_quotes_none(tmp_path):
    of_a_size_without_figure(tmp_path / "student")
    _, text = write(tmp_path / "student")
    assert "No figure for a student of this size was reported" in text
    assert len(results_table(text)["head"]) == 3
    # 87.08 is this run's own accuracy as well
    assert TABLE_2020 & set(re.findall(r"[\d.]+(?= %)", text)) == {"87.08"}


@pytest.mark.parametrize(
    "kind", [of_another_teacher, trained_from_scratch, on_data_that_is_not_glue, for_another_task, with_a_model_only]
)
def test_where_nothing_of_2020_is_comparable_nothing_of_it_is_mentioned(tmp_path, kind):
    kind(tmp_path / "model")
    _, text = write(tmp_path / "model")
    assert "Reported in 2020" not in text and "reported" not in text


def test_encoder_layers_count_too(tmp_path):
    config = {"encoder_layers": 6, "encoder_layer_ids": [0, 2, 4, 7, 9, 11]}
    _, text = write(finished_run(tmp_path / "student", config=config))
    assert len(results_table(text)["head"]) == 3


def test_the_teachers_own_evaluation_stands_beside_its_figure(tmp_path):
    of_an_evaluation_only(tmp_path / "baseline")
    metadata, text = write(tmp_path / "baseline")
    table = results_table(text)
    assert table["head"][3:] == ["*Reported in 2020: bart-large-mnli*"]
    assert table["MNLI, mismatched"][2] == "*90.01 %*"
    assert "## Use" not in text and "This folder holds results and no model" in text
    assert not {"library_name", "pipeline_tag", "widget"} & set(metadata)


def test_a_copied_student_is_not_measured_against_fine_tuned_ones(tmp_path):
    folder = finished_run(tmp_path / "student", arguments={"do_train": False}, results={"train_loss": ...})
    _, text = write(folder)
    assert "It has not been fine-tuned yet" in text
    assert "Reported in 2020" not in text


def test_scores_on_a_part_of_a_set_say_so_in_the_text_and_in_the_metadata(tmp_path):
    on_part_of_the_sets(tmp_path / "student")
    metadata, text = write(tmp_path / "student")
    assert results_table(text)["MNLI, mismatched"][:2] == ["1,000 of 9,832", "**87.50 %**"]
    assert results_table(text)["MNLI, matched"][0] == "9,815"
    assert "not comparable" in text
    assert "| Training examples | 29,340 of 392,702 |" in text
    names = [result["dataset"]["name"] for result in metadata["model-index"][0]["results"]]
    assert names == ["GLUE MNLI, matched", "GLUE MNLI, mismatched (1,000 of 9,832 examples)"]


def test_toy_data_in_mnlis_format_is_not_filed_under_glue(tmp_path):
    on_data_that_is_not_glue(tmp_path / "student")
    metadata, text = write(tmp_path / "student")
    assert "datasets" not in metadata
    assert {result["dataset"]["type"] for result in metadata["model-index"][0]["results"]} == {"custom"}
    assert results_table(text)["MNLI, matched"][0] == "300"
    assert "not GLUE's: other data in the format of MNLI (folder `toy`)" in text


@pytest.mark.parametrize("where", [{"data_dir": None}, {"max_eval_samples": 300, "max_train_samples": 2400}])
def test_glues_data_cut_short_is_still_glues(tmp_path, where):
    results = {"eval_samples": 300, "eval_samples_mm": 300, "train_samples": 2400}
    folder = finished_run(tmp_path / "student", arguments=where, results=results, run={"train_examples": 2400})
    metadata, text = write(folder)
    assert metadata["datasets"] == ["nyu-mll/glue"]
    assert results_table(text)["MNLI, matched"][0] == "300 of 9,815"


def test_the_layers_that_were_kept_are_named(tmp_path):
    of_another_teacher(tmp_path / "student")
    _, text = write(tmp_path / "student")
    assert ["Encoder", "6", "0 to 5"] in table_rows(text)
    assert ["Decoder", "3", "0, 2, 5"] in table_rows(text)


def test_other_tasks_get_their_metric_and_text_classification(tmp_path):
    for_another_task(tmp_path / "cola")
    for_regression(tmp_path / "stsb")
    metadata, text = write(tmp_path / "cola")
    assert metadata["pipeline_tag"] == "text-classification"
    assert metadata["tags"] == ["distilbart"]
    assert results_table(text)["CoLA"] == ["1,043", "**0.5412**"]
    (result,) = metadata["model-index"][0]["results"]
    assert result["dataset"] == {
        "name": "GLUE CoLA", "type": "nyu-mll/glue", "config": "cola", "split": "validation"
    }  # fmt: skip
    assert result["metrics"][0]["type"] == "matthews_correlation"
    metadata, text = write(tmp_path / "stsb")
    assert metadata["metrics"] == ["pearsonr", "spearmanr"]
    assert results_table(text)["STS-B"] == ["1,500", "**0.8812**", "**0.88**"]


def test_the_trade_off_sheet_is_shown_where_there_is_one(tmp_path):
    with_a_trade_off_sheet(tmp_path / "student")
    _, text = write(tmp_path / "student")
    rows = table_rows(text.split("## Size and speed")[1].split("\n## ")[0])
    assert ["model", "distilbart-mnli-12-1"] in rows
    assert ["parameters", "221,940,738"] in rows
    assert ["zero shot: accuracy", "64.12 %"] in rows
    assert ["cuda", "9.125", "not measured", "2,048"] in rows
    assert "Size and speed" not in write(finished_run(tmp_path / "other"))[1]


def test_percentages_are_rounded_half_up_on_the_decimal_digits():
    for whole in (7, 64, 800, 9815, 9832):
        for right in range(0, whole + 1, max(1, whole // 97)):
            share = right / whole
            exact = Fraction(repr(share)) * 10_000
            assert percent(share) == f"{int(exact + Fraction(1, 2)) / 100:.2f} %"
    assert percent(697 / 800) == "87.13 %"  # 87.125, which "%.2f" makes 87.12
    assert (percent(0.0), percent(1.0), percent(1 / 3)) == ("0.00 %", "100.00 %", "33.33 %")


@pytest.mark.parametrize(
    ("run", "arguments", "expected"),
    [
        ("mit", None, ("mit", None)),
        ("Apache-2.0", "mit", ("apache-2.0", None)),
        (None, "cc-by-4.0", ("cc-by-4.0", None)),
        ("Our House Licence (v2)", None, ("other", "our-house-licence-v2")),
        (None, None, (None, None)),
    ],
)
def test_the_license_is_one_that_the_hub_takes_or_is_left_out_with_one_line(
    tmp_path, caplog, run, arguments, expected
):
    folder = finished_run(tmp_path / "student", run={"license": run}, arguments={"license": arguments})
    metadata, text = write(folder)
    assert (metadata.get("license"), metadata.get("license_name")) == expected
    lines = [record.message for record in caplog.records if "license" in record.message]
    assert len(lines) == (expected == (None, None))
    assert ("license is not stated" in text) == (expected == (None, None))


def test_a_teacher_that_is_not_on_the_hub_is_no_base_model(tmp_path):
    local = finished_run(tmp_path / "a", config={"teacher_name_or_path": "/home/ada/models/bart-large-mnli"})
    metadata, text = write(local)
    assert "base_model" not in metadata
    assert "`bart-large-mnli`" in text
    fine_tuned = finished_run(
        tmp_path / "b",
        config=dict.fromkeys(("teacher_name_or_path", "encoder_layer_ids", "decoder_layer_ids"), ...),
        arguments={"model_name_or_path": "facebook/bart-large"},
    )
    assert write(fine_tuned)[0]["base_model"] == "facebook/bart-large"


# ---------------------------------------------------------------------------------------------------------------------
# The code in the card


def run_snippets(folder: Path, monkeypatch) -> dict[str, Any]:
    _, text = write(folder)
    monkeypatch.chdir(folder.parent)  # the code names the model by the folder's name
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    return {**names, "blocks": len(blocks)}


@pytest.mark.parametrize("labels", [TEACHER_LABELS, GLUE_LABELS], ids=["order of the teacher", "order of GLUE"])
def test_the_code_for_zero_shot_runs_and_agrees_with_the_stock_pipeline(tmp_path, monkeypatch, labels):
    config = {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
    folder = finished_run(tmp_path / "distilbart-mnli-12-1", config=config, weights=True)
    names = run_snippets(folder, monkeypatch)
    assert names["blocks"] == 2
    assert sorted(names["result"]["labels"]) == ["cooking", "politics", "transport"]
    stock = pipeline("zero-shot-classification", model=str(folder))
    (expected,) = stock(names["premise"], candidate_labels=["transport"], multi_label=True)["scores"]
    assert names["label_probability"] == pytest.approx(expected, abs=1e-6)
    # Another order of the labels must give another number, or the comparison would show nothing.
    assert names["logits"][[1, 0]].softmax(-1)[1].item() != pytest.approx(expected, abs=1e-3)
    assert f"# {', '.join(f'{index} {label}' for index, label in enumerate(labels))}" in readme(folder)


@pytest.mark.parametrize(
    ("kind", "task", "labels"),
    [(CLASSES, "cola", 1), (SCORE, "stsb", 1), (CLASSES, "mrpc", 1), (CLASSES, "custom", 1)],
)
def test_the_code_for_other_tasks_runs(tmp_path, monkeypatch, capsys, kind, task, labels):
    arguments = {"task_name": None if task == "custom" else task}
    folder = finished_run(tmp_path / "model", kind, arguments, run={"task": task}, weights=True)
    names = run_snippets(folder, monkeypatch)
    result = names["result"][0] if isinstance(names["result"], list) else names["result"]
    assert result["label"] in kind["id2label"].values()
    assert ("text_pair" in readme(folder)) == (task in ("stsb", "mrpc"))


def test_the_code_names_the_repository_where_it_is_known(tmp_path):
    folder = finished_run(tmp_path / "out", arguments={"hub_model_id": "ada/distilbart-mnli-12-1"})
    metadata, text = write(folder)
    assert 'model="ada/distilbart-mnli-12-1"' in text
    assert text.strip().startswith("# distilbart-mnli-12-1\n")
    assert metadata["model-index"][0]["name"] == "distilbart-mnli-12-1"
    assert 'model="grace/mine"' in write(folder, "grace/mine")[1]


# ---------------------------------------------------------------------------------------------------------------------
# What must not leave the machine


@pytest.mark.parametrize(
    ("command", "public"),
    [
        ("python run_glue.py args.json", "python run_glue.py args.json"),
        ("python run_glue.py args/a.json --data_dir /home/ada/MNLI", "python run_glue.py args/a.json --data_dir MNLI"),
        ("run_glue.py --data_dir=/srv/x/MNLI/ --lr 3e-5", "run_glue.py --data_dir=MNLI --lr 3e-5"),
        ("run_glue.py '/home/ada/my runs/args.json'", "run_glue.py args.json"),
        ("run_glue.py ~/args.json ~ada/x ../up/args.json ./args.json", "run_glue.py args.json x args.json args.json"),
        (r"run_glue.py 'C:\Users\ada\args.json'", "run_glue.py args.json"),
        ("run_glue.py --hub_token hf_abcdefghijkl --seed 1", "run_glue.py --seed 1"),
        ("run_glue.py --hub-token=hf_abcdefghijkl --seed 1", "run_glue.py --seed 1"),
        ("HF_TOKEN=hf_abcdefghijkl run_glue.py", "HF_TOKEN=hf_... run_glue.py"),
        ('run_glue.py \'{"a": "/home/ada/x", "b": 1}\'', 'run_glue.py \'{"a": "x", "b": 1}\''),
        ("run_glue.py --model facebook/bart-large --url https://hf.co/a/b",) * 2,
        ("run_glue.py 'open /home/ada/x", "run_glue.py 'open x"),
    ],
)
def test_a_published_command_has_no_path_of_the_machine_and_no_token(command, public):
    assert public_command(command) == public


def test_text_loses_local_paths_and_keeps_addresses():
    assert without_paths("see /home/ada/x.json and https://wandb.ai/a/b") == "see x.json and https://wandb.ai/a/b"
    assert without_paths("file:///home/ada/run 5 examples/s, and/or") == "run 5 examples/s, and/or"


def test_a_tracker_on_this_machine_is_not_linked(tmp_path):
    urls = {"trackio": "file:///home/ada/trackio", "wandb": "https://wandb.ai/ada/p/runs/1x2y3z"}
    _, text = write(finished_run(tmp_path / "student", run={"tracker_urls": urls}))
    assert "The run's log: [wandb](https://wandb.ai/ada/p/runs/1x2y3z)." in text
    assert "trackio" not in text


# ---------------------------------------------------------------------------------------------------------------------
# Written again: what a person added stays


def edit(folder: Path, *changes: tuple[str, str]) -> None:
    text = readme(folder)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "README.md").write_text(text, encoding="utf-8")


def test_text_outside_the_generated_sections_stays_where_it_is_and_the_sections_are_renewed(student):
    write_model_card(student)
    edit(
        student,
        (
            "<!-- begin generated: use -->",
            "## Thanks\n\nTo *Grace*,\n\n\nand to Ada.\n\n<!-- begin generated: use -->",
        ),
        ("<!-- checksums", "The end.\n\n<!-- checksums"),
    )
    write_json(student / "all_results.json", {**RESULTS, "eval_accuracy": 0.5})
    write_model_card(student)
    text = readme(student)
    assert "**50.00 %**" in text and "**87.08 %**" not in text
    order = ["# distilbart", "## Results", "## Thanks\n\nTo *Grace*,\n\n\nand to Ada.\n", "## Use", "The end."]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    write_model_card(student)
    assert readme(student) == text


def test_sections_that_a_person_moved_stay_where_they_were_put(student):
    write_model_card(student)
    text = readme(student)
    section = re.search(r"<!-- begin generated: limits -->.*<!-- end generated: limits -->\n\n", text, re.DOTALL)[0]
    text = text.replace(section, "").replace(
        "<!-- begin generated: results", section + "<!-- begin generated: results"
    )
    (student / "README.md").write_text(text)
    write_model_card(student)
    assert readme(student) == text


def test_metadata_that_a_person_added_or_changed_stays_and_the_rest_is_renewed(student):
    write_model_card(student)
    own_result = """  - task: {type: zero-shot-classification}
    dataset: {type: fancyzhx/ag_news, name: AG News}
    metrics: [{type: accuracy, value: 0.71}]
model-index-end: here"""
    edit(
        student,
        ("license: mit", "license: cc-by-4.0\nthumbnail: https://example.com/a.png"),
        ("- distilbart-mnli\n", "- distilbart-mnli\n- tickets\n"),
        ("- nyu-mll/glue", "- nyu-mll/glue\n- stanfordnlp/snli"),
        (
            "- example_title: One label",
            "- text: Mine\n  candidate_labels: a, b\n  multi_class: false\n- example_title: 1",
        ),
        ("\n---\n\n<!--", f"\n{own_result}\n---\n\n<!--"),
    )
    write_json(student / "all_results.json", {**RESULTS, "eval_accuracy": 0.5})
    metadata, _ = write(student)
    check_hub_rules(metadata)
    assert (metadata["license"], metadata["thumbnail"]) == ("cc-by-4.0", "https://example.com/a.png")
    assert metadata["model-index-end"] == "here"
    assert metadata["tags"] == ["distilbart", "distilbart-mnli", "tickets"]
    assert metadata["datasets"] == ["nyu-mll/glue", "stanfordnlp/snli"]
    # The example that was changed is there as changed, once; the other generated one is untouched.
    assert [entry.get("example_title") for entry in metadata["widget"]] == ["Several labels", None, 1]
    values = {
        result["dataset"]["name"]: result["metrics"][0]["value"] for result in metadata["model-index"][0]["results"]
    }
    assert values == {"GLUE MNLI, matched": 0.5, "GLUE MNLI, mismatched": RESULTS["eval_accuracy_mm"], "AG News": 0.71}


def test_metadata_that_is_not_true_any_more_goes(student):
    write_model_card(student)
    on_data_that_is_not_glue(student)
    of_another = json.loads((student / "config.json").read_text()) | {"teacher_name_or_path": "house-teacher"}
    write_json(student / "config.json", of_another)
    metadata, _ = write(student)
    assert not {"datasets", "base_model"} & set(metadata)
    assert len(metadata["model-index"][0]["results"]) == 2


def test_a_readme_written_by_hand_is_kept_below_the_card(student):
    (student / "README.md").write_text("---\nlicense: mit\nthumbnail: x.png\n---\n# Mine\n\nMy words.\n")
    metadata, text = write(student)
    assert metadata["thumbnail"] == "x.png" and metadata["pipeline_tag"] == "zero-shot-classification"
    assert text.index("## Citation") < text.index("# Mine\n\nMy words.")
    (student / "README.md").write_text("No metadata, only words.\n")
    assert "No metadata, only words." in write(student)[1]


@pytest.mark.parametrize(
    "content", [b"---\nlicense: [mit\n---\nMy words\n", b"caf\xe9", b"---\n- a\n- b\n---\nwords\n"]
)
def test_a_readme_that_cannot_be_read_is_set_aside_and_named(student, caplog, content):
    (student / "README.md").write_bytes(content)
    write_model_card(student)
    assert (student / "README.old.md").read_bytes() == content
    assert "README.old.md" in caplog.text
    (student / "README.md").write_bytes(content)
    write_model_card(student)  # a second one does not overwrite the first
    assert len([path for path in student.glob("README.old*") if path.read_bytes() == content]) == 2


def test_a_lost_marker_loses_no_words(student):
    write_model_card(student)
    edit(student, ("<!-- end generated: results -->", "My words."), ("<!-- begin generated: citation -->", "More."))
    for _ in range(3):
        write_model_card(student)
        text = readme(student)
        assert text.count("My words.") == 1 and text.count("More.") == 1
        for name in ("introduction", "results", "use", "training", "limits", "citation"):
            assert (
                text.count(f"<!-- begin generated: {name} -->") == text.count(f"<!-- end generated: {name} -->") == 1
            )


def test_a_copied_section_is_kept_once_and_words_between_the_copies_stay(student):
    write_model_card(student)
    begin, end = "<!-- begin generated: results -->", "<!-- end generated: results -->"
    edit(student, (end, f"{end}\n\nMy words.\n\n{begin}\n\nA copy.\n\n{end}"))
    whole = readme(student)
    for text in (whole, whole.replace(end, "", 1)):  # and with the first one's end lost
        (student / "README.md").write_text(text)
        write_model_card(student)
        assert readme(student).count("My words.") == readme(student).count(begin) == readme(student).count(end) == 1
        assert "A copy." not in readme(student)


def test_windows_line_ends_are_read(student):
    write_model_card(student)
    edit(student, ("<!-- checksums", "My words.\n\n<!-- checksums"))
    (student / "README.md").write_bytes(readme(student).replace("\n", "\r\n").encode())
    write_model_card(student)
    text = readme(student)
    assert text.count("## Results") == text.count("My words.") == 1


# ---------------------------------------------------------------------------------------------------------------------
# Faults


@pytest.mark.parametrize("name", ["config.json", "all_results.json", "trainer_state.json", "tradeoffs.json"])
def test_a_damaged_file_is_named_in_one_line_and_the_card_stays_as_it_was(student, name):
    write_model_card(student)
    before = readme(student)
    (student / name).write_text('{"eval_accuracy": 0.')
    with pytest.raises(InputError) as error:
        write_model_card(student)
    assert name in str(error.value) and "not JSON" in str(error.value) and "\n" not in str(error.value)
    assert readme(student) == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        write_model_card(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------------------------------------------
# The picture

LIGHT, DARK = (255, 255, 255), (11, 15, 25)


def luminance(color: np.ndarray) -> np.ndarray:
    """Relative luminance of WCAG 2.1, of sRGB values 0..255 in the last dimension."""
    share = np.asarray(color, dtype=float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", [LIGHT, DARK], ids=["light page", "dark page"])
def test_everything_drawn_stands_out_from_the_page(student, page):
    pixels = np.asarray(Image.open(plot_training_curves(student)).convert("RGBA")).reshape(-1, 4)
    drawn = pixels[pixels[:, 3] == 255][:, :3]
    assert len(drawn) > 5000  # lines, text and axes
    assert np.mean(pixels[:, 3] == 0) > 0.7  # the rest lets the page through
    light, dark = luminance(drawn), luminance(np.array(page))
    contrast = (np.maximum(light, dark) + 0.05) / (np.minimum(light, dark) + 0.05)
    assert contrast.min() >= 3.0


def test_the_picture_is_in_the_card_exactly_where_there_is_a_log(student, tmp_path):
    _, text = write(student)
    assert "](training_curves.png)" in text
    assert (student / "training_curves.png").read_bytes()[:4] == b"\x89PNG"
    state = json.loads((student / "trainer_state.json").read_text())
    other = finished_run(tmp_path / "other")
    write_json(other / "trainer_state.json", {**state, "log_history": []})
    assert plot_training_curves(other) is None
    assert "training_curves.png" not in write(other)[1]
    assert not (other / "training_curves.png").exists()


@pytest.mark.parametrize(
    "history",
    [
        [{"step": 1, "loss": 1.0}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.5, "epoch": 1.0}],
        [{"step": 1, "eval_f1": 0.5, "eval_accuracy": 0.5, "eval_runtime": 3.0}],
        [{"step": 5, "eval_matthews_correlation": -0.1}, {"epoch": 1.0, "train_loss": 0.4}],
    ],
    ids=["one point", "a loss that is not finite", "two metrics", "a correlation"],
)
def test_unusual_logs_are_drawn(tmp_path, history):
    write_json(tmp_path / "trainer_state.json", {"log_history": history})
    assert Image.open(plot_training_curves(tmp_path)).size[1] > 300


def test_the_same_log_gives_the_same_bytes(student):
    first = plot_training_curves(student).read_bytes()
    assert plot_training_curves(student).read_bytes() == first
