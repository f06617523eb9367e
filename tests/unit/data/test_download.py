"""GLUE's files are made out of the Hub's by the real datasets client; the command: end_to_end/test_download.py."""

import dataclasses
import io
import sys

import numpy as np
import pytest

from distilbart_mnli.data.download import download, select_tasks
from distilbart_mnli.data.splits import get_task, load_evaluation, load_test, load_train
from distilbart_mnli.data.tasks import TASKS
from distilbart_mnli.errors import HubError, InputError, RunError
from tests.support.glue_files import LAYOUTS, ONE_SET_EACH, glue_args, write_hub


def small(name: str, rows: int = 5):
    """The task as it would be, were GLUE's sets of 5 rows."""
    task = TASKS[name]

    def cut(source):
        return source and dataclasses.replace(source, rows=rows)

    return dataclasses.replace(
        task, train=cut(task.train), evaluation=tuple(map(cut, task.evaluation)), test=tuple(map(cut, task.test))
    )


@pytest.mark.parametrize("name", [*ONE_SET_EACH, "ax"])
def test_every_task_has_glue_s_header_and_reads_back_as_the_hub_has_it(local_hub, tmp_path, name):
    write_hub(local_hub, name)
    cache, out = str(tmp_path / "cache"), tmp_path / "out"
    files = [file.path for file in download([small(name)], out, cache)]
    assert {path.name for path in files} == set(LAYOUTS[name]) - {"diagnostic-full.tsv"}
    for path in files:
        header, row, _ = LAYOUTS[name][path.name]
        lines = path.read_text(encoding="utf-8").split("\n")
        assert lines[0] == header.removeprefix("\ufeff") or not header
        assert {line.count("\t") for line in lines[:-1]} == {row.count("\t")}
    from_hub, from_files = glue_args(name, cache_dir=cache), glue_args(name, files[0].parent)
    task = get_task(from_hub)

    def splits(args):
        labelled = [load_train(args, task), *load_evaluation(args, task)] if task.train else []
        return labelled + load_test(args, task)

    for hub, tsv in zip(splits(from_hub), splits(from_files), strict=True):
        assert (tsv.sentence1, tsv.sentence2) == (hub.sentence1, hub.sentence2)
        np.testing.assert_array_equal(tsv.labels, hub.labels)


def test_scores_are_written_as_glue_writes_them(local_hub, tmp_path):
    write_hub(local_hub, "stsb")
    path = next(iter(download([small("stsb")], tmp_path / "out", str(tmp_path / "cache")))).path
    assert [line.split("\t")[-1] for line in path.read_text().split("\n")[1:3]] == ["0.000", "1.000"]


def test_a_data_set_with_another_number_of_rows_is_refused_before_a_byte_is_written(local_hub, tmp_path):
    write_hub(local_hub, "rte")
    with pytest.raises(RunError, match=r"\(rte, train\): has 5 rows, expected 2,490"):
        list(download([TASKS["rte"]], tmp_path / "out", str(tmp_path / "cache")))
    assert list((tmp_path / "out" / "RTE").iterdir()) == []


def test_a_file_with_another_number_of_rows_is_kept_unless_overwrite(local_hub, tmp_path):
    write_hub(local_hub, "rte")
    file = tmp_path / "out" / "RTE" / "train.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("mine\n1\n2\n")
    with pytest.raises(InputError, match=r"train.tsv: is there with 2 rows, GLUE's has 5; .*--overwrite"):
        list(download([small("rte")], tmp_path / "out", str(tmp_path / "cache")))
    assert file.read_text() == "mine\n1\n2\n"
    list(download([small("rte")], tmp_path / "out", str(tmp_path / "cache"), overwrite=True))
    assert file.read_text().startswith("index\tsentence1")


def test_only_what_is_missing_is_written_and_half_a_file_is_begun_anew(local_hub, tmp_path):
    write_hub(local_hub, "rte")
    cache = str(tmp_path / "cache")
    first = {file.path: file.path.read_bytes() for file in download([small("rte")], tmp_path / "out", cache)}
    dev = tmp_path / "out" / "RTE" / "dev.tsv"
    dev.unlink()
    dev.with_name(".writing-0123456789abcdef-dev.tsv").write_text("index\tsentence1\thalf a line")
    again = {file.path.name: file.was_there for file in download([small("rte")], tmp_path / "out", cache)}
    assert again == {"train.tsv": True, "dev.tsv": False, "test.tsv": True}
    assert {path: path.read_bytes() for path in dev.parent.iterdir()} == first


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_and_nowhere_else(local_hub, tmp_path, monkeypatch, terminal):
    write_hub(local_hub, "rte")
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    list(download([small("rte")], tmp_path / "out", str(tmp_path / "cache")))
    for file in ("train.tsv", "dev.tsv", "test.tsv"):
        assert (f"RTE/{file}: 100%" in shown.getvalue()) == terminal


def test_a_full_disk_is_one_line_and_leaves_nothing(local_hub, tmp_path, monkeypatch):
    write_hub(local_hub, "rte")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"train.tsv could not be written: No space left on device"):
        list(download([small("rte")], tmp_path / "out", str(tmp_path / "cache")))
    assert list((tmp_path / "out" / "RTE").iterdir()) == []


def test_a_data_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        list(download([TASKS["rte"]], tmp_path / "file"))


def test_tasks_are_chosen_by_any_spelling_once_each():
    assert [task.name for task in select_tasks(["MNLI,rte", "SST", "mnli-mm"])] == ["mnli", "rte", "sst2"]
    assert [task.name for task in select_tasks(["MNLI-mm"])] == ["mnli"]
    assert {task.folder for task in select_tasks(["all"])} == {
        *("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI", "AX")
    }
    with pytest.raises(InputError, match="--tasks: unknown task MNIL"):
        select_tasks(["MNIL"])


def test_the_numbers_of_rows_are_glue_s():
    rows = {name: [s.rows for s in (t.train, *t.evaluation, *t.test) if s] for name, t in TASKS.items()}
    assert rows["mnli"][:3] == [392_702, 9_815, 9_832]
    assert rows["qqp"] == [363_846, 40_430, 390_965]
    assert {name: rows[name] for name in ("cola", "sst2", "mrpc", "stsb", "qnli", "rte", "wnli")} == {
        "cola": [8_551, 1_043, 1_063],
        "sst2": [67_349, 872, 1_821],
        "mrpc": [3_668, 408, 1_725],
        "stsb": [5_749, 1_500, 1_379],
        "qnli": [104_743, 5_463, 5_463],
        "rte": [2_490, 277, 3_000],
        "wnli": [635, 71, 146],
    }


def test_without_network_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="cannot be loaded"):
        list(download([TASKS["rte"]], tmp_path, str(tmp_path / "cache")))
