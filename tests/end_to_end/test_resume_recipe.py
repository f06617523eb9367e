"""A run goes on under its checkpoint's recipe: what decides the weights must be the same, the rest may change."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from distilbart_mnli.train.device import Device
from tests.support.files import everything_in
from tests.support.in_process import train_here, weights
from tests.support.resuming import CONFIGURATIONS, FIRST, edit_state, resumed
from tests.support.training_runs import Workshop, only_checkpoint, outcome

pytestmark = pytest.mark.xdist_group("resume")


@pytest.fixture
def shop(uninterrupted) -> Workshop:
    return uninterrupted.shop


def test_what_does_not_decide_the_weights_may_change(shop, uninterrupted, tmp_path):
    expected = uninterrupted(FIRST)
    shutil.copytree(shop.folder / "student", tmp_path / "moved student")
    shutil.copytree(shop.folder / "data", tmp_path / "moved data")
    found = resumed(
        shop,
        expected,
        FIRST,
        7,
        tmp_path,
        model_name_or_path=str(tmp_path / "moved student"),
        data_dir=str(tmp_path / "moved data"),
        report_to="tensorboard",
        run_name="another name",
        save_total_limit=1,
        dataloader_num_workers=0,
        hub_model_id="someone/something",
        overwrite_output_dir=True,
        save_steps=5,
        encoder_cache_dir=str(tmp_path / "moved cache"),
    )
    assert outcome(found) == outcome(expected)


def test_logging_steps_may_change(shop, uninterrupted, tmp_path):
    expected = uninterrupted(FIRST)
    found = resumed(shop, expected, FIRST, 7, tmp_path, logging_steps=3)
    assert outcome(found)["weights"] == outcome(expected)["weights"]
    losses = [entry["step"] for entry in outcome(found)["log_history"] if "loss" in entry]
    assert losses == [2, 4, 6, 9, 12, 15, 18]


CHANGED = {
    "learning_rate": {"learning_rate": 2e-3},
    "lr_scheduler_type": {"lr_scheduler_type": "cosine"},
    "warmup_steps": {"warmup_steps": 0},
    "weight_decay": {"weight_decay": 0.1},
    "adam_beta2": {"adam_beta2": 0.98},
    "max_grad_norm": {"max_grad_norm": 0.5},
    "total_steps": {"num_train_epochs": 4},
    "seed": {"seed": 1},
    "max_seq_length": {"max_seq_length": 32},
    "per_device_train_batch_size": {"per_device_train_batch_size": 2},
    "effective_batch_size": {"effective_batch_size": 16},
    "train_sampling_strategy": {"train_sampling_strategy": "random"},
    "freeze_embeds": {"freeze_embeds": False},
    "mixed_precision": {"bf16": True},
    "dropout": {"dropout": 0.2},
    "label_smoothing_factor": {"label_smoothing_factor": 0.1},
    "attn_implementation": {"attn_implementation": "eager"},
    "train_data": {"max_train_samples": 43},
    "metric_for_best_model": {"metric_for_best_model": "loss"},
    "early_stopping_patience": {"early_stopping_patience": 2},
    "load_best_model_at_end": {"load_best_model_at_end": False},
}


def test_another_recipe_is_refused_with_the_difference(shop, uninterrupted, tmp_path):
    only_checkpoint(uninterrupted(FIRST), tmp_path / "out", 7)
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    for name, change in CHANGED.items():
        options = shop.options(tmp_path / "out", **{**CONFIGURATIONS[FIRST], **change})
        code, error = train_here(options, ("--resume_from_checkpoint",))
        assert code == 2 and f"{name}: " in error and " -> " in error, (name, code, error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [n for n in before if n != ".lock"]


@pytest.mark.parametrize("what", ["model", "tokenizer", "train_data", "evaluation_data"])
def test_other_content_under_the_same_path_is_refused(shop, uninterrupted, tmp_path, what):
    for name in ("student", "data"):
        shutil.copytree(shop.folder / name, tmp_path / name)
    if what == "model":
        tensors = weights(tmp_path / "student")
        tensors["classification_head.out_proj.bias"][0] += 1e-6
        save_file(tensors, tmp_path / "student/model.safetensors", metadata={"format": "pt"})
    elif what == "tokenizer":
        path = tmp_path / "student/tokenizer.json"
        state = json.loads(path.read_text(encoding="utf-8"))
        # A token that no text holds: the same ids for this data, and yet another tokenizer.
        state["added_tokens"].append({**state["added_tokens"][-1], "id": 399, "content": "<new>", "special": False})
        path.write_text(json.dumps(state), encoding="utf-8")
    else:
        path = tmp_path / "data" / ("train.tsv" if what == "train_data" else "dev_mismatched.tsv")
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        lines[3][8] += " not"
        path.write_text("\n".join("\t".join(fields) for fields in lines), encoding="utf-8")
    only_checkpoint(uninterrupted(FIRST), tmp_path / "out", 7)
    paths = {"model_name_or_path": str(tmp_path / "student"), "data_dir": str(tmp_path / "data")}
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST], **paths)
    code, error = train_here(options, ("--resume_from_checkpoint",))
    assert code == 2 and f"{what}: " in error, error


def test_a_checkpoint_written_before_its_record_grew_is_resumed(shop, uninterrupted, tmp_path, caplog):
    def older(state: dict) -> None:
        del state["resume"]["decides_bits"], state["resume"]["progress"]["evaluation_due"]
        del state["resume"]["recipe"]["torch_compile"]  # an option with its default

    only_checkpoint(uninterrupted(FIRST), tmp_path / "out", 5)
    edit_state(tmp_path / "out/checkpoint-5", older)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert "resuming from checkpoint-5" in caplog.text and "bits" not in caplog.text
    assert outcome(tmp_path / "out") == outcome(uninterrupted(FIRST))


def test_what_else_decides_the_bits_is_named_and_refused_if_asked(shop, uninterrupted, tmp_path, caplog):
    only_checkpoint(uninterrupted(FIRST), tmp_path / "out", 5)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    flags = ("--resume_from_checkpoint", "--require_same_bits")

    def elsewhere(state: dict) -> None:
        state["resume"]["decides_bits"].update(threads=64, torch="1.0")

    edit_state(tmp_path / "out/checkpoint-5", elsewhere)
    before = everything_in(tmp_path / "out")
    code, error = train_here(options, flags)
    assert code == 2 and "require_same_bits" in error and "threads: 64 -> 1" in error and 'torch: "1.0" -> ' in error
    assert {name: data for name, data in before.items() if name != ".lock"} == everything_in(tmp_path / "out")
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "bits" in r.getMessage()]
    assert "checkpoint-5" in line and "threads: 64 -> 1" in line and "device" not in line


def test_the_same_bits_can_be_asked_for_and_are_had(shop, uninterrupted, tmp_path, caplog):
    found = resumed(shop, uninterrupted(FIRST), FIRST, 5, tmp_path, require_same_bits=True)
    assert outcome(found) == outcome(uninterrupted(FIRST)) and "bits" not in caplog.text
    facts = json.loads((found / "checkpoint-18/trainer_state.json").read_text())["resume"]["decides_bits"]
    assert facts["threads"] == 1 and facts["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    torch.set_num_threads(2)
    try:
        here = Device(torch.device("cpu")).decides_bits()
        assert here["threads"] == 2 and {**facts, **here, "threads": 1} == facts
    finally:
        torch.set_num_threads(1)
