"""No server can make a command wait for a year, at whatever it asks of the Hub; an honest "later" is waited for.

The real clients speak with the small Hub of hub_server.py. What they sleep is written down instead of slept.
"""

import time
from types import SimpleNamespace

import huggingface_hub.utils._http
import pytest
from huggingface_hub import HfApi, get_session

import compare_models
import create_student
import download_glue_data
from distilbart_mnli.errors import run_command
from distilbart_mnli.hub_client import WAITING_SECONDS, bounded_client
from tests.support.glue_files import write_hub
from tests.support.hub_server import FOREVER, Hub, Lie
from tests.support.in_process import as_in_a_new_process, glue
from tests.support.publishing import log_in, read_from
from tests.support.tiny import tiny_bart, tiny_mnli

YEAR = 365 * 24 * 3600
BACKOFF = [1, 2, 4, 8, 8]  # huggingface_hub's own
LATER = {
    "Retry-After": lambda seconds: {"Retry-After": f"{seconds}"},
    "RateLimit": lambda seconds: {"RateLimit": f'"api";r=0;t={seconds}', "RateLimit-Policy": '"api";q=500;w=300'},
}


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The seconds of every sleep of the Hub's client."""
    seconds: list[float] = []
    clock = SimpleNamespace(**vars(time))
    clock.sleep = seconds.append
    monkeypatch.setattr(huggingface_hub.utils._http, "time", clock)
    return seconds


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with a teacher and GLUE's RTE, that this process reads from."""
    with Hub(tmp_path / "hub") as hub:
        log_in(monkeypatch, hub, hub.add_user("ann"), xet=False)
        read_from(monkeypatch, hub, tmp_path / "cache")
        yield hub


def later(hub: Hub, endpoint: str, header: str, seconds: object, times: int = FOREVER, status: int = 429) -> None:
    hub.fault(endpoint, lie=lambda _: Lie(b"{}", status, LATER[header](seconds)), times=times)


def ask(hub: Hub) -> int:
    """How many files the Hub says that there are."""
    with bounded_client():
        return len(list(HfApi(endpoint=hub.url).list_repo_tree("ann/x")))


@pytest.mark.parametrize("seconds", [YEAR, 10**30, "²", "soon", WAITING_SECONDS + 1])
@pytest.mark.parametrize("header", LATER)
def test_a_wait_without_measure_is_not_waited_for(hub, slept, header, seconds):
    hub.add_repo("ann/x")
    later(hub, "tree", header, seconds, times=2)
    assert ask(hub) == 1
    assert slept == BACKOFF[:2]


@pytest.mark.parametrize("header", LATER)
def test_an_honest_wait_is_waited_for(hub, slept, header):
    hub.add_repo("ann/x")
    later(hub, "tree", header, 40, times=2)
    assert ask(hub) == 1
    assert slept == [41, 41]


def test_many_honest_waits_have_one_limit_together(hub, slept):
    hub.add_repo("ann/x")
    later(hub, "tree", "Retry-After", 120, times=4)
    assert ask(hub) == 1
    assert slept == [121, 121, 4, 8]


def test_the_client_is_afterwards_what_it_was(hub):
    before = get_session()
    hooks, timeout = before.event_hooks, before.timeout
    with bounded_client(7.0):
        with bounded_client():
            pass
        assert get_session().timeout.read == 7.0
    assert (get_session().event_hooks, get_session().timeout) == (hooks, timeout)


@pytest.fixture
def commands(hub, tmp_path):
    """Every command that reads from the Hub: its name -> a call that gives its exit code."""
    tiny_bart(tmp_path / "teacher")
    tiny_bart().save_pretrained(tmp_path / "bare")
    tiny_mnli(tmp_path / "data", train=4, matched=4, mismatched=4)
    hub.add_repo("ann/teacher", tmp_path / "teacher")
    hub.add_repo("nyu-mll/glue", write_hub(tmp_path / "glue", "rte"), "dataset")
    evaluate = ("--do_eval", "--use_cpu", "--disable_tqdm", "--output_dir", tmp_path / "out")
    teacher = ("--teacher_model_name_or_path", "ann/teacher", "--student_decoder_layers", 1)
    words = {
        "create_student": (create_student.main, *teacher, "--save_path", tmp_path / "student"),
        "download": (download_glue_data.main, "--tasks", "RTE", "--data_dir", tmp_path / "tsv"),
        "compare": (
            *(compare_models.main, "ann/teacher", tmp_path / "teacher", "--data_dir", tmp_path / "data"),
            *("--output_dir", tmp_path / "sheet", "--no_speed"),
        ),
        "model": (glue, "--task_name", "MNLI", "--model_name_or_path", "ann/teacher", "--data_dir", tmp_path / "data"),
        "tokenizer": (
            *(glue, "--task_name", "MNLI", "--model_name_or_path", tmp_path / "bare", "--data_dir", tmp_path / "data"),
            *("--tokenizer_name", "ann/teacher"),
        ),
        "data": (glue, "--task_name", "RTE", "--model_name_or_path", tmp_path / "teacher", "--reinit_classifier"),
    }

    def call(main, *given: object) -> int:
        if main is glue:
            return glue(*given, *evaluate)
        with as_in_a_new_process("script.py", *given):
            return run_command(main)

    return {name: (lambda words=words: call(*words)) for name, words in words.items()}


@pytest.mark.parametrize("name", ["create_student", "download", "compare", "model", "tokenizer", "data"])
def test_no_command_waits_for_a_year_and_each_says_that_the_hub_refused(hub, slept, commands, capsys, name):
    later(hub, "resolve", "Retry-After", YEAR)
    assert commands[name]() == 3
    assert slept and sum(slept) < WAITING_SECONDS
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "ann/teacher" in line or "nyu-mll/glue" in line


@pytest.mark.parametrize("name", ["create_student", "download", "data"])
def test_a_connection_that_ends_is_one_line(hub, slept, commands, name):
    hub.fault("resolve", drop="before", times=FOREVER)
    hub.fault("tree", drop="before", times=FOREVER)
    assert commands[name]() == 3
