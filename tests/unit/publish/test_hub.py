"""Publishing as a user meets it: allowed or not within seconds, one commit of the right files, nothing leaked.

The real huggingface_hub client speaks over HTTP with the small Hub of hub_server.py; faults are in test_hub_faults.py,
whole runs in end_to_end/test_hub.py.
"""

import json
import os
import shlex
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from distilbart_mnli.errors import CommandError, HubError, InputError, RunError
from distilbart_mnli.options.read import parse_arguments
from distilbart_mnli.publish import hub as product
from distilbart_mnli.publish import staging
from distilbart_mnli.publish.commit import PublishTarget, commit_message
from distilbart_mnli.publish.hub import preflight, publish
from distilbart_mnli.publish.smoke_test import Predictions
from distilbart_mnli.publish.staging import PUBLISHED_FILES, staged
from distilbart_mnli.train import stages
from tests.support.hub_server import FOREVER, Hub
from tests.support.publishing import REPO, ROWS, arguments, log_in


def predictions(run_dir: Path, rows=ROWS) -> Predictions:
    return Predictions(run_dir / "eval_predictions_mnli.tsv", rows, max_seq_length=128)


def refused(error: type[CommandError], match: str, call, *given) -> str:
    with pytest.raises(error, match=match) as caught:
        call(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# The commit


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_one_commit_holds_the_published_files_and_nothing_else(hub, run_dir, monkeypatch, xet):
    log_in(monkeypatch, hub, next(iter(hub.users)), xet)
    args = arguments(run_dir, do_train=True)
    target = preflight(args)
    assert target == PublishTarget(REPO, None) and not hub.repos  # nothing was created
    url = publish(run_dir, args, target, predictions(run_dir))

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


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_an_endpoint_that_ends_in_a_slash_is_the_one_without(hub, run_dir, monkeypatch, slashes):
    """As huggingface_hub.constants.ENDPOINT is."""
    log_in(monkeypatch, hub, next(iter(hub.users)))
    monkeypatch.setenv("HF_ENDPOINT", hub.url + slashes)
    assert preflight(arguments(run_dir, do_train=True)) == PublishTarget(REPO, None)


def test_every_file_that_the_design_names_is_published_and_nothing_else(tmp_path):
    named = (
        "config.json model.safetensors tokenizer.json tokenizer_config.json README.md training_args.json "
        "trainer_state.json all_results.json eval_results_mnli.txt eval_results_mnli-mm.txt tradeoffs.json "
        "training_curves.png"
    ).split()
    kept = "eval_predictions_mnli.tsv optimizer.pt .env hub_state.json checkpoint-5 wandb pytorch_model.bin".split()
    for name in (*named, *kept):
        (tmp_path / name).write_text("{}")
    with staged(tmp_path, []) as folder:
        assert sorted(path.name for path in folder.iterdir()) == sorted(named)
        assert folder.name == tmp_path.name and "eval_results_*.txt" in PUBLISHED_FILES
    assert not folder.exists()


def test_what_is_there_already_is_not_committed_again(hub, run_dir, no_smoke):
    first = publish(run_dir, arguments(run_dir))
    assert publish(run_dir, arguments(run_dir)) == first
    (run_dir / "hub_state.json").unlink()  # a machine that remembers nothing
    assert publish(run_dir, arguments(run_dir)) == first
    assert len(hub.commits(REPO)) == 2 and hub.asked("commit") == 1


def test_what_others_made_of_it_since_is_named_and_only_force_replaces_it(hub, run_dir, no_smoke, caplog):
    first = publish(run_dir, arguments(run_dir))
    hub.push(REPO, {"README.md": b"# Written by hand\n"})
    assert publish(run_dir, arguments(run_dir)) == first
    assert "README.md" in caplog.text
    assert hub.files(REPO)["README.md"] == b"# Written by hand\n"
    publish(run_dir, arguments(run_dir, hub_force=True))
    assert hub.files(REPO)["README.md"] == (run_dir / "README.md").read_bytes()
    assert len(hub.commits(REPO)) == 4


def test_a_publication_elsewhere_does_not_make_it_forget_what_it_saw_here(hub, run_dir, no_smoke):
    publish(run_dir, arguments(run_dir))
    publish(run_dir, arguments(run_dir, hub_model_id="lab/model"))
    hub.push(REPO, {"README.md": b"# Written by hand\n"})
    (run_dir / "README.md").write_text((run_dir / "README.md").read_text() + "more\n")
    refused(HubError, "README.md.*--hub_force", publish, run_dir, arguments(run_dir))
    assert hub.files(REPO)["README.md"] == b"# Written by hand\n"


def test_a_second_run_goes_on_top_of_the_first_and_leaves_other_files(hub, run_dir, no_smoke):
    publish(run_dir, arguments(run_dir))
    hub.push(REPO, {"notes.md": b"by hand"})
    (run_dir / "hub_state.json").unlink()
    (run_dir / "all_results.json").write_text('{"eval_accuracy": 0.9}')
    publish(run_dir, arguments(run_dir))
    assert [commit.title for commit in hub.commits(REPO)][2:] == ["Edit", "Add distilbart-mnli-2-1: accuracy 0.9000"]
    assert hub.files(REPO)["notes.md"] == b"by hand"


def test_a_gitignore_in_the_repository_keeps_nothing_of_ours_out(hub, run_dir, no_smoke):
    hub.add_repo(REPO, {".gitignore": b"*.safetensors\n*.json\n"})
    publish(run_dir, arguments(run_dir))
    assert {"model.safetensors", "config.json"} <= set(hub.files(REPO))


def test_of_several_processes_the_first_publishes_a_finished_run(hub, run_dir, no_smoke, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    stages.run_stages(arguments(run_dir))
    assert hub.requests == []
    monkeypatch.setenv("RANK", "0")
    stages.run_stages(arguments(run_dir))
    assert len(hub.commits(REPO)) == 2


def test_a_private_repository_is_created_private(hub, run_dir, no_smoke):
    publish(run_dir, arguments(run_dir, hub_private_repo=True))
    assert hub.repos["model", REPO].private


def test_the_default_name_is_the_users_and_the_folders(hub, run_dir, no_smoke):
    publish(run_dir, arguments(run_dir, hub_model_id=None))
    assert ("model", "ann/distilbart-mnli-2-1") in hub.repos


def test_scores_that_are_no_numbers_stay_out_of_the_message(run_dir):
    (run_dir / "all_results.json").write_text('{"eval_accuracy": NaN, "eval_f1": 0.5, "eval_loss": 1.0, "epoch": 1}')
    title, description = commit_message(run_dir)
    assert title == "Add distilbart-mnli-2-1: f1 0.5000"
    assert "nan" not in description.lower() and "epoch = 1" in description


def test_a_failed_smoke_test_stops_the_upload_and_says_why(hub, run_dir):
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    refused(RunError, "missing keys", publish, run_dir, arguments(run_dir), None, predictions(run_dir))
    assert not hub.repos and hub.asked("preupload") == 0


def test_wrong_logits_stop_the_upload(hub, run_dir):
    wrong = predictions(run_dir, ROWS[::-1])
    refused(RunError, "eval_predictions_mnli.tsv", publish, run_dir, arguments(run_dir), None, wrong)
    assert not hub.repos


def test_a_folder_without_a_finished_model_is_bad_input_before_any_request(hub, tmp_path):
    refused(InputError, "model.safetensors", preflight, arguments(tmp_path))
    refused(InputError, "model.safetensors", publish, tmp_path, arguments(tmp_path))
    assert not hub.requests


# ---------------------------------------------------------------------------------------------------------------------
# Leaks


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))


def test_local_paths_in_settings_and_prose_are_reduced_and_tokens_of_the_tokenizer_are_not(run_dir):
    home = run_dir.parent / "my data"
    home.mkdir()
    edit_json(run_dir / "config.json", _name_or_path="/home/ann/start", other_path="/home/ann/x", url="https://a.b/c")
    edit_json(run_dir / "tokenizer_config.json", cache_dir=str(home), tokenizer_file="/opt/x/tokenizer.json")
    (run_dir / "README.md").write_text(f"# Hi\nIn `{run_dir}` and {home.parent}/x/y.json, not in /usr/share.\n")
    with staged(run_dir, []) as folder:
        config, tokenizer = (json.loads((folder / f"{name}config.json").read_text()) for name in ("", "tokenizer_"))
        card = (folder / "README.md").read_text()
    assert (config["_name_or_path"], config["other_path"], config["url"]) == ("start", "x", "https://a.b/c")
    assert (tokenizer["cache_dir"], tokenizer["tokenizer_file"]) == ("my data", "tokenizer.json")
    assert tokenizer["eos_token"] == "</s>"
    assert card == f"# Hi\nIn `{run_dir.name}` and y.json, not in /usr/share.\n"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("training_args.json", {"output_dir": "/scratch/u123/out"}),
        ("trainer_state.json", {"run": {"command": f"run_glue.py --data_dir {Path.home()}/glue_data"}}),
        ("tradeoffs.json", {"model": "~/out/distilbart-mnli-12-1"}),
    ],
)
def test_a_path_in_what_a_run_writes_itself_stops_the_publication(hub, run_dir, name, values):
    edit_json(run_dir / name, **values)
    refused(RunError, f"{name} .*path", publish, run_dir, arguments(run_dir))
    assert not hub.repos


def test_names_that_only_look_like_paths_are_published(run_dir):
    values = {"run_name": "a/tmp", "data_dir": "./tmp/x", "hub_model_id": REPO, "url": "https://x.org/tmp/y"}
    edit_json(run_dir / "training_args.json", **values)
    with staged(run_dir, []) as folder:
        assert json.loads((folder / "training_args.json").read_text()).items() >= values.items()


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("README.md", "own"),
        ("README.md", "hf_" + "a1B2" * 9),
        ("eval_results_mnli.txt", "WANDB_API_KEY"),
        ("model.safetensors", "own"),
    ],
)
def test_a_token_in_any_byte_stops_the_publication(hub, run_dir, monkeypatch, name, secret):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    value = {"own": next(iter(hub.users)), "WANDB_API_KEY": os.environ["WANDB_API_KEY"]}.get(secret, secret)
    with (run_dir / name).open("ab") as file:
        file.write(f"\nlogin: {value}\n".encode())
    message = refused(RunError, f"{name} .*token", publish, run_dir, arguments(run_dir))
    assert value not in message and not hub.repos


@pytest.mark.parametrize("chunk", [7, 16, 64])
def test_a_token_that_lies_across_two_reads_is_found(run_dir, monkeypatch, chunk):
    monkeypatch.setattr(staging, "_CHUNK", chunk)
    with (run_dir / "model.safetensors").open("ab") as file:
        file.write(b"x" * 5 + b"a-secret-of-many-bytes" + b"y" * 5)
    with pytest.raises(RunError, match=r"model.safetensors .*token"), staged(run_dir, ["a-secret-of-many-bytes"]):
        pass


def test_the_option_hub_token_is_used_and_stays_out_of_the_files(hub, run_dir, monkeypatch, no_smoke):
    token = hub.add_user("bob")
    args = arguments(run_dir, hub_token=token, hub_model_id="bob/model")
    publish(run_dir, args)
    assert not any(token.encode() in content for content in hub.files("bob/model").values())


# ---------------------------------------------------------------------------------------------------------------------
# The preflight: each refusal is one line that says what to do, and nothing was created


def preflight_refused(hub: Hub, run_dir: Path, match: str, **changes) -> str:
    repos = len(hub.repos)
    message = refused(HubError, match, preflight, arguments(run_dir, do_train=True, **changes))
    assert len(hub.repos) == repos and hub.asked("create") == 0
    assert not any(token in message for token in hub.users)
    return message


def test_without_a_token_it_says_how_to_log_in(hub, run_dir, monkeypatch):
    log_in(monkeypatch, hub, None)
    preflight_refused(hub, run_dir, "HF_TOKEN")
    assert not hub.requests


def test_a_wrong_token_is_refused(hub, run_dir, monkeypatch):
    log_in(monkeypatch, hub, "hf_wrongwrongwrongwrongwrong")
    message = preflight_refused(hub, run_dir, "401")
    assert "hf_wrong" not in message


def test_a_token_that_may_only_read_is_refused(hub, run_dir, monkeypatch):
    log_in(monkeypatch, hub, hub.add_user("ann", role="read"))
    preflight_refused(hub, run_dir, "settings/tokens")


def test_a_foreign_namespace_is_refused_and_the_possible_ones_are_named(hub, run_dir):
    preflight_refused(hub, run_dir, "google.*: ann, lab", hub_model_id="google/model")


def test_an_own_organisation_is_allowed(hub, run_dir):
    assert preflight(arguments(run_dir, hub_model_id="lab/model")) == PublishTarget("lab/model", None)


def test_somebody_elses_repository_is_refused_by_the_hub_itself(hub, run_dir):
    hub.add_repo("google/model")
    preflight_refused(hub, run_dir, "403", hub_model_id="google/model")


@pytest.mark.parametrize("repo", ["ann/model", "google/model"])
def test_where_the_hub_has_no_auth_check_role_and_namespaces_decide(hub, run_dir, repo):
    hub.add_repo(repo)
    hub.fault("auth-check", status=404, times=FOREVER)
    if repo == "ann/model":
        assert preflight(arguments(run_dir, hub_model_id=repo)).parent == hub.commits(repo)[-1].oid
    else:
        preflight_refused(hub, run_dir, "google", hub_model_id=repo)


def test_of_a_fine_grained_token_only_the_namespace_is_checked(hub, run_dir, monkeypatch):
    log_in(monkeypatch, hub, hub.add_user("ann", role="fineGrained", orgs=["lab"]))
    for allowed in (REPO, "lab/model"):
        assert preflight(arguments(run_dir, hub_model_id=allowed)).repo_id == allowed
    preflight_refused(hub, run_dir, "google", hub_model_id="google/model")


def test_a_name_the_hub_does_not_allow_is_refused(hub, run_dir):
    preflight_refused(hub, run_dir, "hub_model_id ann/two words", hub_model_id="ann/two words")


def test_a_public_repository_is_not_mistaken_for_a_private_one(hub, run_dir):
    hub.add_repo(REPO)
    preflight_refused(hub, run_dir, "hub_private_repo", hub_private_repo=True)


def test_a_licence_the_hub_does_not_know_is_refused_before_training(hub, run_dir):
    preflight_refused(hub, run_dir, "license", license="no-such-licence")


def test_a_publish_only_run_checks_the_card_itself(hub, run_dir):
    (run_dir / "README.md").write_text("---\nlicense: no-such-licence\n---\n")
    refused(HubError, "license", preflight, arguments(run_dir))


def test_a_publish_only_run_adds_a_license_that_the_card_lacks(hub, run_dir, no_smoke, monkeypatch):
    (run_dir / "README.md").write_text("# By hand\n\nWords of mine.\n")
    monkeypatch.setattr(stages, "set_up_logging", lambda: None)
    stages.run_stages(arguments(run_dir, license="apache-2.0"))
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    assert card.data.license == "apache-2.0" and "Words of mine." in card.text
    (run_dir / "model.safetensors").unlink()
    before = (run_dir / "README.md").read_bytes()
    refused(InputError, "model.safetensors", stages.run_stages, arguments(run_dir, license="mit"))
    assert (run_dir / "README.md").read_bytes() == before


def test_offline_mode_is_named(hub, run_dir, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    preflight_refused(hub, run_dir, "HF_HUB_OFFLINE")


def test_a_repository_edited_since_the_last_publication_is_noticed_before_training(hub, run_dir, no_smoke):
    publish(run_dir, arguments(run_dir))
    assert preflight(arguments(run_dir, do_train=True)).parent == hub.commits(REPO)[-1].oid
    hub.push(REPO, {"README.md": b"# Written by hand\n"})
    hub.requests.clear()
    preflight_refused(hub, run_dir, "README.md.*--hub_force")
    assert preflight(arguments(run_dir, do_train=True, hub_force=True)).parent == hub.commits(REPO)[-1].oid


def test_the_command_that_retries_is_understood_by_run_glue(run_dir):
    args = arguments(run_dir, hub_private_repo=True, bf16=True, do_train=True)
    words = shlex.split(product.retry_command(Path("out put"), args, PublishTarget(REPO, None)))
    again = parse_arguments(words[2:])
    assert words[:2] == ["python", "run_glue.py"]
    assert (again.output_dir, again.hub_model_id, again.push_to_hub) == ("out put", REPO, True)
    assert again.hub_private_repo and not again.do_train
