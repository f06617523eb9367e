"""What a bad network or a Hub in trouble may do to a publication: delay it, or stop it in one line; never lose, repeat
or halve it.

Each fault is laid on one endpoint of the small Hub (hub_server.py) that the real client talks to, once along the code
path with hf_xet and once along the one without. Waits run at fifty times their speed. Afterwards the repository holds
exactly one new commit with exactly the run's files, or none, and then the command that the message names brings it.
"""

import json
import shlex
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from distilbart_mnli.errors import HubError
from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.publish import client as hub_client
from distilbart_mnli.publish import hub as product
from distilbart_mnli.publish.commit import PublishTarget
from distilbart_mnli.publish.hub import preflight, publish
from distilbart_mnli.publish.staging import published_files
from tests.support.hub_server import FOREVER, Hub
from tests.support.publishing import REPO, arguments, log_in, shorten_waits

FACTOR = 50
WRITE_ENDPOINTS = {
    True: ["info", "create", "commits", "tree", "preupload", "xet-token", "validate-yaml", "commit"],
    False: [
        *("info", "create", "commits", "tree", "preupload", "lfs-batch", "lfs-put", "lfs-verify"),
        *("validate-yaml", "commit"),
    ],
}
TROUBLES = {
    "503 twice": {"status": 503, "times": 2},
    "429 with Retry-After": {"status": 429, "retry_after": 1},
    "dropped before it was done": {"drop": "before"},
    "answer lost after it was done": {"drop": "after"},
}
CASES = [
    pytest.param(xet, endpoint, trouble, id=f"{'xet' if xet else 'lfs'}-{endpoint}-{trouble}".replace(" ", "_"))
    for xet, endpoints in WRITE_ENDPOINTS.items()
    for endpoint in endpoints
    for trouble in TROUBLES
]
PATIENCE = 20.0  # seconds, for troubles that never end
both_paths = pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])


@pytest.fixture(autouse=True)
def patient(monkeypatch, no_smoke):
    monkeypatch.setattr(product, "RETRY_SECONDS", 1000.0)  # 20 s of ours: what is not waiting is not faster here


def token_of(hub: Hub) -> str:
    return next(token for token, user in hub.users.items() if user.valid)


def assert_published_once(hub: Hub, run_dir: Path, before: int = 1) -> None:
    """`before` commits were there (the first one is what creating a repository makes); one came."""
    assert len(hub.commits(REPO)) == before + 1
    there = hub.files(REPO)
    for path in published_files(run_dir):
        if path.suffix == ".json":  # laid out anew
            assert json.loads(there[path.name]) == json.loads(path.read_text())
        else:
            assert there[path.name] == path.read_bytes()


def assert_retry_works(error: HubError, hub: Hub, run_dir: Path, token: str, before: int = 1) -> None:
    """The message's command, read by the program's own parser, publishes; the token is not in the message."""
    assert error.exit_code == 3 and token not in str(error) and "\n" not in str(error)
    command = str(error).split("to try again: ")[1]
    assert command.startswith("python run_glue.py ")
    hub.faults.clear()
    args = parse_arguments(shlex.split(command)[2:])
    publish(Path(args.output_dir), args)
    assert_published_once(hub, run_dir, before)


@pytest.mark.parametrize(("xet", "endpoint", "trouble"), CASES)
def test_a_passing_trouble_at_any_endpoint_delays_the_one_commit(hub, run_dir, monkeypatch, xet, endpoint, trouble):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.fault(endpoint, **TROUBLES[trouble])
    url = publish(run_dir, arguments(run_dir), PublishTarget(REPO, None))
    assert url.endswith(hub.commits(REPO)[-1].oid)
    assert hub.faults[0].times == 0, "the fault was never met"
    assert_published_once(hub, run_dir)


@pytest.mark.parametrize("endpoint", ["whoami", "info", "auth-check", "validate-yaml"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_passing_trouble_delays_the_preflight(hub, run_dir, monkeypatch, endpoint, trouble):
    monkeypatch.setattr(product, "PREFLIGHT_SECONDS", 300.0)
    hub.add_repo(REPO)
    hub.fault(endpoint, **TROUBLES[trouble])
    assert preflight(arguments(run_dir, do_train=True)) == PublishTarget(REPO, hub.commits(REPO)[-1].oid)


@both_paths
def test_a_connection_that_ends_in_the_middle_of_the_weights_is_survived(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.fault("commit" if xet else "lfs-put", drop="body", after=200)
    publish(run_dir, arguments(run_dir))
    assert_published_once(hub, run_dir)


@both_paths
def test_a_lost_answer_is_recognised_although_somebody_committed_since(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.fault("commit", drop="after")
    hub.fault("commits", run=lambda: None)
    hub.fault("commits", run=lambda: hub.push(REPO, {"thanks.txt": b"nice model"}, title="Thanks"))
    url = publish(run_dir, arguments(run_dir))
    assert [commit.title.split(":")[0] for commit in hub.commits(REPO)] == [
        "initial commit",
        "Add distilbart-mnli-2-1",
        "Thanks",
    ]
    assert url.endswith(hub.commits(REPO)[1].oid)


@both_paths
def test_a_body_that_arrives_damaged_once_is_sent_again(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.fault("preupload" if xet else "lfs-put", corrupt=True)
    publish(run_dir, arguments(run_dir))
    assert_published_once(hub, run_dir)


def test_bodies_that_always_arrive_damaged_are_never_committed(hub, run_dir, monkeypatch):
    monkeypatch.setattr(product, "RETRY_SECONDS", PATIENCE)
    log_in(monkeypatch, hub, token_of(hub), xet=False)
    hub.fault("lfs-put", corrupt=True, times=FOREVER)
    with pytest.raises(HubError, match="422") as caught:
        publish(run_dir, arguments(run_dir))
    assert len(hub.commits(REPO)) == 1
    assert_retry_works(caught.value, hub, run_dir, token_of(hub))


def test_a_damaged_xet_store_is_never_committed(hub, run_dir, monkeypatch):
    monkeypatch.setattr(product, "RETRY_SECONDS", PATIENCE)

    def damage():
        for chunk in (hub.store / "xet" / "xorbs" / "xorbs").glob("default.*"):
            if chunk.suffix != ".tagset":
                content = chunk.read_bytes()
                chunk.chmod(0o600)
                chunk.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])

    hub.fault("commit", run=damage)
    with pytest.raises(HubError):
        publish(run_dir, arguments(run_dir))
    assert len(hub.commits(REPO)) == 1


@both_paths
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("endpoint", ["create", "preupload", "upload", "commit"])
def test_a_refusal_at_the_end_stops_at_once_and_keeps_the_model(hub, run_dir, monkeypatch, xet, status, endpoint):
    log_in(monkeypatch, hub, token_of(hub), xet)
    endpoint = {"upload": "xet-token" if xet else "lfs-batch"}.get(endpoint, endpoint)
    target = preflight(arguments(run_dir))
    weights = (run_dir / "model.safetensors").read_bytes()
    hub.fault(endpoint, status=status, times=FOREVER)
    with pytest.raises(HubError, match=str(status)) as caught:
        publish(run_dir, arguments(run_dir), target)
    assert hub.asked(endpoint) == 1 and hub.asked("commit") <= 1
    assert (run_dir / "model.safetensors").read_bytes() == weights
    assert_retry_works(caught.value, hub, run_dir, token_of(hub))


@both_paths
def test_a_token_that_expires_during_training_stops_the_end_and_a_new_one_brings_it(hub, run_dir, monkeypatch, xet):
    old = token_of(hub)
    log_in(monkeypatch, hub, old, xet)
    target = preflight(arguments(run_dir, do_train=True))
    hub.revoke(old)
    with pytest.raises(HubError, match="401") as caught:
        publish(run_dir, arguments(run_dir), target)
    assert not hub.repos
    log_in(monkeypatch, hub, hub.add_user("ann", orgs=["lab", "new"]), xet)
    assert_retry_works(caught.value, hub, run_dir, old)


@both_paths
def test_a_commit_by_somebody_else_during_training_stops_it_and_force_goes_over(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.add_repo(REPO, {"README.md": b"# Old\n", "config.json": b"{}"})
    target = preflight(arguments(run_dir, do_train=True))
    hub.push(REPO, {"README.md": b"# Written by hand\n", "more.txt": b"more"})
    with pytest.raises(HubError, match=r"README.md, more.txt.*--hub_force") as caught:
        publish(run_dir, arguments(run_dir), target)
    assert hub.files(REPO)["README.md"] == b"# Written by hand\n" and hub.asked("commit") == 0

    # The command that retries has not seen that commit either: it stops as well, until --hub_force.
    again = shlex.split(str(caught.value).split("to try again: ")[1])[2:]
    with pytest.raises(HubError, match=r"README.md, more.txt"):
        publish(run_dir, parse_arguments(again))
    publish(run_dir, parse_arguments([*again, "--hub_force"]))
    assert_published_once(hub, run_dir, before=3)
    assert hub.files(REPO)["more.txt"] == b"more"


@both_paths
def test_a_commit_by_somebody_else_in_the_last_moment_is_a_412_and_stops_it(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.add_repo(REPO, {"README.md": b"# Old\n"})
    hub.fault("commit", run=lambda: hub.push(REPO, {"README.md": b"# By hand\n"}))
    with pytest.raises(HubError, match=r"README.md"):
        publish(run_dir, arguments(run_dir))
    assert hub.files(REPO)["README.md"] == b"# By hand\n"


@both_paths
def test_force_survives_a_commit_in_the_last_moment(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.add_repo(REPO, {"README.md": b"# Old\n"})
    hub.fault("commit", run=lambda: hub.push(REPO, {"README.md": b"# By hand\n"}))
    publish(run_dir, arguments(run_dir, hub_force=True))
    assert_published_once(hub, run_dir, before=3)


@both_paths
@pytest.mark.parametrize("endpoint", ["create", "preupload", "commit"])
def test_trouble_for_ever_ends_in_one_line_with_the_command_that_retries(hub, run_dir, monkeypatch, xet, endpoint):
    monkeypatch.setattr(product, "RETRY_SECONDS", PATIENCE)
    log_in(monkeypatch, hub, token_of(hub), xet)
    hub.fault(endpoint, status=503, times=FOREVER)
    with pytest.raises(HubError, match="503") as caught:
        publish(run_dir, arguments(run_dir))
    assert_retry_works(caught.value, hub, run_dir, token_of(hub))


@both_paths
@pytest.mark.parametrize("endpoint", ["info", "upload", "commit"])
def test_a_hub_that_is_gone_for_twenty_seconds_is_waited_for(hub, run_dir, monkeypatch, xet, endpoint):
    log_in(monkeypatch, hub, token_of(hub), xet)
    endpoint = {"upload": "xet-token" if xet else "lfs-put"}.get(endpoint, endpoint)

    def go():
        threading.Timer(20 / FACTOR, hub.resume).start()
        hub.pause()

    hub.fault(endpoint, run=go, status=503)
    publish(run_dir, arguments(run_dir), PublishTarget(REPO, None))
    assert_published_once(hub, run_dir)


def test_without_any_network_the_preflight_says_so_within_seconds(hub, run_dir, monkeypatch):
    shorten_waits(monkeypatch, 1)
    hub.pause()
    begin = time.monotonic()
    with pytest.raises(HubError, match=r"127.0.0.1:\d+"):
        preflight(arguments(run_dir, do_train=True))
    assert time.monotonic() - begin < 6


@both_paths
def test_without_any_network_at_the_end_the_model_stays_and_the_retry_brings_it(hub, run_dir, monkeypatch, xet):
    monkeypatch.setattr(product, "RETRY_SECONDS", PATIENCE)
    log_in(monkeypatch, hub, token_of(hub), xet)
    target = preflight(arguments(run_dir, do_train=True))
    hub.pause()
    with pytest.raises(HubError, match=r"127.0.0.1:\d+") as caught:
        publish(run_dir, arguments(run_dir), target)
    hub.resume()
    assert_retry_works(caught.value, hub, run_dir, token_of(hub))


def test_a_hub_that_never_answers_does_not_hold_up_the_preflight(hub, run_dir, monkeypatch):
    monkeypatch.setattr(product, "PREFLIGHT_READ_TIMEOUT", 0.1)
    over = threading.Event()
    hub.fault("whoami", run=lambda: over.wait(10), times=FOREVER)
    with pytest.raises(HubError, match=r"127.0.0.1:\d+"):
        preflight(arguments(run_dir, do_train=True))
    over.set()


def test_retry_after_is_obeyed_where_only_we_retry(hub, run_dir, monkeypatch):
    waits = []
    clock = SimpleNamespace(sleep=waits.append, monotonic=time.monotonic)
    monkeypatch.setattr(hub_client, "time", clock)
    hub.fault("create", status=429, retry_after=17)
    hub.fault("commit", status=503, times=2)
    publish(run_dir, arguments(run_dir))
    assert waits == [17.0, 2.0, 4.0]


def test_a_token_that_the_hub_repeats_in_its_answer_is_blotted_out(hub, run_dir, caplog):
    token = token_of(hub)
    hub.fault("commit", status=500, message=f"cannot serve {token}")
    hub.fault("commit", status=400, message=f"bad {token}")
    with pytest.raises(HubError, match=r"400: .*bad \*\*\*") as caught:
        publish(run_dir, arguments(run_dir))
    assert "cannot serve ***" in caplog.text and token not in caplog.text + str(caught.value)


def test_no_token_appears_in_anything_that_is_logged(hub, run_dir, caplog, capfd):
    with caplog.at_level("DEBUG"):
        hub.fault("commit", status=503, times=3)
        publish(run_dir, arguments(run_dir))
        hub.revoke(token := token_of(hub))
        with pytest.raises(HubError) as caught:
            publish(run_dir, arguments(run_dir))
    printed = capfd.readouterr()
    assert "trying again" in caplog.text
    for text in (caplog.text, printed.out, printed.err, str(caught.value)):
        assert token not in text
