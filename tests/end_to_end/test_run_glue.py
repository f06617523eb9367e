"""run_glue.py from its command line to its files: what a user gives it, what it says, and what it leaves behind."""

import csv
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BartForSequenceClassification

from tests.support.files import edit_config, everything_in
from tests.support.in_process import glue, results, state
from tests.support.launch import run
from tests.support.tiny import GLUE_LABELS, MNLI_COLUMNS, ROOT, TEACHER_LABELS, tiny_bart, tiny_mnli

RESULT_FILES = {
    *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training_args.json"),
    *(
        "eval_results_mnli.txt",
        "eval_results_mnli-mm.txt",
        "eval_predictions_mnli.tsv",
        "eval_predictions_mnli-mm.tsv",
    ),
    *("all_results.json", "trainer_state.json", "training_curves.png", "README.md"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny_bart(folder / "student")
    tiny_mnli(folder / "data", train=24)
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """A current folder with `student` and `data`; the caches are elsewhere."""
    here = tmp_path / "here"
    shutil.copytree(made, here)
    monkeypatch.chdir(here)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return here


BASE = ["--model_name_or_path", "student", "--task_name", "MNLI", "--data_dir", "data", "--use_cpu", "--disable_tqdm"]
TRAIN = ["--do_train", "--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--save_strategy", "no"]


def refused(capsys, place, *words) -> str:
    """The one line of a run that exits with 2 and leaves everything as it was."""
    before = everything_in(place)
    capsys.readouterr()
    assert glue(*words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: ") and "Traceback" not in said
    assert everything_in(place) == before
    return said.removeprefix("error: ").rstrip("\n")


def predictions(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def logits(path: Path) -> np.ndarray:
    return np.array([[float(row[f"logit_{name}"]) for name in TEACHER_LABELS] for row in predictions(path)])


def rewrite(path: Path, change) -> None:
    """Change a file's lines."""
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(change(lines)))


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


def without_column(name: str):
    index = MNLI_COLUMNS.index(name)
    return lambda lines: [b"\t".join(f for i, f in enumerate(line.split(b"\t")) if i != index) for line in lines]


def line_5(change):
    return lambda lines: [*lines[:4], change(lines[4]), *lines[5:]]


BAD_ROWS = {
    "a missing column": (without_column("sentence2"), ["sentence2"]),
    "no label column": (without_column("gold_label"), ["gold_label"]),
    "too few fields": (line_5(lambda line: b"\t".join(line.split(b"\t")[:9])), ["line 5", "9 fields", "12"]),
    "a tab too many": (line_5(lambda line: line.replace(b"fiction", b"a\tb")), ["line 5", "13 fields", "12"]),
    "an unknown label": (
        line_5(lambda line: line.rpartition(b"\t")[0] + b"\tmaybe"),
        ["line 5", "'maybe'", "gold_label", *GLUE_LABELS],
    ),
    "no rows": (lambda lines: lines[:1], ["no rows"]),
    "nothing at all": (lambda lines: [], ["empty"]),
    "invalid UTF-8": (line_5(lambda line: line.replace(b"fiction", b"fi\xffction")), ["line 5"]),
}


@pytest.mark.parametrize("file", ["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"])
@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_faulty_data_file_is_named_with_its_line_and_nothing_is_written(capsys, place, file, fault):
    change, named = BAD_ROWS[fault]
    rewrite(place / "data" / file, change)
    said = refused(capsys, place, *BASE, *TRAIN, "--do_eval", "--output_dir", "a/b/out")
    assert all(subject in said for subject in (f"data/{file}", *named)), said


def test_a_training_into_the_folder_of_a_model_is_refused(capsys, place):
    said = refused(capsys, place, *BASE, *TRAIN, "--output_dir", "student")
    assert "output_dir student" in said and "--overwrite_output_dir" in said


BAD_WORDS = {
    "an unknown option": (["--learning_rte", "1"], ["learning_rte", "did you mean learning_rate?"]),
    "a wrong type": (["--seed", "many"], ["seed", "'many'"]),
    "nothing to do": (["--no_do_train", "--no_do_eval"], ["nothing to do"]),
    "a missing data folder": (
        ["--data_dir", "glue_data/MNLI"],
        ["download_glue_data.py --data_dir glue_data --tasks MNLI"],
    ),
    "the folder above": (["--data_dir", "."], ["MNLI has it"]),
    "a missing model": (["--model_name_or_path", "/no/such/model"], ["model /no/such/model"]),
    "a missing configuration": (["--config_name", "/no/such/config"], ["/no/such/config"]),
    "an unknown task": (["--task_name", "MLNI"], ["did you mean mnli?"]),
    "too long a sequence": (["--max_seq_length", "4096"], ["max_seq_length 4096", "128"]),
    "too short a sequence": (["--max_seq_length", "3"], ["max_seq_length 3"]),
    "a batch that does not divide": (["--effective_batch_size", "20"], ["effective_batch_size 20", "8"]),
    "an output_dir that is a file": (["--output_dir", "data/train.tsv"], ["data/train.tsv is a file"]),
    "an output_dir under a file": (["--output_dir", "data/train.tsv/out"], ["data/train.tsv is a file"]),
    "an output_dir that cannot be made": (["--output_dir", "/proc/no/out"], ["/proc"]),
    "the wrong number of processes": (["--expected_num_processes", "3"], ["expected_num_processes is 3"]),
    "another task's head": (["--task_name", "RTE", "--data_dir", "rte"], ["--reinit_classifier true"]),
    "a tracker that does not exist": (["--report_to", "comet"], ["comet", "tensorboard, wandb, trackio"]),
    "an unknown metric": (
        ["--metric_for_best_model", "f1", "--eval_strategy", "epoch"],
        ["metric_for_best_model f1", "mnli", "loss, accuracy"],
    ),
}


@pytest.mark.parametrize("fault", BAD_WORDS)
def test_a_faulty_option_is_told_in_one_line_and_nothing_is_written(capsys, place, fault):
    words, named = BAD_WORDS[fault]
    (place / "data" / "MNLI").mkdir()
    (place / "data" / "MNLI" / "train.tsv").write_text("")
    (place / "rte").mkdir()
    for name in ("train", "dev"):
        (place / "rte" / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n")
    if fault == "the folder above":
        shutil.move(place / "data" / "MNLI", place / "MNLI")
        (place / "MNLI" / "dev_matched.tsv").write_text("")
    output = ["--output_dir", "out"]
    said = refused(capsys, place, *BASE, *TRAIN, "--do_eval", *output, *words)
    assert all(subject in said for subject in named), said


def test_a_faulty_file_of_options_is_told_in_one_line_and_nothing_is_written(capsys, place):
    (place / "args.json").write_text('{"do_train": true,\n "seed": }')
    assert "args.json, line 2" in refused(capsys, place, "args.json")
    assert "absent.json" in refused(capsys, place, "absent.json")


def test_labels_that_cannot_be_matched_stop_the_run(capsys, place):
    labels = {"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}
    edit_config(place / "student", **labels)
    said = refused(capsys, place, *BASE, "--do_eval", "--output_dir", "out")
    assert all(subject in said for subject in ("no, maybe, yes", "mnli", "--reinit_classifier true")), said


def test_bad_rows_are_dropped_and_counted_where_that_is_asked_for(place, caplog):
    rewrite(place / "data/dev_matched.tsv", BAD_ROWS["too few fields"][0])
    assert glue(*BASE, "--do_eval", "--output_dir", "out", "--skip_bad_rows") == 0
    assert "1 bad rows (line 5)" in caplog.text
    assert results(place / "out")["eval_samples"] == 20


# ---------------------------------------------------------------------------------------------------------------------
# The verbatim file of 2020


def test_the_file_of_2020_runs_on_a_cpu_without_a_network(tmp_path):
    tiny_bart(tmp_path / "student-bart-mnli-12-6")
    tiny_mnli(tmp_path / "glue_data" / "MNLI")
    before = {path.name for path in tmp_path.iterdir()}
    caches = {"XDG_CACHE_HOME": str(tmp_path / "caches"), "HF_HOME": str(tmp_path / "hub")}
    done = run("run_glue.py", ROOT / "args.json", cwd=tmp_path, env=caches, check=True)
    assert {path.name for path in tmp_path.iterdir()} - before == {"distilbart-mnli-12-6", "caches", "hub"}
    out = tmp_path / "distilbart-mnli-12-6"
    assert {path.name for path in out.iterdir()} == RESULT_FILES | {"checkpoint-2"}
    assert "32 x 4 x 1 process = 128 examples a step" in done.stderr
    assert "eval_strategy=steps" in done.stderr  # what evaluate_during_training is now
    assert "tokenizer facebook/bart-large-mnli" in done.stderr
    assert sum("WARNING" in line and "fp16" in line for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    found = results(out)
    assert (found["epoch"], found["eval_samples"], found["eval_samples_mm"], found["train_samples"]) == (
        2.0,
        21,
        13,
        48,
    )
    assert [entry["step"] for entry in state(out)["log_history"] if "loss" in entry] == [1, 2]
    assert state(out)["max_steps"] == 2
    saved = json.loads((out / "training_args.json").read_text())
    assert (saved["learning_rate"], saved["run_name"]) == (3e-5, "distilbart-mnli-12-6_v0")
    assert str(tmp_path) not in (out / "training_args.json").read_text()
    assert "hub_token" not in saved
    with safe_open(out / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float32}  # noqa: SIM118 - no mapping


# ---------------------------------------------------------------------------------------------------------------------
# What is left behind


@pytest.fixture
def trained(place) -> Path:
    """A run with training and evaluation, whose learning rate moves the model."""
    words = ["--learning_rate", "0.003", "--logging_steps", "1", "--output_dir", "out", "--freeze_encoder"]
    assert glue(*BASE, *TRAIN, "--do_eval", *words) == 0
    return place / "out"


def test_a_run_leaves_the_documented_files_and_a_stock_model(trained):
    assert {path.name for path in trained.iterdir()} == RESULT_FILES
    config = json.loads((trained / "config.json").read_text())
    assert config["architectures"] == ["BartForSequenceClassification"]
    assert config["id2label"] == {str(index): name for index, name in enumerate(TEACHER_LABELS)}
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    assert type(model) is BartForSequenceClassification
    tables = (model.model.shared, model.model.encoder.embed_tokens, model.model.decoder.embed_tokens)
    assert len({table.weight.data_ptr() for table in tables}) == 1
    values = results(trained)
    assert {
        "eval_accuracy",
        "eval_accuracy_mm",
        "eval_loss",
        "eval_loss_mm",
        "eval_samples",
        "eval_samples_mm",
    } <= set(values)
    assert {"train_loss", "train_runtime", "train_samples_per_second", "epoch"} <= set(values)


def test_logits_predictions_and_accuracy_are_those_of_the_saved_model_run_by_hand(trained, place):
    model, tokenizer = (
        BartForSequenceClassification.from_pretrained(trained).eval(),
        AutoTokenizer.from_pretrained(trained),
    )
    for name, file, suffix in (("mnli", "dev_matched", ""), ("mnli-mm", "dev_mismatched", "_mm")):
        rows = [line.split("\t") for line in (place / "data" / f"{file}.tsv").read_text().splitlines()[1:]]
        expected = []
        for row in rows:
            with torch.no_grad():
                expected.append(model(**tokenizer(row[8], row[9], return_tensors="pt")).logits[0].numpy())
        found = logits(trained / f"eval_predictions_{name}.tsv")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        predicted = [TEACHER_LABELS[index] for index in np.argmax(expected, axis=1)]
        listed = predictions(trained / f"eval_predictions_{name}.tsv")
        assert [row["prediction"] for row in listed] == predicted
        assert [row["label"] for row in listed] == [row[-1] for row in rows]
        accuracy = np.mean([p == row[-1] for p, row in zip(predicted, rows, strict=True)])
        assert results(trained)[f"eval_accuracy{suffix}"] == pytest.approx(accuracy)
        text = (trained / f"eval_results_{name}.txt").read_text()
        assert f"eval_samples = {len(rows)}\n" in text and f"eval_accuracy = {accuracy}\n" in text


def test_an_evaluation_alone_merges_its_keys_and_changes_nothing_else(trained, place):
    before, values = everything_in(trained), results(trained)
    changed = {**values, "eval_accuracy": -1.0, "eval_loss_mm": -1.0, "kept": "a key of someone's own"}
    (trained / "all_results.json").write_text(json.dumps(changed))
    words = [word if word != "student" else "out" for word in BASE]
    assert glue(*words, "--do_eval", "--output_dir", "out") == 0
    after, merged = everything_in(trained), results(trained)
    times = {key for key in values if key.startswith("eval_runtime")}
    assert {k: v for k, v in merged.items() if k not in times} == {
        **{k: v for k, v in values.items() if k not in times},
        "kept": "a key of someone's own",
    }
    assert {name for name in after if after[name] != before.get(name)} == {"all_results.json"}


def test_a_model_evaluated_into_another_folder_leaves_results_only(place):
    assert glue(*BASE, "--do_eval", "--output_dir", "a/results", "--max_eval_samples", "5") == 0
    assert {path.name for path in (place / "a/results").iterdir()} == {
        name for name in RESULT_FILES if name.startswith("eval_") or name == "all_results.json"
    }
    assert results(place / "a/results")["eval_samples_mm"] == 5


def test_a_training_of_the_first_examples_is_a_training_on_a_shorter_file(place):
    words = [*BASE, *TRAIN, "--learning_rate", "0.003"]
    assert glue(*words, "--max_train_samples", "11", "--output_dir", "first") == 0
    rewrite(place / "data/train.tsv", lambda lines: lines[:12])
    assert glue(*words, "--output_dir", "short") == 0
    assert (place / "first/model.safetensors").read_bytes() == (place / "short/model.safetensors").read_bytes()
    assert results(place / "first")["train_samples"] == 11


def test_a_model_is_trained_from_scratch_from_a_configuration(place):
    (place / "student/model.safetensors").rename(place / "other.safetensors")
    words = [word if word != "--model_name_or_path" else "--config_name" for word in BASE]
    assert glue(*words, *TRAIN, "--do_eval", "--output_dir", "out") == 0
    found = json.loads((place / "out/config.json").read_text())
    assert found["architectures"] == ["BartForSequenceClassification"] and found["decoder_layers"] == 2


def test_yaml_and_flags_and_json_give_the_same_model(place):
    words = [*TRAIN, "--learning_rate", "0.003"]
    assert glue(*BASE, *words, "--output_dir", "flags") == 0
    values = {"model_name_or_path": "student", "task_name": "MNLI", "data_dir": "data", "use_cpu": True}
    values |= {"disable_tqdm": True, "do_train": True, "num_train_epochs": 1, "per_device_train_batch_size": 8}
    values |= {"save_strategy": "no"}
    (place / "a.json").write_text(json.dumps({**values, "learning_rate": 1.0, "output_dir": "json"}))
    (place / "a.yaml").write_text("\n".join(f"{k}: {v}" for k, v in {**values, "learning_rate": "3e-3"}.items()))
    assert glue("a.json", "--learning_rate", "3e-3") == 0
    assert glue("a.yaml", "--output_dir", "yaml") == 0
    models = [(place / name / "model.safetensors").read_bytes() for name in ("flags", "json", "yaml")]
    assert models[0] == models[1] == models[2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_final_model_can_be_saved_in_half_precision(place, dtype):
    assert glue(*BASE, *TRAIN, "--output_dir", "out", "--save_dtype", dtype) == 0
    config = json.loads((place / "out/config.json").read_text())
    assert config["dtype"] == dtype
    model = AutoModelForSequenceClassification.from_pretrained(place / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert model.model.shared.weight.data_ptr() == model.model.decoder.embed_tokens.weight.data_ptr()


def test_the_stock_zero_shot_pipeline_loads_the_result_and_ranks_as_nli_by_hand(trained):
    classify = transformers.pipeline("zero-shot-classification", model=str(trained), device="cpu")
    labels, text, template = ["dog", "garden", "bird"], "the big dog sees a cat in the garden", "this is about {}"
    found = classify(text, labels, hypothesis_template=template, multi_label=True)
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(trained),
        AutoTokenizer.from_pretrained(trained),
    )
    for label, score in zip(found["labels"], found["scores"], strict=True):
        inputs = tokenizer(text, template.format(label), return_tensors="pt")
        with torch.no_grad():
            row = model.eval()(**inputs).logits[0]
        # entailment against contradiction, as the teacher's config names them
        assert score == pytest.approx(float(row[[0, 2]].softmax(0)[1]), rel=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Text as it is


def with_rows(place: Path, pairs) -> None:
    """dev_matched.tsv with these pairs, labelled neutral, after its own rows."""
    rows = [["0", "", "", "", "", "", "", "", first, second, "neutral", "neutral"] for first, second in pairs]
    with (place / "data/dev_matched.tsv").open("a", encoding="utf-8") as file:
        file.write("".join("\t".join(row) + "\n" for row in rows))


STRANGE = [
    ('he said "the cat', 'the dog" not'),
    ('"', '""'),
    ('"the cat" sees "a dog"', "a 'dog'"),
    ("the cat\u2028sees", "a\x85dog \x0b"),
    ("", ""),
    ("ünïcödé 漢字 🐈", "the cat"),
    ("</s>", "</s></s> the"),
    ("the </s> cat", "a <pad> dog <pad>"),
    ("<pad>", "<s> <mask> <unk>"),
    ("the cat " * 100, "a dog </s>"),
]


def test_quotes_and_special_tokens_in_a_text_neither_crash_nor_touch_other_rows(place):
    words = [*BASE, "--do_eval", "--per_device_eval_batch_size", "64"]
    assert glue(*words, "--output_dir", "plain") == 0
    with_rows(place, STRANGE)
    assert glue(*words, "--output_dir", "strange") == 0
    plain, strange = (logits(place / name / "eval_predictions_mnli.tsv") for name in ("plain", "strange"))
    assert len(strange) == len(plain) + len(STRANGE)
    np.testing.assert_allclose(strange[: len(plain)], plain, rtol=1e-5, atol=1e-5 * np.abs(plain).max())
    # Each strange row as stock sees it alone (stock refuses only batches whose rows differ in their number of eos).
    model, tokenizer = (
        BartForSequenceClassification.from_pretrained("student").eval(),
        AutoTokenizer.from_pretrained("student"),
    )
    for (first, second), found in zip(STRANGE, strange[len(plain) :], strict=True):
        # In lists: called with a bare "", the tokenizer takes the second text for absent.
        inputs = tokenizer([first], [second], truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(plain).max())


def test_a_text_with_special_tokens_trains(place):
    lines = (place / "data/train.tsv").read_text(encoding="utf-8").splitlines()
    for row, (first, second) in enumerate(STRANGE, start=1):
        fields = lines[row].split("\t")
        lines[row] = "\t".join([*fields[:8], first, second, *fields[10:]])
    (place / "data/train.tsv").write_bytes(("\n".join(lines) + "\n").encode())
    assert glue(*BASE, *TRAIN, "--do_eval", "--output_dir", "out") == 0
    assert np.isfinite(logits(place / "out/eval_predictions_mnli.tsv")).all()


# ---------------------------------------------------------------------------------------------------------------------
# Labels end to end


@pytest.mark.parametrize(
    "names", [GLUE_LABELS, ("NEUTRAL", "ENTAILMENT", "CONTRADICTION"), ("LABEL_0", "LABEL_1", "LABEL_2")]
)
def test_the_accuracy_does_not_depend_on_the_order_of_a_model_s_labels(place, names):
    """The head's rows are moved with the names: the same model must get the same score."""
    assert glue(*BASE, "--do_eval", "--output_dir", "teacher_order") == 0
    wanted = [name.lower() for name in names] if names[0] != "LABEL_0" else list(GLUE_LABELS)
    order = [TEACHER_LABELS.index(name) for name in wanted]
    model = BartForSequenceClassification.from_pretrained("student")
    with torch.no_grad():
        head = model.classification_head.out_proj
        head.weight.copy_(head.weight[order])
        head.bias.copy_(head.bias[order])
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    model.save_pretrained("other")
    shutil.copy("student/tokenizer.json", "other")
    shutil.copy("student/tokenizer_config.json", "other")
    words = [word if word != "student" else "other" for word in BASE]
    assert glue(*words, "--do_eval", "--output_dir", "other_order") == 0
    one, two = results(place / "teacher_order"), results(place / "other_order")
    for key in ("eval_accuracy", "eval_accuracy_mm"):
        assert one[key] == two[key]
    for key in ("eval_loss", "eval_loss_mm"):
        assert one[key] == pytest.approx(two[key], rel=1e-6)
