"""A Hub that answers otherwise than a Hub: one line and code 3, in time, and "published" only of what lies there.

The real client speaks with the small Hub of hub_server.py, which lies about one request: an empty object, a list, a
page of HTML, a success without its deed. Whether a publication is there is read from the small Hub's own store.
"""

import fcntl
import json
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from distilbart_mnli.errors import HubError, InputError, RunError
from distilbart_mnli.publish import commit
from distilbart_mnli.publish import hub as product
from distilbart_mnli.publish.commit import PublishTarget
from distilbart_mnli.publish.hub import preflight, publish
from distilbart_mnli.publish.staging import published_files
from distilbart_mnli.train import stages
from tests.support.hub_server import FOREVER, Hub
from tests.support.publishing import REPO, arguments, log_in, shorten_waits

PAGE = b"<!DOCTYPE html><html><body>Please accept the terms of this network.</body></html>"
LIES = {"an empty object": {}, "a list": [], "null": None, "a word": "fine", "a number": 5, "a login page": PAGE}
LIES |= {
    "a hundred thousand lists": b"[" * 100_000,
    "no text": b"\xff\xfe\x00\x81",
    "another type": {"name": [1], "id": 7},
}
SUCCESS = {"success": True, "commitOid": "0" * 40, "commitUrl": "http://127.0.0.1/ann/x/commit/" + "0" * 40}


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_smoke):
    monkeypatch.setattr(product, "RETRY_SECONDS", 30.0)  # at fifty times their speed


def one_line(error: Exception, hub: Hub) -> None:
    assert "\n" not in str(error) and not any(token in str(error) for token in hub.users)


def holds(hub: Hub, run_dir: Path) -> bool:
    """Whether the small Hub's own store has every published file of the run, byte for byte but for laid-out JSON."""
    there = hub.files(REPO) if ("model", REPO) in hub.repos else {}
    return all(
        path.name in there
        and (path.suffix == ".json" or there[path.name] == path.read_bytes())
        and (path.suffix != ".json" or json.loads(there[path.name]) == json.loads(path.read_text()))
        for path in published_files(run_dir)
    )


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("endpoint", ["whoami", "info"])
def test_the_preflight_says_in_one_line_that_this_is_no_hub(hub, run_dir, endpoint, lie):
    hub.fault(endpoint, answer=LIES[lie], times=FOREVER)
    with pytest.raises(HubError, match=rf"127.0.0.1:{hub.port}") as caught:
        preflight(arguments(run_dir, do_train=True))
    one_line(caught.value, hub)
    assert caught.value.exit_code == 3 and not hub.repos


@pytest.mark.parametrize("lie", [{"errors": []}, [], PAGE, {"errors": [5]}, {"errors": [{"message": {"x": 1}}]}])
def test_a_refusal_of_the_card_in_any_words_is_one_line(hub, run_dir, lie):
    hub.fault("validate-yaml", answer=lie, status=400, times=FOREVER)
    with pytest.raises(HubError, match="metadata") as caught:
        preflight(arguments(run_dir, do_train=True))
    one_line(caught.value, hub)


@pytest.mark.parametrize("lie", ["an empty object", "null", "a login page"])
@pytest.mark.parametrize("endpoint", ["info", "create", "commits", "tree", "preupload", "validate-yaml", "commit"])
def test_a_lie_in_the_publication_ends_in_one_line_or_in_all_files_there(hub, run_dir, endpoint, lie):
    target = preflight(arguments(run_dir, do_train=True))
    hub.fault(endpoint, answer=LIES[lie], times=FOREVER)
    try:
        publish(run_dir, arguments(run_dir), target)
    except HubError as error:
        one_line(error, hub)
        assert "to try again: python run_glue.py" in str(error)
    else:
        assert holds(hub, run_dir)


@pytest.mark.parametrize("lie", [{}, [], None, {"success": True}, PAGE])
def test_a_commit_that_landed_is_recognised_whatever_was_answered(hub, run_dir, lie):
    hub.fault("commit", answer_after=lie)
    url = publish(run_dir, arguments(run_dir))
    assert holds(hub, run_dir) and url.endswith(hub.commits(REPO)[-1].oid)
    assert len(hub.commits(REPO)) == 2


def test_a_hub_that_says_success_and_does_nothing_has_not_published(hub, run_dir):
    hub.fault("commit", answer=SUCCESS, times=FOREVER)
    with pytest.raises(HubError, match=REPO) as caught:
        publish(run_dir, arguments(run_dir))
    one_line(caught.value, hub)
    assert len(hub.commits(REPO)) == 1
    hub.faults.clear()
    publish(run_dir, arguments(run_dir))
    assert holds(hub, run_dir)


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_a_hub_that_keeps_all_files_but_one_has_not_published(hub, run_dir, name):
    hub.fault("commits", run=lambda: None)  # what was there before
    hub.fault("commits", run=lambda: hub.commits(REPO)[-1].files.pop(name))
    with pytest.raises(HubError, match=REPO):
        publish(run_dir, arguments(run_dir))


def test_a_byte_a_second_does_not_hold_up_the_preflight(hub, run_dir, monkeypatch):
    shorten_waits(monkeypatch, 1000)
    monkeypatch.setattr(product, "PREFLIGHT_READ_TIMEOUT", 0.3)
    hub.fault("whoami", drip=0.05, times=FOREVER)  # about 400 bytes: 20 s
    begin = time.monotonic()
    with pytest.raises(HubError, match=rf"127.0.0.1:{hub.port}"):
        preflight(arguments(run_dir, do_train=True))
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("endpoint", ["preupload", "lfs-batch", "lfs-put", "lfs-verify"])
def test_a_byte_a_second_does_not_hold_up_an_upload_for_ever(hub, run_dir, monkeypatch, endpoint):
    """As many seconds as its bytes need over a slow line, and as one answer may take."""
    log_in(monkeypatch, hub, next(iter(hub.users)), xet=False)
    size = sum(path.stat().st_size for path in published_files(run_dir))
    monkeypatch.setattr(commit, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(commit, "SLOWEST_UPLOAD", size / 0.5)
    target = PublishTarget(REPO, None)
    hub.fault(endpoint, drip=0.1, times=FOREVER)  # of 150 bytes and more of headers
    begin = time.monotonic()
    with pytest.raises(HubError, match=rf"127.0.0.1:{hub.port}") as caught:
        publish(run_dir, arguments(run_dir), target)
    assert time.monotonic() - begin < 10
    one_line(caught.value, hub)
    assert caught.value.exit_code == 3 and hub.asked("commit") == 0


@pytest.mark.parametrize("value", ["²", "99999999999999999999", "-1", "soon", ""])
def test_a_strange_retry_after_is_no_wait_and_no_traceback(hub, run_dir, monkeypatch, value):
    monkeypatch.setattr(product, "RETRY_SECONDS", 1000.0)
    monkeypatch.setattr(product, "PREFLIGHT_SECONDS", 1000.0)
    hub.fault("whoami", status=429, retry_after=value)
    hub.fault("commits", status=503, retry_after=value)
    publish(run_dir, arguments(run_dir))
    assert holds(hub, run_dir)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_xet_gets_the_files_over_plain_http_at_once(hub, run_dir, monkeypatch, status):
    log_in(monkeypatch, hub, next(iter(hub.users)), xet=True)
    hub.fault("xet-token", status=status, times=FOREVER)
    publish(run_dir, arguments(run_dir))
    assert holds(hub, run_dir) and hub.asked("lfs-put") > 0
    assert len(hub.commits(REPO)) == 2
    assert constants.HF_HUB_DISABLE_XET


def test_an_endpoint_with_a_slash_at_its_end_is_the_same_endpoint(hub, run_dir, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    publish(run_dir, arguments(run_dir))
    assert holds(hub, run_dir)


# ---------------------------------------------------------------------------------------------------------------------
# What is uploaded is what was tested


@pytest.mark.parametrize("moment", ["smoke test", "preupload", "lfs-put"])
def test_weights_replaced_after_the_test_are_not_committed(hub, run_dir, monkeypatch, moment):
    log_in(monkeypatch, hub, next(iter(hub.users)), xet=False)
    tested = (run_dir / "model.safetensors").read_bytes()

    def replace(*_: object) -> None:
        other = run_dir / "other"
        other.write_bytes(tested[:-1] + bytes([tested[-1] ^ 1]))
        other.replace(run_dir / "model.safetensors")

    if moment == "smoke test":
        monkeypatch.setattr(product, "smoke_test", replace)
    else:
        hub.fault(moment, run=replace)
    with pytest.raises((RunError, HubError), match=r"changed|422"):  # 422: the Hub's own look at what arrived
        publish(run_dir, arguments(run_dir))
    assert "model.safetensors" not in (hub.files(REPO) if ("model", REPO) in hub.repos else {})


def test_publishing_waits_for_nobody_and_does_not_run_beside_a_training(hub, run_dir):
    with (run_dir / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="output_dir"):
            stages.run_stages(arguments(run_dir))
    assert not hub.requests
    stages.run_stages(arguments(run_dir))
    assert holds(hub, run_dir)


@pytest.mark.parametrize("to", ["file", "folder"])
@pytest.mark.parametrize("name", ["merges.txt", "README.md", "config.json", "model.safetensors", "eval_results_x.txt"])
def test_no_link_leaves_the_machine(hub, run_dir, tmp_path, name, to):
    secret = tmp_path / "id_rsa"
    if to == "file":
        secret.write_text("-----BEGIN PRIVATE KEY-----")
    else:
        secret.mkdir()
        (secret / "id_rsa").write_text("-----BEGIN PRIVATE KEY-----")
    (run_dir / name).unlink(missing_ok=True)
    (run_dir / name).symlink_to(secret)
    for training in (True, False):
        with pytest.raises(InputError, match=f"{name}.*link"):
            preflight(arguments(run_dir, do_train=training))
    with pytest.raises(InputError, match=f"{name}.*link"):
        stages.publish_only(arguments(run_dir))
    assert not hub.requests


# ---------------------------------------------------------------------------------------------------------------------
# Damaged files of ours


@pytest.mark.parametrize("content", [b"", b'{"ann/x": "1', b"[]", b"\xff\xfe", b"null", b'{"%s": 5}' % REPO.encode()])
def test_a_damaged_memory_of_publications_counts_as_none_and_is_written_whole(hub, run_dir, caplog, content):
    (run_dir / "hub_state.json").write_bytes(content)
    publish(run_dir, arguments(run_dir))
    assert json.loads((run_dir / "hub_state.json").read_text()) == {REPO: hub.commits(REPO)[-1].oid}
    if content != b'{"%s": 5}' % REPO.encode():
        assert "hub_state.json" in caplog.text


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_damaged_settings_are_one_line_and_stay_here(hub, run_dir, name):
    for content in (b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 600 + b"1" + b"}" * 600):
        (run_dir / name).write_bytes(content)
        with pytest.raises((InputError, RunError), match=name) as caught:
            publish(run_dir, arguments(run_dir))
        one_line(caught.value, hub)
    assert hub.asked("commit") == 0
