"""classify.py: every kind of file gets the pipeline's labels and scores; a run that was stopped goes on and ends with
the same bytes; never more than a group of texts is in memory; bad input ends in one line before the work."""

import csv
import io
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer, pipeline

import classify
from distilbart_mnli.errors import run_command
from distilbart_mnli.zero_shot import classifier
from distilbart_mnli.zero_shot.classifier import Scorer
from distilbart_mnli.zero_shot.classify import ClassifyOptions, read_labels
from distilbart_mnli.zero_shot.texts import Texts
from tests.support.files import everything_in
from tests.support.in_process import as_in_a_new_process
from tests.support.tiny import sentence, tiny_bart

TOPICS = ["cat", "old house", "garden"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and 30 texts with commas and quotes."""
    folder = tmp_path_factory.mktemp("classify")
    tiny_bart(folder / "model", max_position_embeddings=64)
    AutoTokenizer.from_pretrained(folder / "model", model_max_length=64).save_pretrained(folder / "model")
    rng = np.random.default_rng(5)
    texts = [f'"{sentence(rng, 1, 40)}", {number}' for number in range(30)]
    (folder / "texts.txt").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    """Four texts at once, with three labels."""
    monkeypatch.setattr(classifier, "PAIRS_AT_ONCE", {"cpu": 12})


def texts_of(folder: Path) -> list[str]:
    return (folder / "texts.txt").read_text(encoding="utf-8").splitlines()


def command(folder: Path, file: object, *words: object, labels=TOPICS, dtype="float32") -> int:
    """classify.py's exit code."""
    words = [folder / "model", file, "--dtype", dtype, *words, *(["--candidate_labels", *labels] if labels else [])]
    with as_in_a_new_process("classify.py", *words):
        return run_command(classify.main)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["texts.txt", "texts.csv", "texts.tsv", "texts.jsonl", "texts.json", "-"])
def test_labels_and_scores_of_every_kind_of_file_are_the_pipelines(folder, tmp_path, monkeypatch, name, multi_label):
    texts, out = texts_of(folder), tmp_path / "out.jsonl"
    frame, path = pd.DataFrame({"id": range(len(texts)), "text": texts}), tmp_path / name
    match path.suffix:
        case ".csv" | ".tsv":
            frame.to_csv(path, index=False, sep="," if name.endswith("csv") else "\t")
        case ".jsonl" | ".json":
            frame.to_json(path, orient="records", lines=name.endswith("l"))
        case _:
            path = folder / "texts.txt"
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert command(folder, name if name == "-" else path, "--output", out, *["--multi_label"] * multi_label) == 0
    stock = pipeline("zero-shot-classification", model=str(folder / "model"), device="cpu")
    for row, expected in zip(rows(out), stock(texts, TOPICS, multi_label=multi_label), strict=True):
        assert (row["sequence"], row["labels"]) == (expected["sequence"], expected["labels"])
        assert row["label"] == expected["labels"][0]
        np.testing.assert_allclose(row["scores"], expected["scores"], atol=1e-4)
    assert not list(tmp_path.glob("*.part"))


def test_threshold_and_top_k_choose_among_the_pipelines_answers(folder, tmp_path):
    words = ["--multi_label", "--threshold", 0.5, "--top_k", 2]
    for name in ("out.jsonl", "out.csv"):
        assert command(folder, folder / "texts.txt", "--output", tmp_path / name, *words) == 0
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    stock = pipeline("zero-shot-classification", model=str(folder / "model"), device="cpu")
    expected = stock(texts_of(folder), TOPICS, multi_label=True)
    for row, line, answer in zip(rows(tmp_path / "out.jsonl"), table, expected, strict=True):
        kept = [label for label, score in zip(answer["labels"], answer["scores"], strict=True) if score >= 0.5][:2]
        assert row["labels"] == kept and row["label"] == [*kept, "none of these"][0]
        assert line["text"] == answer["sequence"]
        assert [line["label"], line["label_2"]] == [*kept, "none of these" if not kept else "", ""][:2]
    assert {len(row["labels"]) for row in rows(tmp_path / "out.jsonl")} >= {0, 1}  # both cases are there


@pytest.mark.parametrize("words", [["cat, old house,garden"], ["cat,", "old", "house,", "garden"], TOPICS])
def test_labels_with_commas_between_them_are_one_list(words):
    assert read_labels(ClassifyOptions(model="m", file="f", candidate_labels=words)) == TOPICS


def test_without_output_results_go_to_stdout(folder, capsys):
    labels = folder / "labels.txt"
    labels.write_text("cat\n\nold house\ngarden\n", encoding="utf-8")
    assert command(folder, folder / "texts.txt", "--labels_file", labels, labels=()) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 31)) and set(lines[0]["labels"]) == set(TOPICS)


# ---------------------------------------------------------------------------------------------------------------------
# Stopped, and gone on


def stop_after(monkeypatch, groups: int, number: signal.Signals) -> list[int]:
    """The signal arrives in the group after so many; the list has the sizes of the groups that were scored."""
    scores, sizes = Scorer.scores, []

    def stopping(self, texts, *more, **options):
        if len(sizes) == groups:
            os.kill(os.getpid(), number)
        sizes.append(len(texts))
        return scores(self, texts, *more, **options)

    monkeypatch.setattr(Scorer, "scores", stopping)
    return sizes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(folder, tmp_path, monkeypatch, capsys, number, ending):
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    assert command(folder, folder / "texts.txt", "--output", whole) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 3, number)
        capsys.readouterr()
        assert command(folder, folder / "texts.txt", "--output", out) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert "12 of 30" in line and "classify.py" in line and not out.exists()
    # What a kill leaves: half a line, and before it rows of a group that is not whole.
    (part,) = tmp_path.glob("*.part")
    kept = part.read_bytes()
    part.write_bytes(kept + kept.splitlines(keepends=True)[0] + b"[0.25, 0.")
    sizes = stop_after(monkeypatch, 99, number)
    # A threshold decides no score: the run goes on with it.
    assert command(folder, folder / "texts.txt", "--output", out, "--threshold", 0.0) == 0
    assert sum(sizes) == 30 - 12
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, whole.name]


@pytest.mark.parametrize("change", ["labels", "text", "dtype", "model"])
def test_what_changes_a_score_starts_anew(folder, tmp_path, monkeypatch, change):
    out, texts = tmp_path / "out.jsonl", tmp_path / "texts.txt"
    texts.write_bytes((folder / "texts.txt").read_bytes())
    (tmp_path / "model").symlink_to(folder / "model")
    with monkeypatch.context() as patch:
        stop_after(patch, 2, signal.SIGTERM)
        assert command(tmp_path, texts, "--output", out) == 128 + signal.SIGTERM
    options = {}
    match change:
        case "labels":
            options["labels"] = ["cat", "old house", "dog"]
        case "text":
            texts.write_bytes(texts.read_bytes().replace(b"29", b"28"))
        case "dtype":
            options["dtype"] = "bfloat16"
        case "model":
            (tmp_path / "model").unlink()
            tiny_bart(tmp_path / "model", seed=1, max_position_embeddings=64)
    sizes = stop_after(monkeypatch, 99, signal.SIGTERM)
    assert command(tmp_path, texts, "--output", out, **options) == 0
    assert sum(sizes) == 30


def test_never_more_than_a_group_of_texts_is_read_ahead(folder, tmp_path, monkeypatch):
    read, scored = [0], [0]
    stream, scores = Texts.__iter__, Scorer.scores

    def counting(self):
        read[0] = 0
        for row in stream(self):
            read[0] += 1
            assert not scored[0] or read[0] <= scored[0] + 4 or scored[0] == 30
            yield row

    def scoring(self, texts, *more, **options):
        assert len(texts) <= 4
        scored[0] += len(texts)
        return scores(self, texts, *more, **options)

    monkeypatch.setattr(Texts, "__iter__", counting)
    monkeypatch.setattr(Scorer, "scores", scoring)
    assert command(folder, folder / "texts.txt", "--output", tmp_path / "out.jsonl") == 0
    assert scored == [30]


# ---------------------------------------------------------------------------------------------------------------------
# Refused


@pytest.mark.parametrize(
    ("content", "words", "told"),
    [
        ("a\n\nb\n", [], "line 2"),
        ("a\n   \n", [], "line 2"),
        ("", [], "no texts"),
        ("a\n\xff\n", [], "line 2"),
        ("a\n", ["--output", "out.xlsx"], "xlsx"),
        ("a\n", ["--output", "."], "--output"),
        ("a\n", ["--output", "none/there.csv", "--threshold", "2"], "threshold"),
        ("a\n", ["--top_k", "0"], "top_k"),
        ("a\n", ["--top_k", "all"], "top_k"),
        ("a\n", ["--format", "jsonl"], "line 1"),
        ("a\n", ["--format", "csv"], "--text_key"),
        ("a\n", ["--hypothesis_template", "about"], "hypothesis_template"),
        ("a\n", ["--labels_file", "labels.txt"], "labels"),
        ("a\n", ["--batch_size", "8"], "batch_size"),
        ("a\n", ["--lables", "8"], "lables"),
        ("a\n", ["--backend", "onnx", "--dtype", "bfloat16"], "bfloat16"),
        ("a\n", ["--dtype", "int8"], "int8"),
        ("a\n", ["--dtype", "float16"], "float16"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, tmp_path, monkeypatch, capsys, content, words, told):
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_bytes(content.encode("latin-1"))
    before = everything_in(tmp_path)
    assert command(folder, "texts.txt", *words) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and told in captured.err and captured.out == ""
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["cat"], "multi_label"),
        (["cat", "dog", "cat"], "cat"),
        (["cat", ""], "candidate_labels"),
        (["cat,cat"], "cat"),
        ((), "labels"),
        (["cat", "big old " * 60], "big old"),
    ],
)
def test_bad_labels_are_refused(folder, capsys, labels, told):
    assert command(folder, folder / "texts.txt", labels=labels) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and told in captured.err and captured.out == ""


def test_models_files_and_outputs_that_cannot_be_used(folder, tmp_path, capsys):
    for model, file, words in (
        (tmp_path / "none", folder / "texts.txt", []),
        (folder, folder / "texts.txt", []),
        (folder / "model", tmp_path / "none.csv", []),
        (folder / "model", folder, []),
        (folder / "model", folder / "texts.txt", ["--output", tmp_path / "old.csv"]),
        (folder / "model", folder / "texts.txt", ["--output", tmp_path / "old.csv" / "new.csv"]),
    ):
        (tmp_path / "old.csv").write_text("mine")
        with as_in_a_new_process("classify.py", model, file, "--candidate_labels", *TOPICS, *words):
            assert run_command(classify.main) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert (tmp_path / "old.csv").read_text() == "mine"
    words = ["--output", tmp_path / "old.csv", "--overwrite"]
    assert command(folder, folder / "texts.txt", *words) == 0
    assert (tmp_path / "old.csv").read_text().startswith("line,text,label,score\n")


def test_bad_rows_are_left_out_where_that_is_asked(folder, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "a cat"}\n{"text": ""}\nno json\n{"id": 1}\n{"text": "dog"}\n')
    out = tmp_path / "out.jsonl"
    assert command(folder, tmp_path / "texts.jsonl", "--output", out) == 2
    assert command(folder, tmp_path / "texts.jsonl", "--output", out, "--skip_bad_rows") == 0
    assert [(row["line"], row["sequence"]) for row in rows(out)] == [(1, "a cat"), (5, "dog")]
