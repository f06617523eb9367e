"""compare_models.py: its figures are stock transformers', a broken model does not lose the others, and what it writes
says the same in every form."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score
from transformers import AutoTokenizer, BartForSequenceClassification

from compare_models import read_arguments
from distilbart_mnli.compare import speed
from distilbart_mnli.compare.compare import CompareOptions, compare_models
from distilbart_mnli.compare.evaluate import candidate_names, groups_of, load_candidates
from distilbart_mnli.compare.sheet import Sheet, quality_table, speed_table, write_sheet
from distilbart_mnli.data.splits import load_evaluation
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import CommandError, InputError
from distilbart_mnli.model.student import StudentPlan, create_student
from distilbart_mnli.options.fields import OPTIONS, Arguments
from tests.support.files import edit_config
from tests.support.tiny import tiny_bart, tiny_mnli
from tests.unit.compare.test_zero_shot import write_topics

MODELS = ("teacher", "student-2-1", "stranger", "student-2-2")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A teacher, two students with its encoder, one model with an encoder of its own, and two that are broken."""
    folder = tmp_path_factory.mktemp("compare")
    tiny_bart(folder / "teacher", decoder_layers=3)
    for layers in (1, 2):
        create_student(StudentPlan(str(folder / "teacher"), decoder_layers=layers), folder / f"student-2-{layers}")
    tiny_bart(folder / "stranger", seed=1, encoder_layers=1)
    shutil.copytree(folder / "student-2-1", folder / "nan")
    weights = load_file(folder / "nan/model.safetensors")
    weights["model.decoder.layernorm_embedding.weight"].fill_(3e38)  # finite, and what is computed with it is not
    save_file(weights, folder / "nan/model.safetensors", {"format": "pt"})
    (folder / "no-model").mkdir()
    tiny_mnli(folder / "data", matched=40, mismatched=26)
    write_topics(folder / "topics.jsonl")
    return folder


def options(models: Path, output_dir: Path, *names: str, **changes) -> CompareOptions:
    values = {"models": [str(models / name) for name in names], "output_dir": output_dir, "devices": ["cpu"]}
    return CompareOptions(**{**values, "data_dir": str(models / "data"), "no_speed": True, **changes})


def stock_predictions(folder: Path, data: Path, number: int) -> tuple[list[str], list[str]]:
    """Names of the predicted and of the right labels of an evaluation set, one row at a time."""
    split = load_evaluation(Arguments(task_name="mnli", data_dir=str(data)), TASKS["mnli"])[number]
    model, tokenizer = BartForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    names = []
    for pair in zip(split.sentence1, split.sentence2, strict=True):
        inputs = tokenizer(*pair, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        names.append(model.config.id2label[int(logits.argmax())])
    return names, [TASKS["mnli"].label_names[label] for label in split.labels]


def test_figures_are_those_of_stock_transformers(models, tmp_path):
    found = compare_models(options(models, tmp_path, *MODELS, zero_shot=models / "topics.jsonl"))
    assert [row["model"] for row in found.rows] == list(MODELS)
    for row in found.rows:
        for number, kind in enumerate(("matched", "mismatched")):
            predicted, right = stock_predictions(models / row["model"], models / "data", number)
            assert row[f"accuracy_{kind}"] == accuracy_score(right, predicted)
            assert row[f"rows_{kind}"] == len(right)
            if kind == "matched" and row["model"] == "teacher":
                teacher = predicted
                assert "agreement_with_teacher" not in row
            elif kind == "matched":
                assert row["agreement_with_teacher"] == accuracy_score(teacher, predicted)
        assert row["zero_shot"]["texts"] == 24
        # create_student.py says so in config.json; of the others nothing is known
        assert row.get("made_by") == ("copied" if row["model"].startswith("student") else None)
    assert len({row["accuracy_matched"] for row in found.rows}) > 1


def test_every_back_end_that_is_there_is_measured(models, tmp_path, monkeypatch):
    """float32 gives the sheet's own accuracy, and agrees with itself; bfloat16 takes half of the space."""
    monkeypatch.setattr("distilbart_mnli.compare.backends.supports_bf16", lambda device_type: True)
    (row,) = compare_models(options(models, tmp_path, "student-2-1", backends=True, repetitions=1)).rows
    float32, bfloat16 = row["backends"]
    assert (float32["backend"], bfloat16["backend"]) == ("torch float32", "torch bfloat16")
    assert float32["accuracy"] == row["accuracy_matched"] and float32["agreement"] == 1
    assert float32["mb"] == row["mb_float32"] == 2 * bfloat16["mb"] and bfloat16["agreement"] > 0.8
    assert "torch bfloat16" in (tmp_path / "tradeoffs.md").read_text()


def test_models_share_an_encoder_only_where_it_is_the_same(models):
    candidates = load_candidates([str(models / name) for name in MODELS], Arguments(task_name="mnli"), TASKS["mnli"])
    groups = [[candidate.name for candidate in group] for group in groups_of(candidates)]
    assert groups == [["teacher", "student-2-1", "student-2-2"], ["stranger"]]


def test_broken_models_do_not_lose_the_others(models, tmp_path):
    with pytest.raises(CommandError) as caught:
        compare_models(options(models, tmp_path, "teacher", "no-model", "nan", "student-2-1"))
    assert "left out: no-model, nan" in str(caught.value) and caught.value.exit_code == 2
    written = json.loads((tmp_path / "tradeoffs.json").read_text())
    assert [row["model"] for row in written["models"]] == ["teacher", "student-2-1"]
    assert "mnli" in written["left_out"]["nan"] and "config.json" in written["left_out"]["no-model"]


def test_where_no_model_can_be_used_nothing_is_written(models, tmp_path):
    with pytest.raises(InputError, match="no-model"):
        compare_models(options(models, tmp_path / "sheet", "no-model"))
    assert not (tmp_path / "sheet").exists()


def test_names_are_the_shortest_that_differ(tmp_path):
    paths = [tmp_path / "a/model", tmp_path / "b/model", tmp_path / "student"]
    for path in paths:
        path.mkdir(parents=True)
    names = candidate_names([*map(str, paths), "ann/distilbart-mnli-12-1"])
    assert names == ["a/model", "b/model", "student", "ann/distilbart-mnli-12-1"]


def test_what_was_not_measured_is_no_column_and_no_number(tmp_path):
    rows = [
        {"model": "teacher", "encoder_layers": 2, "decoder_layers": 2, "parameters": 1000, "accuracy_matched": 0.5},
        {"model": "student", "encoder_layers": 2, "decoder_layers": 1, "parameters": 900},
    ]
    head, body = quality_table(Sheet({}, rows))
    assert head == ["model", "layers", "parameters", "matched"]
    assert [line[-1] for line in body] == ["50.00 %", "-"]
    assert speed_table(Sheet({}, rows), "cpu") == ([], [])
    assert sorted(path.name for path in write_sheet(tmp_path, Sheet({}, rows))) == [
        *("tradeoffs.csv", "tradeoffs.json", "tradeoffs.md")
    ]


def test_the_pairs_that_are_timed_are_spread_over_the_set():
    pairs = [("a" * number, "b") for number in range(100)]
    assert [len(first) for first, _ in speed.spread(pairs, 4)] == [0, 33, 66, 99]
    assert len(speed.spread(pairs[:3], 8)) == 8
    assert speed.in_length_order(pairs[::-1]) == pairs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--output_dir", "x", "--max_eval_samples", "0"], "--max_eval_samples"),
        (["a"], "--output_dir"),
        (["--output_dir", "x"], "MODEL"),
        (["a", "--output_dir", "x", "--zero_shoot", "y"], "--zero_shoot"),
    ],
)
def test_typing_errors_are_one_line(words, message):
    with pytest.raises(InputError, match=message):
        read_arguments(words)


def with_a_bad_row(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model")
    with (data / "dev_matched.tsv").open("a") as file:
        file.write("too\tfew\n")
    return []


def with_a_row_without_a_label(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model")
    path = data / "dev_matched.tsv"
    path.write_text(re.sub(r"\w+\n$", "-\n", path.read_text()))
    return []


def with_a_bad_topic(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model")
    (folder / "topics.csv").write_text("text,label\na,b\nc\nd,e\n")
    return ["--zero_shot", str(folder / "topics.csv")]


def with_other_labels(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model", labels=("yes", "no", "maybe"))
    return []


def with_two_labels(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model", labels=("entailment", "not_entailment"))
    return []


def without_a_head(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model")
    edit_config(folder / "model", architectures=["BartModel"])
    return []


def with_a_damaged_label_map(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model")
    edit_config(folder / "model", ["label2id"], id2label={"0": "a", "2": "b"})
    return []


def with_another_tokenizer(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model")
    edit_config(folder / "model", eos_token_id=5)
    return []


def with_too_few_embeddings(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model", vocab_size=300)
    return []


def with_too_few_positions(folder: Path, data: Path) -> list[str]:
    tiny_bart(folder / "model", max_position_embeddings=16)
    return []


FAULTS = (
    *(with_a_bad_row, with_a_row_without_a_label, with_a_bad_topic, with_other_labels, with_two_labels),
    *(without_a_head, with_a_damaged_label_map, with_another_tokenizer, with_too_few_embeddings),
    with_too_few_positions,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_error_advises_an_option_that_the_command_does_not_have(tmp_path, fault):
    data = tiny_mnli(tmp_path / "data", train=0, matched=3, mismatched=3)
    words = [*fault(tmp_path, data), "--data_dir", str(data), "--output_dir", str(tmp_path / "sheet"), "--no_speed"]
    with pytest.raises(CommandError) as caught:
        compare_models(CompareOptions(**vars(read_arguments([str(tmp_path / "model"), *words]))))
    of_this_command = {field.name for field in dataclasses.fields(CompareOptions)}
    assert not {name for name in OPTIONS.keys() - of_this_command if re.search(rf"\b{name}\b", str(caught.value))}
    for advised in re.findall(r"--(\w+)", str(caught.value)):
        assert advised in of_this_command


def test_bad_rows_are_dropped_and_a_label_left_out_as_in_a_run(tmp_path):
    words = with_a_bad_topic(tmp_path, tiny_mnli(tmp_path / "data", train=0, matched=3, mismatched=3))
    (tmp_path / "topics.csv").write_text("text,label\na,b\nc\nd,e\nf,-\n")
    words = [str(tmp_path / "model"), "--data_dir", str(tmp_path / "data"), "--no_speed", *words]
    words += ["--output_dir", str(tmp_path / "sheet"), "--skip_bad_rows", "true", "--ignore_label", "-"]
    (row,) = compare_models(CompareOptions(**vars(read_arguments(words)))).rows
    assert (row["zero_shot"]["texts"], row["zero_shot"]["labels"]) == (2, 2)


def test_a_missing_file_stops_the_command_before_it_writes(models, tmp_path):
    words = [models / "teacher", "--data_dir", models / "data", "--output_dir", tmp_path / "sheet"]
    with pytest.raises(InputError, match=r"none\.jsonl"):
        compare_models(CompareOptions(**vars(read_arguments([*map(str, words), "--zero_shot", "none.jsonl"]))))
    assert not (tmp_path / "sheet").exists()
