"""The small Hub of the tests against the real clients: what it says must be what they understand.

Proves that huggingface_hub uploads (LFS and xet), transformers loads a model, its tokenizer and a pipeline, and
datasets loads parquet, all by id and over HTTP, and that private, gated and missing things are told apart.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.support.hub_server import Hub
from tests.support.tiny import ROOT, tiny_bart

SPLITS = ("train", "validation_matched")
GLUE_CARD = b"""---
configs:
- config_name: mnli
  data_files:
  - split: train
    path: mnli/train-*
  - split: validation_matched
    path: mnli/validation_matched-*
---
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with Hub(tmp_path / "hub") as hub:
        yield hub


def python(code: str, environment: dict[str, str]) -> dict:
    """The JSON object that `code` prints last, in a process of its own with the given Hub and an empty cache."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("xet", [False, True], ids=["lfs", "xet"])
def test_what_the_client_uploads_is_what_it_downloads(hub, tmp_path, monkeypatch, xet):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    api = HfApi(endpoint=hub.url, token=hub.add_user("ann"))
    weights = bytes(range(256)) * 2000
    (tmp_path / "model.safetensors").write_bytes(weights)
    api.create_repo("ann/model")
    parent = api.model_info("ann/model").sha
    files = {"model.safetensors": tmp_path / "model.safetensors", "config.json": b"{}", "deep/er/notes.txt": b"text"}
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    done = api.create_commit("ann/model", operations, commit_message="First", parent_commit=parent)

    assert [commit.title for commit in hub.commits("ann/model")] == ["initial commit", "First"]
    assert done.oid == hub.commits("ann/model")[-1].oid
    assert hub.asked("xet-token") == (1 if xet else 0) and hub.asked("lfs-put") == (0 if xet else 1)
    head = hub.commits("ann/model")[-1].files
    assert head["model.safetensors"].content == weights and head["model.safetensors"].lfs
    assert not head["config.json"].lfs
    path = hf_hub_download("ann/model", "model.safetensors", endpoint=hub.url, cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == weights
    tree = {entry.path: entry for entry in api.list_repo_tree("ann/model", recursive=True)}
    assert tree["model.safetensors"].lfs.sha256 == head["model.safetensors"].sha256
    assert "deep/er" in tree and tree["deep/er/notes.txt"].size == 4
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("ann/model", [CommitOperationAdd("a", b"a")], commit_message="Late", parent_commit=parent)


def test_transformers_loads_a_model_and_a_pipeline_by_id_in_a_new_process(hub, tmp_path):
    tiny_bart(tmp_path / "model")
    hub.add_repo("ann/teacher", tmp_path / "model")
    code = """
import json
from transformers import pipeline
nli = pipeline("zero-shot-classification", model="ann/teacher")
found = nli("the big dog", ["cat", "garden"])
print(json.dumps({"labels": found["labels"], "id2label": nli.model.config.id2label}))
"""
    found = python(code, hub.environment(None, tmp_path / "home"))
    assert set(found["labels"]) == {"cat", "garden"}
    assert list(found["id2label"].values()) == ["contradiction", "neutral", "entailment"]


def test_datasets_loads_glue_in_parquet_by_id_in_a_new_process(hub, tmp_path):
    make = f"""
import json
from datasets import ClassLabel, Dataset, Features, Value
names = ["entailment", "neutral", "contradiction"]
features = Features({{"premise": Value("string"), "hypothesis": Value("string"),
                     "label": ClassLabel(names=names), "idx": Value("int32")}})
for split, rows in (("train", 5), ("validation_matched", 3)):
    columns = {{"premise": ["a\\tb"] * rows, "hypothesis": ["c"] * rows, "label": [2] * rows, "idx": range(rows)}}
    Dataset.from_dict(columns, features).to_parquet({str(tmp_path)!r} + f"/{{split}}.parquet")
print(json.dumps({{}}))
"""
    python(make, {"HF_HOME": str(tmp_path / "other_home")})
    files = {f"mnli/{s}-00000-of-00001.parquet": (tmp_path / f"{s}.parquet").read_bytes() for s in SPLITS}
    hub.add_repo("nyu-mll/glue", {"README.md": GLUE_CARD, **files}, "dataset")
    code = """
import json
from datasets import load_dataset
data = load_dataset("nyu-mll/glue", "mnli")
print(json.dumps({"rows": {k: len(v) for k, v in data.items()}, "row": data["train"][4],
                  "names": data["train"].features["label"].names}))
"""
    found = python(code, hub.environment(None, tmp_path / "home"))
    assert found["rows"] == {"train": 5, "validation_matched": 3}
    assert found["row"] == {"premise": "a\tb", "hypothesis": "c", "label": 2, "idx": 4}
    assert found["names"] == ["entailment", "neutral", "contradiction"]


def test_private_gated_missing_and_forbidden_are_told_apart(hub, tmp_path):
    owner, reader = hub.add_user("ann", orgs=["lab"]), hub.add_user("bob", role="read")
    hub.add_repo("ann/secret", {"config.json": b"{}"}, private=True)
    hub.add_repo("lab/gated", {"config.json": b"{}"}, gated=True)
    ann, bob = HfApi(endpoint=hub.url, token=owner), HfApi(endpoint=hub.url, token=reader)
    ann.auth_check("ann/secret", write=True)
    ann.auth_check("lab/gated", write=True)
    with pytest.raises(RepositoryNotFoundError):
        bob.model_info("ann/secret")
    with pytest.raises(RepositoryNotFoundError):
        ann.model_info("ann/absent")
    with pytest.raises(RevisionNotFoundError):
        ann.model_info("ann/secret", revision="v2")
    with pytest.raises(GatedRepoError):
        bob.hf_hub_download("lab/gated", "config.json", cache_dir=tmp_path)
    for call in (lambda: bob.create_repo("bob/new"), lambda: ann.create_repo("bob/new")):
        with pytest.raises(HfHubHTTPError, match="403"):
            call()
    hub.revoke(owner)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        ann.whoami()


def test_a_fault_is_used_up_and_the_server_can_go_away_and_come_back(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    api = HfApi(endpoint=hub.url, token=hub.add_user("ann"))
    hub.fault("whoami", status=503, retry_after=0)
    with pytest.raises(HfHubHTTPError, match="503"):
        api.whoami()
    hub.fault("whoami", drop="after")
    with pytest.raises(Exception, match="disconnected"):
        api.whoami()
    hub.pause()
    with pytest.raises(Exception, match=r"refused|disconnected"):
        api.whoami()
    hub.resume()
    assert api.whoami()["name"] == "ann"
    assert hub.asked("whoami") == 3  # the one that met no server is not among them


def test_a_card_with_broken_metadata_is_refused(hub):
    api = HfApi(endpoint=hub.url, token=hub.add_user("ann"))
    api.create_repo("ann/model")
    for card in (b"---\nlicense: no-such-licence\n---\n", b"---\ntags: [1]\n---\n", b"---\na: [\n---\n"):
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.create_commit("ann/model", [CommitOperationAdd("README.md", card)], commit_message="Card")
    assert len(hub.commits("ann/model")) == 1
