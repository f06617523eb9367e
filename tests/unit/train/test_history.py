"""config.json of a trained student says how it was made: every stage by value, and once where a run was repeated."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from distilbart_mnli.model.configuration import read_config
from distilbart_mnli.model.source import Source
from tests.support.files import edit_config
from tests.support.in_process import train_here
from tests.support.students import student_of
from tests.support.tiny import tiny_bart, tiny_config
from tests.support.training_runs import Workshop, only_checkpoint

ROWS = 44  # the workshop's: 6 optimizer steps an epoch


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Workshop:
    shop = Workshop(tmp_path_factory.mktemp("history"))
    tiny_bart(shop.folder / "teacher", seed=1, encoder_layers=3, decoder_layers=3)
    student_of(shop.folder / "teacher", shop.folder / "cut", encoder_layers=2, decoder_layers=1)
    return shop


def options(shop: Workshop, output_dir: str, **changes) -> dict:
    short = {"num_train_epochs": 1, "save_strategy": "no", "eval_strategy": "no", "freeze_embeds": False}
    student = {"model_name_or_path": str(shop.folder / "cut"), "do_eval": False, "freeze_encoder": False}
    return {**shop.options(output_dir), **short, **student, **changes}


def trained(shop: Workshop, output_dir: str, **changes) -> list[dict] | None:
    """The history that a training leaves, without its run's id, which is one word."""
    assert train_here(options(shop, output_dir, **changes)) == (0, "")
    return history(shop.folder / output_dir)


def history(folder: Path) -> list[dict] | None:
    stages = json.loads((folder / "config.json").read_text()).get("distillation")
    assert all(stage.pop("run", "id").isalnum() for stage in stages or [])
    return stages


def test_every_training_is_one_stage_with_what_it_learnt(shop, tmp_path):
    teacher = {"teacher_model_name_or_path": str(shop.folder / "teacher")}
    length = {"rows": ROWS, "transfer_rows": 0, "epochs": 1.0, "steps": 6}
    assert history(shop.folder / "cut") == []
    fitted = {"stage": "encoder states", "teacher": "teacher", "loss": "mean squared error", "trained": "encoder"}
    assert trained(shop, "fitted", fit_encoder=True, **teacher) == [fitted | length]

    pairs = shop.folder / "pairs.csv"
    pairs.write_text("sentence1,sentence2\n" + "a dog eats,a cat\n" * 5)
    weighted = {"distillation_weight": 0.75, "distillation_temperature": 2.0, "transfer_file": str(pairs)}
    start = {"model_name_or_path": str(shop.folder / "fitted"), "freeze_encoder": True}
    logits = {"stage": "logits", "teacher": "teacher", "loss": "KL divergence", "trained": "decoder"}
    logits |= {"weight": 0.75, "temperature": 2.0, **length, "transfer_rows": 5, "steps": 7}
    assert trained(shop, "two", **start, **weighted, **teacher) == [fitted | length, logits]
    results = json.loads((shop.folder / "two" / "all_results.json").read_text())
    assert [stage["stage"] for stage in results["distillation"]] == ["encoder states", "logits"]
    assert type(AutoModelForSequenceClassification.from_pretrained(shop.folder / "two").config.distillation) is list

    labels = {"stage": "labels", "loss": "cross-entropy", "trained": "all"}
    three = trained(shop, "three", model_name_or_path=str(shop.folder / "two"))
    assert three == [fitted | length, logits, labels | length]


def test_a_training_without_a_teacher_is_a_stage_of_labels_of_a_student_alone(shop):
    (stage,) = trained(shop, "labels") or []
    assert (stage["stage"], stage["loss"]) == ("labels", "cross-entropy") and "teacher" not in stage
    # a share of nothing of the teacher's answers is none
    teacher = str(shop.folder / "teacher")
    (stage,) = trained(shop, "nothing", teacher_model_name_or_path=teacher, distillation_weight=0) or []
    assert stage["stage"] == "labels" and "teacher" not in stage
    # a model that create_student.py did not make says nothing of its past, and nothing is made up
    assert trained(shop, "stranger", model_name_or_path=str(shop.folder / "student")) is None
    assert "distillation" not in json.loads((shop.folder / "stranger" / "all_results.json").read_text())


def test_a_resumed_or_repeated_run_stands_in_the_history_once(shop):
    teacher = {"teacher_model_name_or_path": str(shop.folder / "teacher"), "save_strategy": "steps", "save_steps": 3}
    whole = trained(shop, "whole", **teacher)
    assert history(shop.folder / "whole" / "checkpoint-3") == [{**(whole or [{}])[0], "steps": 3, "epochs": 0.5}]
    only_checkpoint(shop.folder / "whole", shop.folder / "resumed", 3)
    assert trained(shop, "resumed", **teacher, resume_from_checkpoint="true") == whole
    assert trained(shop, "resumed", **teacher, resume_from_checkpoint="true") == whole
    # and from a checkpoint of its own, as somebody's script gives it
    shutil.copytree(shop.folder / "whole", shop.folder / "own")
    start = {"model_name_or_path": str(shop.folder / "own" / "checkpoint-6")}
    assert len(trained(shop, "again", **start, **teacher) or []) == 2  # another training, of the trained model


ODD = [
    *("text", 5, {"stage": "logits"}, [5], [["logits"]], [{}], [{"stage": "magic"}], [{"stage": ["logits"]}]),
    *([{"stage": "logits", "rows": -1}], [{"stage": "logits", "rows": True}], [{"stage": "logits", "weight": "1"}]),
    [{"stage": "logits", "temperature": float("nan")}],
    [{"stage": "logits", "teacher": "x" * 100_000}],
    [{"stage": "logits", "script": "<script>"}],
    [{"stage": "logits"}] * 5_000,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:40])
def test_a_record_that_no_run_wrote_is_passed_over(shop, tmp_path, caplog, odd):
    tiny_config(distillation=odd).save_pretrained(tmp_path / "odd")
    edit_config(tmp_path / "odd", architectures=["BartForSequenceClassification"], distillation=odd)
    assert read_config(Source(str(tmp_path / "odd"))).distillation == [{"stage": "unreadable"}]
    (line,) = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    assert "distillation" in line and len(line) < 300


def test_what_follows_it_is_recorded_all_the_same(shop, tmp_path):
    shutil.copytree(shop.folder / "cut", tmp_path / "odd")
    edit_config(tmp_path / "odd", distillation="text")
    found = trained(shop, "after", model_name_or_path=str(tmp_path / "odd")) or []
    assert [stage["stage"] for stage in found] == ["unreadable", "labels"]
