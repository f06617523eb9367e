"""compare_models.py with everything it measures: its table, CSV, plot, JSON and cards say the same."""

import csv
import json
import shutil

from huggingface_hub import ModelCard

from distilbart_mnli.compare import speed
from distilbart_mnli.compare.compare import CompareOptions, compare_models
from distilbart_mnli.model.student import StudentPlan, create_student
from tests.support.finished_run import finished_run
from tests.support.tiny import tiny_bart, tiny_mnli


def test_speed_memory_and_the_files_say_the_same(tmp_path, monkeypatch):
    teacher = tmp_path / "models/teacher"
    tiny_bart(teacher, decoder_layers=3)
    tiny_mnli(tmp_path / "data", matched=40, mismatched=26)
    monkeypatch.setitem(speed.THROUGHPUT_PAIRS, "cpu", 8)
    monkeypatch.setitem(speed.BATCH_SIZES, "cpu", (2, 4))
    student = tmp_path / "student-2-1"
    create_student(StudentPlan(str(teacher), decoder_layers=1), student)
    finished_run(tmp_path / "run")
    for name in ("trainer_state.json", "all_results.json", "training_args.json"):
        shutil.copy(tmp_path / "run" / name, student)
    (student / "README.md").write_text("Words of a person.\n")
    # Models are named from where the user stands; the child process finds the package of its parent from there.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distilbart_mnli").mkdir()
    (tmp_path / "distilbart_mnli/__init__.py").write_text("raise ImportError('another package of this name')")
    found = compare_models(
        CompareOptions(
            models=[str(teacher), student.name],
            output_dir=tmp_path / "sheet",
            data_dir=str(tmp_path / "data"),
            devices=["cpu"],
            repetitions=2,
            update_model_dirs=True,
        )
    )
    entry = found.rows[1]["devices"][0]
    assert entry["latency_ms_p50_lowest"] <= entry["latency_ms_p50_highest"]
    assert 0 < entry["latency_ms_p50"] <= entry["latency_ms_p95"]
    assert entry["pairs_per_second_lowest"] <= entry["pairs_per_second"] <= entry["pairs_per_second_highest"]
    assert entry["batch_size"] in (2, 4)
    assert 0 < entry["peak_mb"] < speed.resident_mb("VmRSS")  # without what the libraries take, here as there
    with (tmp_path / "sheet/tradeoffs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["model"] for line in lines] == ["teacher", "student-2-1"]
    assert float(lines[1]["pairs_per_second"]) == entry["pairs_per_second"]
    markdown = (tmp_path / "sheet/tradeoffs.md").read_text()
    assert f"{100 * found.rows[1]['accuracy_matched']:.2f} %" in markdown and "tradeoffs.png" in markdown
    assert (tmp_path / "sheet/tradeoffs.png").read_bytes().startswith(b"\x89PNG")
    own = json.loads((student / "tradeoffs.json").read_text())
    assert (own["model"], own["conditions"]["teacher"]) == ("student-2-1", "teacher")
    assert own["devices"] == found.rows[1]["devices"]
    card = ModelCard.load(student / "README.md").content
    assert "Size and speed" in card and "Words of a person." in card and str(tmp_path) not in card
    assert (teacher / "tradeoffs.json").exists()
    assert not (teacher / "README.md").exists()  # a folder without a run's files gets the figures and no card
