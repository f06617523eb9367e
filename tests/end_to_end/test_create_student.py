"""create_student.py as a user runs it: a process of its own, its exit codes, and what it says."""

import json
import os

import pytest

import create_student
from distilbart_mnli.errors import run_command
from tests.support.launch import run
from tests.support.tiny import tiny_bart

SCRIPT = "create_student.py"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "teacher-12-12"
    tiny_bart(folder, encoder_layers=12, decoder_layers=12)
    return folder


def test_the_command_line_of_2020_makes_a_student_and_says_what_it_kept(teacher, tmp_path):
    save_path = tmp_path / "students" / "student-bart-mnli-12-6"
    done = run(
        SCRIPT,
        *("--teacher_model_name_or_path", teacher, "--student_encoder_layers", 12, "--student_decoder_layers", 6),
        *("--save_path", save_path),
        check=True,
    )
    config = json.loads((save_path / "config.json").read_text())
    assert (config["encoder_layers"], config["decoder_layers"]) == (12, 6)
    assert config["teacher_name_or_path"] == "teacher-12-12"
    lines = done.stdout.splitlines()
    # By hand: 400 x 16 + 2 x 130 x 16 + 2 x 32, an encoder layer 2,224, a decoder layer 3,344, the head 323.
    for line, said in zip(
        lines,
        [
            (str(teacher), "12 + 12 layers", "77,763 parameters", "0.3 MB in float32"),
            (str(save_path), "12 + 6 layers", "57,699 parameters", "0.2 MB in float32"),
            ("encoder layers 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",),
            ("decoder layers 0, 2, 4, 7, 9, 11",),
        ],
        strict=True,
    ):
        assert all(fact in line for fact in said), line
    encoder, decoder = done.stderr.splitlines()
    assert "12 of 12 layers" in encoder and "6 of 12 layers" in decoder and "the table of 2020" in decoder


@pytest.mark.parametrize("ids", [["11,0,6"], ["11", "0", "6"], ["11, 0", "6"]])
def test_layers_can_be_named_with_commas_or_spaces_in_any_order(teacher, tmp_path, monkeypatch, ids):
    paths = ["--teacher_model_name_or_path", str(teacher), "--save_path", str(tmp_path / "s")]
    monkeypatch.setattr("sys.argv", [SCRIPT, *paths, "--encoder_layer_ids", "0", "--decoder_layer_ids", *ids])
    assert run_command(create_student.main) == 0
    config = json.loads((tmp_path / "s" / "config.json").read_text())
    assert (config["encoder_layer_ids"], config["decoder_layer_ids"]) == ([0], [11, 0, 6])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--student_decoder_layer 3", "--student_decoder_layer; did you mean --student_decoder_layers?"),
        ("--zzz 3", "--zzz; see"),  # nothing is near
        ("--student_decoder_layers three", "'three'"),
        ("--student_decoder_layers", "--student_decoder_layers"),
        ("--decoder_layer_ids 0,x", "'x'"),
        ("--student_decoder_layers 3 stray", "stray"),
        ("", "--student_decoder_layers"),
        ("--student_decoder_layers 13", "13"),
        ("--student_decoder_layers 0", "not 0"),
        ("--decoder_layer_ids 12", "layer 12"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line_and_exit_code_2_and_nothing_is_written(
    teacher, tmp_path, monkeypatch, capsys, flags, named
):
    paths = ["--teacher_model_name_or_path", str(teacher), "--save_path", str(tmp_path / "a" / "student")]
    monkeypatch.setattr("sys.argv", [SCRIPT, *paths, *flags.split()])
    assert run_command(create_student.main) == 2
    captured = capsys.readouterr()
    (error,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert named in error
    assert "usage:" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_is_not_there_is_one_line_and_exit_code_2(tmp_path):
    done = run(
        *(SCRIPT, "--teacher_model_name_or_path", "facebook/bart-large-mnli", "--student_decoder_layers", 1),
        *("--save_path", tmp_path / "student"),
        env={"HF_HOME": str(tmp_path / "empty")},
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: teacher facebook/bart-large-mnli") and "HF_HUB_OFFLINE" in line
    assert not (tmp_path / "student").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_that_only_others_may_write_is_one_line_and_exit_code_2(tmp_path):
    """As root every folder is writable, so the check itself runs in a process that has become nobody."""
    code = (
        "import os, sys; from pathlib import Path; from distilbart_mnli.errors import run_command;"
        "from distilbart_mnli.model.student import check_save_path; os.setuid(65534);"
        "sys.exit(run_command(lambda: check_save_path(Path('/usr/student/deeper'), ['teacher'])))"
    )
    script = tmp_path / "as_nobody.py"
    script.write_text(code)
    done = run(str(script))
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: save_path /usr/student/deeper")


def test_help_shows_every_flag_and_how_to_call_it():
    done = run(SCRIPT, "--help", check=True)
    for flag in "--teacher_model_name_or_path --student_decoder_layers --decoder_layer_ids --overwrite".split():
        assert flag in done.stdout
    assert "python create_student.py --teacher_model_name_or_path facebook/bart-large-mnli" in done.stdout
