"""Publishing as a user meets it: allowed or not within seconds, one commit of the right files, nothing leaked.

The real huggingface_hub client speaks over HTTP with the small Hub of hub_server.py.
"""

import pytest

from distilbart_mnli.hub import PublishTarget, preflight, publish
from tests.hub_server import Hub
from tests.publishing import REPO, ROWS, arguments, finished_run, log_in, shorten_waits


@pytest.fixture
def hub(tmp_path, monkeypatch):
    shorten_waits(monkeypatch)
    with Hub(tmp_path / "hub") as hub:
        log_in(monkeypatch, hub, hub.add_user("ann", orgs=["lab"]))
        yield hub


@pytest.fixture
def run_dir(tmp_path):
    return finished_run(tmp_path / "distilbart-mnli-2-1")


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_one_commit_holds_the_published_files_and_nothing_else(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, next(iter(hub.users)), xet)
    args = arguments(run_dir, do_train=True)
    target = preflight(args)
    assert target == PublishTarget(REPO, None) and not hub.repos  # nothing was created
    url = publish(run_dir, args, target, ROWS)

    first, published = hub.commits(REPO)
    assert url == f"{hub.url}/{REPO}/commit/{published.oid}" and published.parent == first.oid
    assert published.title == "Add distilbart-mnli-2-1: accuracy 0.8125, accuracy_mm 0.7500"
    assert "eval_loss = 0.5" in published.description
    assert set(published.files) == {
        *first.files,
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("all_results.json", "trainer_state.json", "training_args.json", "eval_results_mnli.txt"),
    }
    assert hub.files(REPO)["model.safetensors"] == (run_dir / "model.safetensors").read_bytes()
    assert hub.asked("xet-token") == (1 if xet else 0) and hub.asked("commit") == 1
