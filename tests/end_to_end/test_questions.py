"""examples/questions: every cell of the plan is run with the command that its row shows, and nothing is run twice.

The commands run in this process (tests/support/in_process.py). References: the teacher's tensors as stock transformers
reads them, scikit-learn's accuracy on the predictions of a run, and a table worked out by hand.
"""

import csv
import json
import shlex
from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score
from transformers import BartForSequenceClassification

from distilbart_mnli.errors import InputError, RunError
from examples import common
from examples.questions import __main__ as driver
from examples.questions import fresh_student
from examples.questions.plan import Plan, questions, runs
from tests.support.in_process import script
from tests.support.tiny import tiny_bart, tiny_mnli

pytestmark = pytest.mark.xdist_group("questions")
LAYERS = ".decoder.layers."
MODULES = {"examples.questions.fresh_student": fresh_student.main}


def options(folder: Path) -> list[str]:
    sizes = "--decoder_layers 1 2 --main_layers 1 --train_rows 32 --seeds 1 2".split()
    named = ["--teacher", folder / "teacher", "--data_dir", folder / "data", "--output_dir", folder / "out"]
    return [*map(str, named), *sizes]


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> tuple[Path, list[list[str]]]:
    """The folder of a whole call, and what it gave to python."""
    folder = tmp_path_factory.mktemp("questions")
    tiny_bart(folder / "teacher", decoder_layers=3)
    tiny_mnli(folder / "data", train=40)
    ran: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            common,
            "execute",
            lambda words: ran.append(words) or script(words, MODULES),
        )
        driver.main(options(folder))
    return folder, ran


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return BartForSequenceClassification.from_pretrained(folder).state_dict()


def differing(folder: Path, other: Path) -> set[str]:
    first, second = weights(folder), weights(other)
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def test_the_plan_has_the_cells_of_every_question_and_three_seeds_for_two_students():
    plan = Plan(encoder_layers=6, teacher_decoder_layers=6)
    cells = {(s.student, s.kind, s.rows, s.epochs, s.encoder): set() for s, _ in runs(plan)}
    for setting, seed in runs(plan):
        cells[setting.student, setting.kind, setting.rows, setting.epochs, setting.encoder].add(seed)
    assert cells[("6-6", "teacher", 0, 0, "")] == {1}
    for student, seeds in (("6-1", {1, 2, 3}), ("6-2", {1}), ("6-3", {1, 2, 3}), ("6-4", {1})):
        assert cells[(student, "copied", 0, 0, "")] == {1}
        assert cells[(student, "copied", 4000, 2, "")] == cells[(student, "fresh", 4000, 2, "")] == seeds
        if student != "6-1":  # the table of 2020 copies layer 0 into 6-1: the first one
            assert cells[(student, "first", 4000, 2, "")] == seeds
    for student in ("6-1", "6-3"):
        assert cells[(student, "copied", 4000, 1, "")] == {1, 2, 3}
        for encoder in ("", "dropout", "trained"):
            assert cells[(student, "copied", 4000, 2, encoder)] == {1, 2, 3}
    assert not any(kind == "first" and student == "6-1" for student, kind, *_ in cells)
    assert len(runs(plan)) == len(set(runs(plan)))


def test_fresh_layers_are_new_and_everything_else_is_the_students(answered):
    students = answered[0] / "out" / "students"
    copied, one, two = (students / f"2-1-{kind}" for kind in ("copied", "fresh-seed1", "fresh-seed2"))
    for fresh, other in ((one, copied), (two, copied), (one, two)):
        changed = differing(fresh, other)
        assert changed and all(LAYERS in name for name in changed)
    new = {name: tensor for name, tensor in weights(one).items() if LAYERS in name}
    assert {name for name in new if name.endswith(("proj.weight", "fc1.weight", "fc2.weight"))} <= differing(
        one, copied
    )
    for name, tensor in new.items():
        if "layer_norm.weight" in name:
            assert (tensor == 1).all()
        elif name.endswith("bias"):
            assert (tensor == 0).all()
        else:
            assert float(tensor.std()) == pytest.approx(0.2, rel=0.15)  # init_std of tests/support/tiny.py


def test_the_copied_students_hold_the_teachers_layers(answered):
    out, teacher = answered[0] / "out" / "students", weights(answered[0] / "teacher")
    for student, kept in (("2-1-copied", [0]), ("2-2-copied", [0, 2]), ("2-2-first", [0, 1])):
        for name, tensor in weights(out / student).items():
            head, is_layer, rest = name.partition(LAYERS)
            if is_layer:
                number, _, rest = rest.partition(".")
                name = f"{head}{LAYERS}{kept[int(number)]}.{rest}"
            assert torch.equal(tensor, teacher[name])


@pytest.mark.parametrize("encoder", ["", "-dropout", "-trained"])
def test_the_encoder_is_trained_where_the_row_says_so_alone(answered, encoder):
    out = answered[0] / "out"
    run = out / "runs" / f"2-1-copied-32x2{encoder}-seed2"
    changed = differing(run, out / "students" / "2-1-copied")
    assert any(LAYERS in name for name in changed)
    assert any(".encoder.layers." in name for name in changed) == (encoder == "-trained")
    args = json.loads((run / "training_args.json").read_text())
    assert args["frozen_encoder_dropout"] == (encoder == "-dropout")
    assert (args["max_train_samples"], args["num_train_epochs"], args["seed"]) == (32, 2, 2)


def test_the_table_has_every_cell_and_the_figures_of_the_runs(answered):
    folder, _ = answered
    text = (folder / "out" / "results.md").read_text()
    plan = Plan(2, 3, (1, 2), (1,), 32, seeds=(1, 2))
    assert text.count("`") // 2 == sum(len(question.rows) for question in questions(plan))
    assert "not run" not in text
    for question in questions(plan):
        assert f"## {question.title}\n" in text
    with (folder / "out/runs/2-2-first/eval_predictions_mnli.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    accuracy = 100 * accuracy_score([row["label"] for row in rows], [row["prediction"] for row in rows])
    line = next(line for line in text.splitlines() if line.startswith("| first layers, not fine-tuned | 2-2 "))
    assert line.split(" | ")[1:6] == ["2-2", "none", "0", "none", f"{accuracy:.2f}"]


def test_a_rows_command_is_what_ran(answered):
    folder, ran = answered
    shown = [line.rsplit("`", 2)[1] for line in (folder / "out/results.md").read_text().splitlines() if "`" in line]
    expected = set()
    for command in shown:
        loop, is_loop, body = command.partition("; do ")
        bodies = [body.removesuffix("; done").replace("$seed", seed) for seed in loop.split()[3:]]
        expected.update(bodies if is_loop else [command])
    names = {"$TEACHER": "teacher", "$DATA_DIR": "data", "$OUTPUT_DIR": "out"}
    for name, part in names.items():
        expected = {line.replace(name, str(folder / part)) for line in expected}
    assert expected == {shlex.join(["python", *words]) for words in ran if "run_glue.py" in words}


def test_a_second_call_runs_nothing_and_a_damaged_run_is_run_again(answered, capsys, monkeypatch):
    folder, ran = answered
    table = (folder / "out" / "results.md").read_bytes()
    monkeypatch.setattr(common, "execute", lambda words: pytest.fail(f"ran {words}"))
    driver.main(options(folder))
    assert (folder / "out" / "results.md").read_bytes() == table
    results = folder / "out/runs/2-1-fresh-32x2-seed2/all_results.json"
    whole = results.read_text()
    trained_only = json.dumps({"train_runtime": 1.0})  # killed before its evaluation
    for damaged in (whole[:20], trained_only):
        results.write_text(damaged)
        capsys.readouterr()
        driver.main([*options(folder), "--dry_run"])
        assert capsys.readouterr().out.splitlines() == [
            shlex.join(["python", *words]) for words in ran if words[-1] == str(results.parent)
        ]
    results.write_text(whole)


def test_a_table_by_hand(tmp_path):
    tiny_bart(tmp_path / "teacher", decoder_layers=3)
    for seed, accuracy, seconds in ((1, 0.7, 10.2), (2, 0.73, 11.9)):
        run = tmp_path / f"out/runs/2-1-copied-32x1-seed{seed}"
        run.mkdir(parents=True)
        values = {"eval_accuracy": accuracy, "eval_accuracy_mm": accuracy + 0.01, "eval_samples": 9}
        (run / "all_results.json").write_text(json.dumps({**values, "train_runtime": seconds}))
    driver.main([*options(tmp_path), "--table_only"])
    lines = (tmp_path / "out/results.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith("| 1 epoch "))
    figures = "71.50 (70.00..73.00) | 72.50 (71.00..74.00) | 11 (10..12)"
    assert line.startswith(f"| 1 epoch | 2-1 | 32 | 1 | 1, 2 | {figures} | `for seed in 1 2; do ")
    assert "| 2 epochs | 2-1 | 32 | 2 | not run |  |  |  | `" in "\n".join(lines)


def test_a_failed_run_stops_the_call_with_its_command(tmp_path, monkeypatch):
    tiny_bart(tmp_path / "teacher", decoder_layers=3)
    monkeypatch.setattr(common, "execute", lambda words: 2)
    with pytest.raises(RunError, match=r"code 2 .*create_student\.py .*2-1-copied") as failed:
        driver.main(options(tmp_path))
    assert failed.value.exit_code == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--seeds", "1", "1"], "--seeds"),
        (["--main_layers", "3"], "--main_layers"),
        (["--decoder_layers", "1", "4"], "3 layers"),
        (["--train_rows", "0"], "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, changes, named):
    tiny_bart(tmp_path / "teacher", decoder_layers=3)
    with pytest.raises(InputError, match=named):
        driver.main([*options(tmp_path), *changes])
