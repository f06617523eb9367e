"""What a late stage needs is asked before the training, and what it still meets costs neither card nor curves.

Each refusal: exit code, the subject of the one line, and no training (no output_dir, or nothing changed in it). The
Hub is the small one of hub_server.py; a kill is an exception that nothing catches.
"""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from distilbart_mnli.errors import RunError
from distilbart_mnli.publish import card
from distilbart_mnli.publish import hub as product
from distilbart_mnli.train import stages
from tests.support.files import everything_in
from tests.support.hub_server import Hub
from tests.support.in_process import results, train_here
from tests.support.publishing import log_in, shorten_waits
from tests.support.training_runs import Workshop

ONE_EPOCH = {"num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no", "cache_encoder_outputs": "false"}
ALL_STAGES = ("--do_train", "--do_eval", "--do_predict")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    shorten_waits(monkeypatch)
    with Hub(tmp_path / "hub") as hub:
        log_in(monkeypatch, hub, hub.add_user("ann"))
        yield hub


@pytest.fixture
def own_shop(tmp_path) -> Workshop:
    """One whose data a test may break, with test sets."""
    shop = Workshop(tmp_path / "shop", train=12)
    for kind in ("matched", "mismatched"):
        shutil.copy(shop.folder / "data" / f"dev_{kind}.tsv", shop.folder / "data" / f"test_{kind}.tsv")
    return shop


def refused(
    shop: Workshop, subject: str, flags: tuple[str, ...] = (), output_dir: str | Path = "out", **changes
) -> None:
    options = shop.options(output_dir, **{**ONE_EPOCH, **changes})
    out = Path(options["output_dir"])
    before = everything_in(out) if out.exists() else None
    code, error = train_here(options, (*ALL_STAGES, *flags))
    assert code == 2 and subject in error and "\n" not in error, error
    assert (everything_in(out) if out.exists() else None) == before


@pytest.mark.parametrize("name", ["train.tsv", "dev_mismatched.tsv", "test_matched.tsv", "test_mismatched.tsv"])
@pytest.mark.parametrize("fault", ["missing", "a column short"])
def test_every_split_is_read_before_the_training(own_shop, name, fault):
    path = own_shop.folder / "data" / name
    if fault == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("\tsentence2\t", "\tanother\t"))
    refused(own_shop, name)


def test_own_files_are_read_before_the_training(own_shop, tmp_path):
    for name, second in (("train", "b"), ("dev", "b"), ("test", "c")):
        rows = [f'{{"a": "x{row}", "{second}": "y", "label": "{("one", "two")[row % 2]}"}}' for row in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    files = {"train_file": "train", "validation_file": "dev", "test_file": "test"}
    own = {option: str(tmp_path / f"{name}.jsonl") for option, name in files.items()}
    keys = {"sentence1_key": "a", "sentence2_key": "b", "reinit_classifier": True, "task_name": None, "data_dir": None}
    refused(own_shop, "test.jsonl", **own, **keys)


def test_the_cards_template_is_tried_before_the_training(own_shop, tmp_path, monkeypatch):
    for broken in ("{% if facts %}", "{{ facts.no_such_fact }}", "{{ unknown }}"):
        template = tmp_path / "model_card.md"
        template.write_text("<!-- begin generated: x -->" + broken + "<!-- end generated: x -->")
        monkeypatch.setattr(card, "TEMPLATE", template)
        refused(own_shop, "model_card.md")


def test_a_folder_in_the_place_of_a_file_is_found_before_the_training(own_shop):
    for name in ("README.md", "all_results.json", "eval_predictions_mnli.tsv"):
        (own_shop.folder / name.replace(".", "-") / name).mkdir(parents=True)
        refused(own_shop, name, output_dir=name.replace(".", "-"))


TOKEN = "hf_" + "aB3dE6gH9j" * 4


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"output_dir": TOKEN}, "output_dir"),
        ({"run_name": f"with {TOKEN}"}, "run_name"),
        ({"run_name": f"see {Path.home()}/notes"}, "training_args.json"),
    ],
)
def test_what_may_not_be_published_is_found_before_the_training(hub, own_shop, changes, subject):
    output_dir = own_shop.folder / changes.pop("output_dir", "out")
    refused(own_shop, subject, ("--push_to_hub",), output_dir, **{"hub_model_id": "ann/x", **changes})
    assert hub.asked("create") == 0


def test_a_persons_readme_is_looked_at_before_the_training(hub, own_shop):
    out = own_shop.folder / "out"
    out.mkdir()
    for words, code in ((f"my token is {TOKEN}", 2), ("---\nextra:\n- 5\ntags: [x]\n---\nwords", None)):
        (out / "README.md").write_text(words)
        options = own_shop.options("out", **ONE_EPOCH, hub_model_id="ann/x")
        if code is not None:
            assert train_here(options, ("--push_to_hub",))[0] == code
    assert hub.asked("create") == 0


def test_results_of_another_model_are_not_on_the_page_of_a_model(hub, own_shop, monkeypatch):
    monkeypatch.setattr(product, "smoke_test", lambda *_: None)
    options = own_shop.options("out", **ONE_EPOCH, hub_model_id="ann/x")
    out = options["output_dir"]
    assert train_here(options) == (0, "")
    evaluation = {**options, "do_train": False}
    code, error = train_here(evaluation, ("--push_to_hub",))
    assert code == 2 and "--model_name_or_path" in error
    assert train_here(evaluation) == (0, "")  # the student's results, beside the model
    only = {"output_dir": out, "push_to_hub": True, "hub_model_id": "ann/x"}
    code, error = train_here(only)
    assert code == 2 and "--do_eval" in error and not hub.repos
    assert train_here({**evaluation, "model_name_or_path": out}, ("--push_to_hub",), card=True) == (0, "")
    there = hub.files("ann/x")
    measured = json.loads(there["all_results.json"])
    on_card = ModelCard(there["README.md"].decode()).data.eval_results
    assert [result.metric_value for result in on_card] == [measured["eval_accuracy"], measured["eval_accuracy_mm"]]


@pytest.mark.parametrize("stage", ["predict", "evaluate_sets"])
def test_what_a_late_stage_still_meets_costs_neither_card_nor_curves(own_shop, monkeypatch, stage):
    def fails(*_: object, **__: object) -> None:
        raise RunError("the disk is gone")

    monkeypatch.setattr(stages, stage, fails)
    options = own_shop.options("out", **ONE_EPOCH)
    assert train_here(options, ALL_STAGES, card=True) == (1, "the disk is gone")
    out = Path(options["output_dir"])
    assert (out / "training_curves.png").stat().st_size > 1000
    text = (out / "README.md").read_text()
    assert "## Training" in text and ("## Results" in text) == (stage == "predict")


class Killed(BaseException):
    """Nothing catches it."""


def test_a_card_of_another_run_is_never_published(hub, own_shop, monkeypatch):
    """Trained; trained anew over it and killed between the final save and its results; published."""
    monkeypatch.setattr(product, "smoke_test", lambda *_: None)
    options = own_shop.options("out", **ONE_EPOCH)
    out = Path(options["output_dir"])
    assert train_here(options, card=True) == (0, "")
    first, first_scores = (out / "README.md").read_text(), results(out)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stages, "merge_results", killed)
        with pytest.raises(Killed):
            train_here({**options, "seed": 7, "learning_rate": 0.05}, ("--overwrite_output_dir",), card=True)
    assert (out / "README.md").read_text() == first and not (out / "all_results.json").exists()
    only = {"output_dir": str(out), "push_to_hub": True, "hub_model_id": "ann/x", "license": "mit"}
    code, error = train_here(only)
    assert code == 2 and "--resume_from_checkpoint" in error and not hub.repos

    evaluation = {**options, "model_name_or_path": str(out), "do_train": False}
    assert train_here(evaluation, card=True) == (0, "")
    assert train_here(only, card=True) == (0, "")
    there = hub.files("ann/x")
    measured = json.loads(there["all_results.json"])
    assert measured["eval_accuracy"] == results(out)["eval_accuracy"] and measured != first_scores
    on_card = ModelCard(there["README.md"].decode()).data.eval_results
    assert [result.metric_value for result in on_card] == [measured["eval_accuracy"], measured["eval_accuracy_mm"]]


def test_a_page_is_never_without_a_card(hub, own_shop, monkeypatch):
    monkeypatch.setattr(product, "smoke_test", lambda *_: None)
    options = own_shop.options("out", **ONE_EPOCH)
    out = Path(options["output_dir"])
    assert train_here(options) == (0, "") and not (out / "README.md").exists()
    for words in (None, "", " \n"):
        (out / "README.md").unlink(missing_ok=True)
        if words is not None:
            (out / "README.md").write_text(words)
        only = {"output_dir": str(out), "push_to_hub": True, "hub_model_id": "ann/x"}
        assert train_here(only, card=True) == (0, "")
        assert b"## Results" in hub.files("ann/x")["README.md"]
