"""The benchmarks' commands run, at a size of nothing, and give every figure. Speed itself is not tested."""

import json
import sys

import numpy as np
import pytest

from benchmarks import train_speed, whole_table
from tests.support.launch import finish, start
from tests.support.tiny import ROOT


def test_train_speed_gives_every_figure_of_every_variant(tmp_path, capsys):
    output = tmp_path / "speed.json"
    train_speed.main(
        f"--size toy --layers 2 --batch_size 4 --gradient_accumulation_steps 2 --repetitions 2 --slice_seconds 0 "
        f"--steps 2 --threads 1 --no_memory --output {output}".split()
    )
    (student,) = json.loads(output.read_text())["students"]
    assert set(student["variants"]) == set("abcde")
    for name, figures in student["variants"].items():
        assert figures["lowest"] <= figures["examples_per_second"] <= figures["highest"], name
        assert 0 < figures["useful_utilisation"] <= figures["executed_utilisation"], name
    assert student["variants"]["a"]["padded_tokens_per_example"] == 128
    ratio = student["ratios"]["a/d"]
    speeds = [student["variants"][name]["all"] for name in "da"]
    assert ratio["measured"] == pytest.approx(np.median(np.divide(*speeds)))
    assert 1 < ratio["multiply_adds_allow"] < 100
    assert "(d)" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_train_speed_measures_memory_in_a_process_of_its_own(tmp_path):
    options = train_speed.parse("--size toy --batch_size 64 --gradient_accumulation_steps 1 --threads 1".split())
    recipe = train_speed.make_recipe(options, 2, tmp_path)
    found = {name: train_speed.memory_in_child(options, 2, name, recipe.student) for name in "bd"}
    assert found["b"]["peak_mb"] > found["d"]["peak_mb"] >= 0
    assert found["b"]["peak_mb_resident"] > 100  # the libraries


def test_the_whole_table_runs_both_sides_and_extrapolates_on_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_table, "start_up", lambda options, environment: dict.fromkeys(options.variants, 0.0))
    output = tmp_path / "table.json"
    whole_table.main(
        f"--size toy --layers 1 --variants ao --examples 24 --batch_size 4 --gradient_accumulation_steps 2 "
        f"--threads 1 --output {output}".split()
    )
    report = json.loads(output.read_text())
    assert [(row["student"], row["variant"]) for row in report["rows"]] == [("12-1", "a"), ("12-1", "o")]
    for row in report["rows"]:
        slope = (row["seconds"] - row["seconds_on_one_step"]) / (24 - 8)
        assert row["extrapolated_seconds"] == pytest.approx(row["seconds"] + slope * (392_702 - 24))
    assert report["totals"]["o"]["ratio_to_ours"]["measured_seconds"] == 1


def test_the_references_import_nothing_of_ours():
    code = (
        "import sys, benchmarks.references, benchmarks.reference_run;"
        "print([name for name in sys.modules if name.startswith('distilbart')])"
    )
    (done,) = finish(start([sys.executable, "-c", code], cwd=ROOT))
    assert (done.returncode, done.stdout.strip()) == (0, "[]")
