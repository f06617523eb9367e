"""examples/four_students/run.sh, smoke run: every step by its own command, each once, whatever interrupts it."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.support.in_process import results, weights
from tests.support.launch import environment
from tests.support.tiny import ROOT, tiny_bart, tiny_mnli

pytestmark = pytest.mark.slow


def run(folder: Path, **changes: str) -> tuple[int, list[str], str]:
    """Exit code, the scripts that were run, and all that was printed."""
    words = {
        "SMOKE": "1",
        "TEACHER": str(folder / "teacher"),
        "DATA": str(folder / "data"),
        "OUT": str(folder / "out"),
        "STUDENTS": "2-1 1-2",
        "RUN_OPTIONS": "--num_train_epochs 1 --disable_tqdm",
        "PYTHON": sys.executable,
    }
    script = ROOT / "examples/four_students/run.sh"
    done = subprocess.run(
        ["bash", str(script)],
        env=environment(**{**words, **changes}),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    commands = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ ")]
    return done.returncode, commands, done.stdout


def test_the_table_is_made_and_goes_on_where_it_was_stopped(tmp_path):
    tiny_bart(tmp_path / "teacher", max_position_embeddings=64)  # as the quickstart's
    tiny_mnli(tmp_path / "data")
    out = tmp_path / "out"

    # Stopped by a fault of the second student's recipe: everything before it is whole.
    broken = tmp_path / "SIZE.json"
    (tmp_path / "2-1.json").write_text((ROOT / "args/quickstart/student.json").read_text())
    code, commands, printed = run(tmp_path, RECIPE=str(broken))
    assert code == 2 and "1-2.json" in printed.splitlines()[-1]
    assert commands == ["run_glue.py", "create_student.py", "run_glue.py", "create_student.py", "run_glue.py"]

    code, commands, printed = run(tmp_path)
    assert code == 0, printed
    assert commands == ["run_glue.py", "compare_models.py"]
    layers = {"smoke-2-1": [2, 1], "smoke-1-2": [1, 2]}
    for student, kept in layers.items():
        with safe_open(out / student / "model.safetensors", "pt") as file:
            keys = file.keys()
        layers_of = [key.split(".")[1:4:2] for key in keys if ".layers." in key]  # model.encoder.layers.0...
        assert [len({index for stack, index in layers_of if stack == name}) for name in ("encoder", "decoder")] == kept
        assert {"eval_accuracy", "eval_accuracy_mm"} <= results(out / student).keys()
        assert (out / student / "tradeoffs.json").is_file()
    sheet = (out / "sheet" / "tradeoffs.md").read_text(encoding="utf-8")
    assert all(name in sheet for name in ("teacher", *layers))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, commands, printed = run(tmp_path)
    assert (code, commands) == (0, []) and {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_distilled_students_come_behind_one_variable(tmp_path):
    tiny_bart(tmp_path / "teacher", encoder_layers=3, max_position_embeddings=64)
    tiny_mnli(tmp_path / "data")
    asked = {"STUDENTS": "", "DISTIL": "1", "DISTILLED": "3-1-kd 2-2"}
    code, commands, printed = run(tmp_path, **asked)
    assert code == 0, printed
    makes = ["create_student.py", "run_glue.py"]
    # The baseline; 3-1-kd; the encoder; 2-2; the sheet.
    assert commands == ["run_glue.py", *makes, *makes, *makes, "compare_models.py"]
    fitted, student = (weights(tmp_path / "out" / name) for name in ("fitted-2", "smoke-2-2"))
    encoder = [name for name in student if name.startswith("model.encoder.")]
    assert encoder and all(student[name].equal(fitted[name]) for name in encoder)
    assert run(tmp_path, **asked)[:2] == (0, [])
