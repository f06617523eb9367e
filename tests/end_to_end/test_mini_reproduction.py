"""The mini reproduction on a random BERT and tiny data: every step, in order, once, whatever interrupts it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import create_student
from distilbart_mnli.errors import CommandError, InputError, run_command
from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.train import stages
from distilbart_mnli.train.loop import Training
from examples import common
from examples.mini_reproduction import bert_to_bart, reproduce
from tests.support.in_process import as_in_a_new_process, results
from tests.support.tiny import ROOT, tiny_bert, tiny_mnli


class Commands:
    """Runs the command lines inside this process, and keeps them."""

    def __init__(self, monkeypatch):
        self.lines, self.monkeypatch = [], monkeypatch
        monkeypatch.setattr(common, "execute", self)

    def __call__(self, line: list[str]) -> int:
        script, *words = line
        self.lines.append(line)
        if script == "compare_models.py":
            output = Path(words[words.index("--output_dir") + 1])
            output.mkdir(exist_ok=True)
            for name in ("tradeoffs.md", "tradeoffs.csv", "tradeoffs.json", "tradeoffs.png"):
                (output / name).touch()
        elif script == "run_glue.py":
            args = parse_arguments([str(ROOT / words[0]), *words[1:], "--use_cpu", "--disable_tqdm"])
            with as_in_a_new_process():
                stages.run_stages(args)
        else:
            main = bert_to_bart.main if script.endswith("bert_to_bart.py") else create_student.main
            with self.monkeypatch.context() as patch:
                patch.setattr(sys, "argv", [script, *words])
                main()
        return 0

    def of(self, *scripts: str) -> list[list[str]]:
        return [line for line in self.lines if Path(line[0]).name in scripts]


@pytest.fixture
def commands(monkeypatch):
    return Commands(monkeypatch)


@pytest.fixture
def reproduce_it(tmp_path, monkeypatch):
    """Runs reproduce.py with these flags more; returns its exit code."""
    tiny_bert(tmp_path / "bert", num_hidden_layers=3)
    tiny_mnli(tmp_path / "data", train=96)

    def run(*flags: object) -> int:
        inputs = ("--bert", tmp_path / "bert", "--data_dir", tmp_path / "data")
        words = [*inputs, "--output_dir", tmp_path / "out", "--max_eval_samples", 12, *flags]
        monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, words)])
        return run_command(reproduce.main)

    return run


def stop_after_two_steps(monkeypatch):
    """What a training does on SIGTERM, in its second step."""
    step = Training._step

    def stopping(self, *args):
        step(self, *args)
        if self.state.progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "_step", stopping)


def test_it_goes_on_where_it_was_stopped_and_does_nothing_twice(tmp_path, commands, reproduce_it, capsys):
    out = tmp_path / "out"
    # Stopped in the teacher's training.
    with pytest.MonkeyPatch.context() as patch:
        stop_after_two_steps(patch)
        assert reproduce_it() == 128 + signal.SIGTERM
    assert [Path(line[0]).name for line in commands.lines] == ["bert_to_bart.py", "run_glue.py"]

    # Stopped before the first student.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(create_student, "main", lambda: (_ for _ in ()).throw(InputError("stopped here")))
        assert reproduce_it() == 2
    assert [line[1] for line in commands.of("run_glue.py")] == ["args/mini/teacher.json"] * 2
    assert "resuming from checkpoint-2: step 2 of 9" in capsys.readouterr().err
    assert results(out / "teacher")["train_samples"] == 96
    teacher = (out / "teacher" / "model.safetensors").stat().st_mtime_ns

    commands.lines.clear()
    assert reproduce_it() == 0
    assert (out / "teacher" / "model.safetensors").stat().st_mtime_ns == teacher
    assert [(Path(line[0]).name, line[1]) for line in commands.lines] == [
        ("create_student.py", "--teacher_model_name_or_path"),
        ("run_glue.py", "args/mini/evaluate.json"),
        ("run_glue.py", "args/mini/distilbart-mnli-6-1.json"),
        ("create_student.py", "--teacher_model_name_or_path"),
        ("run_glue.py", "args/mini/evaluate.json"),
        ("run_glue.py", "args/mini/distilbart-mnli-6-2.json"),
        ("compare_models.py", str(out / "teacher")),
    ]
    models = [str(out / name) for name in ("teacher", "distilbart-mnli-3-1", "distilbart-mnli-3-2")]
    rest = ["--data_dir", str(tmp_path / "data"), "--output_dir", str(out / "tradeoffs"), "--max_eval_samples", "12"]
    assert commands.lines[-1] == ["compare_models.py", *models, *rest]
    told = capsys.readouterr().out
    assert "7 steps done, 2 " in told

    # The table's figures are those of the runs.
    lines = (out / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert [row[0] for row in rows] == ["teacher 3-3", "student 3-1", "student 3-2"]
    assert rows[0][1:3] == ["", ""]
    for row, copied, tuned in zip(
        rows[1:], ("copied-3-1", "copied-3-2"), ("distilbart-mnli-3-1", "distilbart-mnli-3-2"), strict=True
    ):
        before, after = results(out / copied), results(out / tuned)
        accuracies = [values[key] for values in (before, after) for key in ("eval_accuracy", "eval_accuracy_mm")]
        assert row[1:5] == [f"{100 * accuracy:.2f}" for accuracy in accuracies]
        assert row[5] == f"{after['train_runtime']:.0f}"
    assert all(count in lines[-1] for count in ("96 training", "12 matched", "12 mismatched"))
    assert "\n".join(lines) in told

    # Nothing is left to do; a zero-shot file makes the comparison anew, and only that.
    commands.lines.clear()
    assert reproduce_it() == 0
    assert commands.lines == []
    assert "0 steps done, 9 " in capsys.readouterr().out
    (tmp_path / "topics.jsonl").write_text('{"text": "a", "label": "b"}\n')
    assert reproduce_it("--zero_shot", tmp_path / "topics.jsonl") == 0
    assert commands.lines == [["compare_models.py", *models, *rest, "--zero_shot", str(tmp_path / "topics.jsonl")]]

    # Results of other settings are not mixed in.
    assert reproduce_it("--max_train_samples", 10) == 2
    assert "max_train_samples None, not 10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "bert is missing"),
        (["--bert", "some/model", "--data_dir", ""], "data_dir is missing"),
        (["--bert", "some/model", "--data_dir", "."], "train.tsv, dev_matched.tsv, dev_mismatched.tsv"),
        (["--brt", "some/model"], "--brt"),
    ],
)
def test_what_is_missing_is_said_in_one_line_before_anything_is_done(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *words])
    assert run_command(reproduce.main) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert list(tmp_path.iterdir()) == []


def test_make_says_what_is_missing_in_one_line(tmp_path):
    # The stamp is taken as there, so nothing is installed.
    command = ["make", "-C", ROOT, "-o", ".venv/.installed", "mini-reproduction", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MAKEFLAGS": ""})
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: bert is missing: ")


def test_a_signal_reaches_the_step_once_and_its_code_becomes_ours(tmp_path):
    script = tmp_path / "step.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.1)\n"
        "sys.exit(130 if len(got) == 1 else 1)\n"
    )

    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(CommandError, match=r"code 130 .*step\.py") as raised:
        common.Steps().run(script)
    assert raised.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_step_that_is_killed_gives_128_and_the_signals_number():
    assert common.execute(["-c", "import os; os.kill(os.getpid(), 9)"]) == 137


def test_the_four_students_have_one_recipe():
    recipes = []
    for number in reproduce.STUDENTS:
        name = f"distilbart-mnli-6-{number}"
        args = vars(parse_arguments([str(ROOT / "args" / "mini" / f"{name}.json")]))
        assert Path(args.pop("output_dir")).name == name
        assert args.pop("model_name_or_path") == f"outputs/mini_reproduction/student-6-{number}"
        assert args.pop("run_name") == f"mini-{name}"
        recipes.append(args)
    assert all(recipe == recipes[0] for recipe in recipes)
    assert recipes[0]["freeze_encoder"] and recipes[0]["freeze_embeds"]
