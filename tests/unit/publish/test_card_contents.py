"""What a model card says: of a student of 2020 and of others, its code, and nothing of the machine it was made on."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import pipeline

from distilbart_mnli.public_text import public_command, without_paths
from distilbart_mnli.publish.card_format import percent
from tests.support.card_reading import readme, results_table, table_rows, write
from tests.support.finished_run import (
    CLASSES,
    RESULTS,
    SCORE,
    finished_run,
    for_another_task,
    for_regression,
    of_a_size_without_figure,
    of_an_evaluation_only,
    of_another_teacher,
    on_data_that_is_not_glue,
    on_part_of_the_sets,
    trained_from_scratch,
    with_a_model_only,
    with_a_trade_off_sheet,
)
from tests.support.tiny import GLUE_LABELS, TEACHER_LABELS

TABLE_2020 = {"89.9", "90.01", "87.08", "87.5", "88.1", "88.19", "89.19", "89.01", "89.56", "89.52"}


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


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://example.org/terms", "https://example.org/terms"),
        ("LICENSE", "https://huggingface.co/facebook/bart-large-mnli/blob/main/LICENSE"),  # it lies beside the teacher
        (None, None),
    ],
)
def test_a_license_of_the_teachers_own_keeps_its_name_and_its_text_can_be_found(tmp_path, link, expected):
    run = {"license": "other", "license_name": "Bart Research 1.0", "license_link": link}
    metadata, _ = write(finished_run(tmp_path / "student", run=run))
    assert (metadata["license"], metadata["license_name"]) == ("other", "bart-research-1.0")
    assert metadata.get("license_link") == expected
    local = {"teacher_name_or_path": "bart-large-mnli"}
    metadata, _ = write(finished_run(tmp_path / "local", config=local, run={**run, "license_link": "LICENSE"}))
    assert "license_link" not in metadata


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


def test_tokens_of_the_tokenizer_and_closing_tags_are_no_paths():
    for text in ("</s>", "<s> a </s></s> b </s>", "<b>bold</b>", "<|im_end|> </think> <pad>"):
        assert without_paths(text) == text
    assert without_paths("<b>/home/ada/x.json</b>, </home/ada/run>") == "<b>x.json</b>, <run>"


def test_a_tracker_on_this_machine_is_not_linked(tmp_path):
    urls = {"trackio": "file:///home/ada/trackio", "wandb": "https://wandb.ai/ada/p/runs/1x2y3z"}
    _, text = write(finished_run(tmp_path / "student", run={"tracker_urls": urls}))
    assert "The run's log: [wandb](https://wandb.ai/ada/p/runs/1x2y3z)." in text
    assert "trackio" not in text
