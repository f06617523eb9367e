"""What leaves a command: one line, no escape that a terminal obeys, no token, no traceback; and its exit code."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import compare_models
import create_student
from distilbart_mnli.command_line import OneLineParser, set_up_logging
from distilbart_mnli.errors import InputError, run_command, say
from distilbart_mnli.public_text import visible, without_tokens
from tests.support.tiny import ROOT

TOKEN = "hf_" + "aB3dE5gH7jK9" * 3
COMMANDS = {
    "create_student.py": ["--teacher_model_name_or_path", "t", "--save_path", "s", "--student_decoder_layers", "1"],
    "run_glue.py": ["--model_name_or_path", "m", "--task_name", "MNLI", "--do_eval", "--output_dir", "o"],
    "compare_models.py": ["t", "--output_dir", "o"],
    "classify.py": ["m", "f", "--candidate_labels", "a", "b"],
    "download_glue_data.py": ["--data_dir", "d"],
}
HOSTILE = ["\x1b[2J\x1b[31mred", "a\rb", "a\x07b", "a\x9b2Jb", "a\u2028b", "a\u202eb", "a\x7fb", "a\tb", "\ud800"]


@pytest.mark.parametrize("text", [*HOSTILE, "é", "東京 5", "ß→😀", "a b", "back\\slash", "\xa0"])
def test_what_is_visible_is_what_python_shows_in_a_string(text):
    assert visible(text) == repr(text.replace("\\", "/"))[1:-1].replace("/", "\\")
    assert visible(visible(text)) == visible(text)
    visible(text).encode("utf-8")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"seed must be a whole number, not '{TOKEN}'", TOKEN),
        (f"path/to/{TOKEN}/x", TOKEN),
        (f"HF_TOKEN_{TOKEN}", TOKEN),
        ("found api_org_" + "x" * 34, "x" * 34),
        ("https://ada:pass@word@hub.example/api cannot be reached", "pass@word"),
        ("s3:/ada:pass@word@bucket/train.tsv: no such file", "pass@word"),  # a URL that was taken for a path
        ("https://s3.example/x?X-Amz-Signature=abcdef0123&X-Amz-Expires=9", "abcdef0123"),
        ("https://hub.example/?a=1&token=abcdef0123", "abcdef0123"),
        ("Authorization: Bearer abcdef.0123", "abcdef.0123"),
    ],
)
def test_no_token_is_in_a_text(text, secret):
    assert secret in text and secret not in without_tokens(text)
    assert secret not in str(InputError(text))


@pytest.mark.parametrize(
    "text", ["hf_hub_download", "hf_xet", "https://huggingface.co/a/b", "a@b.org", "https://h/x@y", "top-k=5"]
)
def test_what_is_no_token_stays(text):
    assert without_tokens(text) == text


def test_the_secrets_of_the_environment_are_left_out_whatever_they_look_like(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-token-of-a-private-hub")
    monkeypatch.setenv("HF_ENDPOINT", "https://ada:pass%2Fword@hub.example")
    text = without_tokens("a-token-of-a-private-hub; ada logs in with pass%2Fword, that is pass/word")
    assert "private-hub" not in text and "word" not in text and "ada" in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_error_is_one_line_that_no_terminal_obeys(hostile):
    line = str(InputError(f"a.json: unknown option {hostile}"))
    assert line.isprintable() and "unknown option" in line


def test_a_parser_s_error_quotes_no_escape_and_no_token():
    parser = OneLineParser("x.py", None)
    parser.add_argument("--seed", type=int)
    for argv in (["--seed", TOKEN], [TOKEN], [f"--{TOKEN}"], ["--seed", "\x1b[2J"], ["\x1b[2J"], ["--\x1b[2J"]):
        with pytest.raises(InputError) as caught:
            parser.parse_args(argv)
        assert str(caught.value).isprintable() and TOKEN not in str(caught.value)


def test_a_log_line_is_one_line_without_escapes_and_tokens(capsys):
    set_up_logging()
    for name in ("distilbart_mnli", "transformers.x", "huggingface_hub.x"):
        logging.getLogger(name).error("read %s", f"\x1b[2J\n12:00:00 INFO all is well {TOKEN}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.isprintable() and TOKEN not in line for line in lines)


def test_what_is_printed_at_the_end_keeps_its_lines_and_no_escape(capsys):
    say(f"model\x1b[2J  a\nmodel  {TOKEN}")
    assert capsys.readouterr().out == "model\\x1b[2J  a\nmodel  hf_...\n"


def python(code: str, *argv: str, **env: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", code, *argv]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, **env}, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_a_name_with_accents_is_printed_to_an_ascii_terminal(env):
    code = (
        "import sys, logging\n"
        "from distilbart_mnli.errors import InputError, run_command, say\n"
        "def main():\n"
        "    say(sys.argv[1])\n"
        "    print(sys.argv[1])\n"
        "    raise InputError(sys.argv[1])\n"
        "sys.exit(run_command(main))\n"
    )
    done = python(code, "Schüler/東京", **env)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"error: Sch") and done.stderr.count(b"\n") == 1
    assert done.stdout.splitlines()[0].startswith(b"Sch") and done.stdout.isascii()


def test_a_fault_of_ours_keeps_its_traceback_without_escapes_and_tokens():
    code = (
        "import sys\n"
        "from distilbart_mnli.errors import run_command\n"
        "def main():\n"
        f"    raise KeyError('{TOKEN}', ValueError('red' + chr(27) + '[31m'))\n"
        "    \n"
        "sys.exit(run_command(main))\n"
    )
    done = python(code)
    assert done.returncode == 1 and b"Traceback" in done.stderr and b"KeyError" in done.stderr
    assert TOKEN.encode() not in done.stderr and b"\x1b" not in done.stderr


def test_the_scripts_know_the_home_folder_and_refuse_an_unset_variable(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    student = ["--student_decoder_layers", "1", "--teacher_model_name_or_path=~/t", "--save_path=~/s"]
    args = create_student.read_arguments(student)
    assert (args.teacher_model_name_or_path, args.save_path) == ("/home/ada/t", Path("/home/ada/s"))
    args = compare_models.read_arguments(["~/a", "b/c", "--output_dir=~/o", "--data_dir=~/d", "--zero_shot=~/z"])
    assert args.models == ["/home/ada/a", "b/c"] and args.data_dir == "/home/ada/d"
    assert (args.output_dir, args.zero_shot) == (Path("/home/ada/o"), Path("/home/ada/z"))
    for read, argv in (
        (create_student.read_arguments, [*student, "--save_path", ""]),
        (compare_models.read_arguments, ["", "--output_dir", "o"]),
        (compare_models.read_arguments, ["a", "--output_dir="]),
    ):
        with pytest.raises(InputError, match=r"save_path|MODEL|output_dir"):
            read(argv)


@pytest.mark.parametrize(
    ("read", "option", "meant"),
    [
        (create_student.read_arguments, "--output_dir", "--save_path?"),
        (create_student.read_arguments, "--decoder-layers", "--student_decoder_layers?"),
        (create_student.read_arguments, "--student_decoder_layer", "--student_decoder_layers?"),
        (create_student.read_arguments, "--teacher", "--teacher_model_name_or_path?"),
        (compare_models.read_arguments, "--fp16", "--bf16"),
        (compare_models.read_arguments, "--models", "without a name"),
        (compare_models.read_arguments, "--seed", "--help"),
    ],
)
def test_an_option_of_another_script_is_answered_by_its_meaning(read, option, meant):
    with pytest.raises(InputError) as caught:
        read(["a", option, "1"])
    assert option.replace("-", "_").strip("_") in str(caught.value) and str(caught.value).endswith(meant)


def test_dashes_and_underscores_are_the_same_in_options():
    args = compare_models.read_arguments(["a", "--output-dir", "o-p", "--max-eval-samples=5", "--no-speed"])
    assert (args.output_dir, args.max_eval_samples, args.no_speed) == (Path("o-p"), 5, True)


@pytest.mark.parametrize("script", COMMANDS)
def test_outside_the_environment_a_command_says_what_to_install(tmp_path, script):
    """-S: the interpreter without what was installed for it."""
    words = [sys.executable, "-S", ROOT / script, *COMMANDS[script]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "is not installed" in done.stderr and "requirements.txt" in done.stderr


def test_an_older_python_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 12, "final", 0))
    assert run_command(lambda: None) == 2
    assert "3.11" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("script", COMMANDS)
def test_a_signal_while_libraries_are_imported_ends_with_its_code_and_one_line(tmp_path, script, number):
    """In place of each library stands one that is sent the signal and, as many do, hides what is raised meanwhile."""
    for name in ("torch", "transformers", "datasets", "huggingface_hub"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            "import os, time\n"
            "try:\n"
            f"    os.kill(os.getpid(), {number:d})\n"
            "    time.sleep(20)\n"
            "except BaseException:\n"
            "    raise ImportError('hidden') from None\n"
        )
    words = [sys.executable, ROOT / script, *COMMANDS[script]]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (128 + number, 1), done.stderr
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_work_lets_it_tidy_up(capsys, number):
    tidied = []

    def main():
        try:
            os.kill(os.getpid(), number)
        finally:
            tidied.append(number)

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert run_command(main) == 128 + number and tidied == [number]
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_signal_that_the_parent_ignores_stays_ignored():
    """nohup python run_glue.py ... goes on when the session is closed."""
    code = (
        "import os, signal, sys\n"
        "from distilbart_mnli.errors import run_command\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.exit(run_command(lambda: os.kill(os.getpid(), signal.SIGHUP)))\n"
    )
    assert python(code).returncode == 0
