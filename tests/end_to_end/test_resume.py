"""A resumed training is the training that was interrupted: weights, log history, predictions and results, bit for bit.

Each configuration is trained once without interruption, with a checkpoint after every step. A run killed after step k
leaves those checkpoints up to k; that folder is resumed, and everything it leaves but times is compared. (Real kills
of real processes: test_signals.py and test_stress.py.)
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distilbart_mnli.data import batches as batching
from distilbart_mnli.train import loop as training
from distilbart_mnli.train import stages
from distilbart_mnli.train.device import Device
from tests.support.files import everything_in, flip_bit
from tests.support.in_process import train_here, weights
from tests.support.training_runs import Workshop, digest, only_checkpoint, outcome, run_list, sign_manifest

pytestmark = pytest.mark.xdist_group("resume")

CONFIGURATIONS = {
    # 44 examples in steps of 8: an epoch is 6 steps, the last one of half the examples.
    "lengths grouped, accumulated, encoder cached, best kept": {
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "eval_steps": 1,
        "early_stopping_patience": 50,
    },
    "all trained, random order, bf16, cosine": {
        "freeze_encoder": False,
        "freeze_embeds": False,
        "bf16": True,
        "train_sampling_strategy": "random",
        "lr_scheduler_type": "cosine",
        "per_device_train_batch_size": 8,
    },
    "encoder computed with dropout, as in 2020": {"frozen_encoder_dropout": True, "label_smoothing_factor": 0.1},
    "stopped early": {"eval_steps": 2, "early_stopping_patience": 3, "early_stopping_threshold": 5.0},
}
FIRST, RANDOM, DROPOUT, EARLY = CONFIGURATIONS


@pytest.fixture(scope="module")
def uninterrupted(shop):
    """The folder of a configuration's uninterrupted run, trained when it is first asked for."""
    done: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in done:
            options = shop.options(f"uninterrupted-{len(done)}", **CONFIGURATIONS[name])
            assert train_here(options) == (0, "")
            done[name] = Path(options["output_dir"])
        return done[name]

    return run


def resumed(shop: Workshop, folder: Path, name: str, step: int, tmp_path: Path, **changes) -> Path:
    """Where the run that was killed after `step` ends after resuming."""
    only_checkpoint(folder, tmp_path / "out", step)
    options = shop.options(tmp_path / "out", **{**CONFIGURATIONS[name], **changes})
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "step"),
    [
        (FIRST, 1),  # mid-epoch
        (FIRST, 6),  # after an epoch's last, short step
        (FIRST, 10),
        (FIRST, 18),  # after the last step of all: only evaluating and saving were missing
        (RANDOM, 5),
        (RANDOM, 12),
        (DROPOUT, 8),
        (EARLY, 5),  # between two evaluations, one of them without improvement
        (EARLY, 8),  # after the evaluation that stopped it
    ],
)
def test_a_resumed_run_ends_as_the_uninterrupted_one(shop, uninterrupted, tmp_path, name, step):
    expected = uninterrupted(name)
    found = resumed(shop, expected, name, step, tmp_path)
    assert outcome(found) == outcome(expected)


def test_the_runs_above_do_what_their_names_say(uninterrupted):
    """Guards the comparisons: dropout is felt, the best is not the last, early stopping stopped."""
    first, early = outcome(uninterrupted(FIRST)), outcome(uninterrupted(EARLY))
    assert first["global_step"] == 18 and first["best_global_step"] < 18
    assert first["weights"] == digest(
        uninterrupted(FIRST) / f"checkpoint-{first['best_global_step']}/model.safetensors"
    )
    assert early["global_step"] == 8 and early["max_steps"] == 18
    assert outcome(uninterrupted(RANDOM))["weights"] != outcome(uninterrupted(DROPOUT))["weights"]
    assert list(Path(uninterrupted(FIRST).parent / "cache").glob("*/states.bin"))


def test_saving_changes_nothing(shop, uninterrupted):
    options = shop.options("one-save", **CONFIGURATIONS[RANDOM], save_strategy="no")
    assert train_here(options) == (0, "")
    assert outcome(Path(options["output_dir"])) == outcome(uninterrupted(RANDOM))
    assert not list(Path(options["output_dir"]).glob("checkpoint-*"))


def test_without_the_saved_random_states_the_comparison_fails(shop, uninterrupted, tmp_path, monkeypatch):
    expected = uninterrupted(RANDOM)
    monkeypatch.setattr(Device, "set_random_state", lambda self, states: None)
    found = resumed(shop, expected, RANDOM, 5, tmp_path)
    assert outcome(found)["weights"] != outcome(expected)["weights"]


def test_a_run_interrupted_three_times_ends_as_the_uninterrupted_one(shop, uninterrupted, tmp_path, monkeypatch):
    expected = uninterrupted(FIRST)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    options["save_steps"] = 2
    whole_save = training.Training._save
    for last in (3, 8, 13):

        def save_and_die(self, last=last):
            if self.state.progress.step > last:
                raise KeyboardInterrupt
            whole_save(self)

        with monkeypatch.context() as patch:
            patch.setattr(training.Training, "_save", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                train_here(options, ("--resume_from_checkpoint",))
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == outcome(expected)


# ---------------------------------------------------------------------------------------------------------------------
# What resuming costs and what it needs


def test_examples_already_seen_are_neither_tokenised_nor_collated_again(shop, uninterrupted, tmp_path, monkeypatch):
    expected = uninterrupted(FIRST)  # before its rows could be watched
    rows: list[int] = []

    class Watched(batching.Collator):
        def __call__(self, batch):
            rows.extend(batch.rows[batch.weights > 0].tolist())
            return super().__call__(batch)

    monkeypatch.setattr(training, "Collator", Watched)
    resumed(shop, expected, FIRST, 10, tmp_path)
    # Steps 11 and 12 end the second epoch with 8 + 4 examples; the third epoch has every example once.
    seen = Counter(rows)
    assert sum(seen.values()) == 12 + 44
    assert sorted(seen) == list(range(44)) and sorted(seen.values()) == [1] * 32 + [2] * 12


def test_a_missing_encoder_cache_is_built_again_and_the_bits_stay(shop, uninterrupted, tmp_path):
    expected = uninterrupted(FIRST)
    found = resumed(shop, expected, FIRST, 4, tmp_path, encoder_cache_dir=str(tmp_path / "empty"))
    assert outcome(found) == outcome(expected)
    assert len(list((tmp_path / "empty").glob("*/states.bin"))) == 3


def test_the_checkpoint_decides_about_the_encoder_cache(shop, uninterrupted, tmp_path):
    """`auto` could decide otherwise the second time, because the disk filled up; other bits would be the result."""
    expected = uninterrupted(FIRST)
    changes = {"encoder_cache_dir": str(tmp_path / "cache"), "encoder_cache_max_gb": 0.0}
    only_checkpoint(expected, tmp_path / "out", 4)
    options = shop.options(tmp_path / "out", **{**CONFIGURATIONS[FIRST], **changes})
    code, error = train_here(options, ("--resume_from_checkpoint",))
    assert code == 2 and "encoder_cache_max_gb" in error


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


def edit_state(checkpoint: Path, change) -> None:
    """Change what a checkpoint's trainer_state.json says, checksum included."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    change(state)
    path.write_text(json.dumps(state), encoding="utf-8")
    sign_manifest(checkpoint)


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


# ---------------------------------------------------------------------------------------------------------------------
# From where


def other_shape(tensors: dict) -> None:
    name = next(name for name in tensors if tensors[name].dim() > 1)
    tensors[name] = tensors[name][:-1].clone()


def one_more(tensors: dict) -> None:
    tensors["0/more"] = torch.zeros(3)


def one_less(tensors: dict) -> None:
    del tensors[sorted(tensors)[-1]]


@pytest.mark.parametrize("name", ["model", "optimizer", "random_states"])
@pytest.mark.parametrize("change", [other_shape, one_more, one_less])
def test_tensors_of_another_release_are_passed_over(shop, uninterrupted, tmp_path, caplog, name, change):
    if name == "random_states" and change is other_shape:
        change = lambda tensors: tensors.update({"0/cpu": tensors["0/cpu"][:-1].clone()})  # noqa: E731
    only_checkpoint(uninterrupted(RANDOM), tmp_path / "out", 16)
    path = tmp_path / f"out/checkpoint-16/{name}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    sign_manifest(path.parent)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[RANDOM])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    (line,) = [line for line in caplog.messages if "passed over" in line]
    assert "checkpoint-16" in line and path.name in line and "\n" not in line
    assert outcome(tmp_path / "out") == outcome(uninterrupted(RANDOM))


@pytest.mark.parametrize(
    "change",
    [
        lambda resume: resume["optimizer_groups"].pop(),
        lambda resume: resume["optimizer_groups"][0].pop("lr"),
        lambda resume: resume["optimizer_groups"][0].update(more=1),
        lambda resume: resume["optimizer_groups"][0].update(betas=[0.9]),
        lambda resume: resume["scheduler"].pop("last_epoch"),
        lambda resume: resume["scheduler"].update(last_epoch="16"),
        lambda resume: resume["recipe"].pop("effective_batch_size"),
        lambda resume: resume["recipe"].update(of_a_later_release=True),
    ],
)
def test_states_of_another_release_are_passed_over(shop, uninterrupted, tmp_path, caplog, change):
    only_checkpoint(uninterrupted(RANDOM), tmp_path / "out", 17)
    edit_state(tmp_path / "out/checkpoint-17", lambda state: change(state["resume"]))
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[RANDOM])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert len([line for line in caplog.messages if "checkpoint-17" in line and "passed over" in line]) == 1
    assert outcome(tmp_path / "out") == outcome(uninterrupted(RANDOM))


def test_a_model_that_another_run_finished_meanwhile_is_not_replaced(shop, uninterrupted, tmp_path, monkeypatch):
    """A launch of several machines waits for the last of them between the first look at output_dir and its lock."""
    out, lock = tmp_path / "out", stages.lock_output_dir

    def locked_late(folder, is_main):
        shutil.copytree(uninterrupted(RANDOM), folder)
        return lock(folder, is_main)

    monkeypatch.setattr(stages, "lock_output_dir", locked_late)
    code, error = train_here(shop.options(out, **CONFIGURATIONS[RANDOM]))
    assert code == 2 and "output_dir" in error and "--overwrite_output_dir" in error
    assert everything_in(out) == everything_in(uninterrupted(RANDOM))


def test_checkpoints_and_neither_option_stop_the_run(shop, uninterrupted):
    options = shop.options(uninterrupted(FIRST), **CONFIGURATIONS[FIRST])
    before = outcome(uninterrupted(FIRST))
    code, error = train_here(options)
    assert code == 2 and "--resume_from_checkpoint true" in error and "--overwrite_output_dir" in error
    assert outcome(uninterrupted(FIRST)) == before


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(shop, uninterrupted, tmp_path, caplog):
    expected = uninterrupted(FIRST)
    only_checkpoint(expected, tmp_path / "out", 9)
    damaged = tmp_path / "out/checkpoint-9/optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("checkpoint-9" in line and "optimizer.safetensors" in line for line in warned), warned
    assert "resuming from checkpoint-8: step 8 of 18" in caplog.text
    assert outcome(tmp_path / "out") == outcome(expected)


def test_without_its_best_checkpoint_a_run_goes_on_from_before_it(shop, uninterrupted, tmp_path, caplog):
    expected = uninterrupted(FIRST)
    best = outcome(expected)["best_global_step"]
    only_checkpoint(expected, tmp_path / "out", best + 2)
    (tmp_path / f"out/checkpoint-{best}/model.safetensors").write_bytes(b"damaged")
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert f"resuming from checkpoint-{best - 1}:" in caplog.text
    assert outcome(tmp_path / "out") == outcome(expected)


def test_nothing_to_resume_yet_starts_from_the_beginning(shop, uninterrupted, tmp_path):
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[RANDOM])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == outcome(uninterrupted(RANDOM))


def test_the_path_of_a_checkpoint_wins_over_newer_ones(shop, uninterrupted, tmp_path):
    expected = uninterrupted(FIRST)
    only_checkpoint(expected, tmp_path / "out", 9)
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    code, error = train_here(options, ("--resume_from_checkpoint", str(tmp_path / "out/checkpoint-4")))
    assert (code, error) == (0, "")
    assert outcome(tmp_path / "out") == outcome(expected)


def test_a_checkpoint_of_another_folder_brings_its_best_one_along(shop, uninterrupted, tmp_path):
    """The best checkpoint may be older than the one resumed from, and is then not in the new output_dir."""
    expected = uninterrupted(FIRST)
    best = outcome(expected)["best_global_step"]
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    code, error = train_here(options, ("--resume_from_checkpoint", str(expected / f"checkpoint-{best + 1}")))
    assert (code, error) == (0, "")
    assert outcome(tmp_path / "out") == outcome(expected)


@pytest.mark.parametrize("asked", ["nowhere", "out/checkpoint-3"])
def test_a_checkpoint_that_cannot_be_used_stops_the_run(shop, uninterrupted, tmp_path, asked):
    only_checkpoint(uninterrupted(FIRST), tmp_path / "out", 3)
    (tmp_path / "out/checkpoint-3/config.json").unlink()
    options = shop.options(tmp_path / "out", **CONFIGURATIONS[FIRST])
    code, error = train_here(options, ("--resume_from_checkpoint", str(tmp_path / asked)))
    assert code == 2 and str(tmp_path / asked) in error


def test_a_new_training_over_an_old_one_removes_nothing_before_it_has_saved(
    shop, uninterrupted, tmp_path, monkeypatch
):
    old, out = uninterrupted(FIRST), tmp_path / "out"
    shutil.copytree(old, out)
    options = shop.options(out, **CONFIGURATIONS[RANDOM])
    whole_save = training.Training._save

    def die_at(step):
        def save(self):
            if self.state.progress.step == step:
                raise KeyboardInterrupt
            whole_save(self)

        return save

    monkeypatch.setattr(training.Training, "_save", die_at(1))
    with pytest.raises(KeyboardInterrupt):
        train_here(options, ("--overwrite_output_dir",))
    assert outcome(out) == outcome(old)
    assert len(list(out.glob("checkpoint-*"))) == 18
    monkeypatch.setattr(training.Training, "_save", die_at(3))
    with pytest.raises(KeyboardInterrupt):
        train_here(options, ("--overwrite_output_dir",))
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    assert outcome(out) == outcome(old)  # the old model stays until the new one is finished
    monkeypatch.undo()
    assert train_here(options, ("--overwrite_output_dir", "--resume_from_checkpoint")) == (0, "")
    assert outcome(out) == outcome(uninterrupted(RANDOM))


# ---------------------------------------------------------------------------------------------------------------------
# Two processes


def damaged_cache(shop, folder: Path) -> Path:
    """A copy of the encoder cache with a flipped bit in every tenth of its states, and in its checksums."""
    shutil.copytree(shop.folder / "cache", folder / "cache")
    files = [path for path in (folder / "cache").glob("*/*.bin") if path.stat().st_size]
    for path in files:
        for tenth in range(10):
            flip_bit(path, tenth * path.stat().st_size // 10)
    assert any(path.name == "states.bin" for path in files)
    return folder / "cache"


def test_two_processes_resume_to_the_same_bits(shop, uninterrupted, tmp_path):
    """One launch of two gloo processes: two configurations, each uninterrupted and then resumed from a checkpoint; a
    checkpoint of one process, which two must refuse; and an encoder cache that was damaged meanwhile."""

    def options(name: str, output_dir: str, **more) -> dict:
        return shop.options(tmp_path / output_dir, **{**CONFIGURATIONS[name], **more})

    def resume(name: str, source: Path, output_dir: str, step: int) -> dict:
        copy = [str(source), str(tmp_path / output_dir), step]
        return options(name, output_dir, copy=copy, resume_from_checkpoint=True)

    codes = run_list(
        tmp_path,
        [
            options(FIRST, "fp32"),
            resume(FIRST, tmp_path / "fp32", "fp32-4", 4),
            resume(FIRST, tmp_path / "fp32", "fp32-6", 6),
            options(RANDOM, "bf16", per_device_train_batch_size=4),
            {**resume(RANDOM, tmp_path / "bf16", "bf16-8", 8), "per_device_train_batch_size": 4},
            resume(FIRST, uninterrupted(FIRST), "one process", 5),
            {
                **resume(FIRST, tmp_path / "fp32", "damaged", 4),
                "encoder_cache_dir": str(damaged_cache(shop, tmp_path)),
            },
        ],
        processes=2,
    )
    assert codes[:5] == [[0, ""]] * 5
    assert outcome(tmp_path / "fp32-4") == outcome(tmp_path / "fp32")
    assert outcome(tmp_path / "fp32-6") == outcome(tmp_path / "fp32")
    assert outcome(tmp_path / "bf16-8") == outcome(tmp_path / "bf16")
    assert codes[6] == [0, ""] and outcome(tmp_path / "damaged") == outcome(tmp_path / "fp32")
    assert codes[5][0] == 2 and "num_processes: 1 -> 2" in codes[5][1]
