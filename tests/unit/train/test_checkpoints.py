"""Checkpoints are whole or not counted: written beside and renamed, damage seen in any file, the best one kept."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import get_scheduler

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.files import remove_leftovers
from distilbart_mnli.options.fields import FOLLOW_EVALUATIONS, SCHEDULES
from distilbart_mnli.train import checkpoints
from distilbart_mnli.train import state as train_state
from distilbart_mnli.train.device import Device
from distilbart_mnli.train.optimizer import plain_state
from distilbart_mnli.train.recipe import recipe_difference
from distilbart_mnli.train.record import MAY_BE_ABSENT, Record, same_keys
from distilbart_mnli.train.state import Progress
from tests.support.files import everything_in, flip_bit
from tests.support.training_runs import sign_manifest

FILES = [
    "config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "random_states.safetensors",
    "trainer_state.json",
]


NEEDED = {
    "warmup_stable_decay": {"num_decay_steps": 3},
    "cosine_with_min_lr": {"min_lr": 1e-3},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-3},
}


def record(step: int, best: int | None = None, **changes) -> dict:
    """A checkpoint's `resume` object."""
    values = {
        "run_id": "a",
        "run_started": 1.0,
        "position": step,
        "progress": Progress(step=step, best_step=best),
        "optimizer_groups": [],
        "scheduler": {},
        "scaler": None,
        "encoder_cache": False,
        "encoder_cache_dtype": None,
        "recipe": {"load_best_model_at_end": best is not None},
        "versions": {},
    }
    return dataclasses.asdict(Record(**{**values, **changes}))


def write_checkpoint(
    output_dir: Path, step: int, run_id: str = "a", started: float = 1.0, best: int | None = None
) -> Path:
    """A whole checkpoint with next to nothing in it."""

    def write(folder: Path) -> None:
        for name in FILES[1:4]:
            save_file({"0/cpu": torch.arange(step, step + 40, dtype=torch.uint8)}, folder / name)
        (folder / "config.json").write_text('{"model_type": "bart"}')
        resume = record(step, best, run_id=run_id, run_started=started)
        name = f"checkpoint-{best}" if best else None
        state = {"global_step": step, "best_model_checkpoint": name, "resume": resume}
        (folder / "trainer_state.json").write_text(json.dumps(state))

    output_dir.mkdir(exist_ok=True)
    final = output_dir / f"checkpoint-{step}"
    checkpoints.write_checkpoint(final, write, final.name, "nothing else is whole")
    return final


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {"halved": halve, "emptied": lambda path: path.write_bytes(b""), "removed": Path.unlink, "bit": flip_bit}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_damage_to_any_file_is_seen_reported_and_passed_over(tmp_path, name, damage, caplog):
    good = write_checkpoint(tmp_path, 1)
    bad = write_checkpoint(tmp_path, 2)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == bad
    DAMAGES[damage](bad / name)
    with pytest.raises(ValueError, match="." if name == "manifest.json" else name):
        checkpoints.read_state(bad)
    with caplog.at_level("WARNING"):
        assert checkpoints.find_resumable(tmp_path, "true")[0] == good
    assert "checkpoint-2 is not whole" in caplog.text
    with pytest.raises(InputError, match="checkpoint-2 is not whole"):
        checkpoints.find_resumable(tmp_path, str(bad))


def test_none_whole_is_said_and_not_taken_for_a_fresh_start(tmp_path):
    halve(write_checkpoint(tmp_path, 1) / "model.safetensors")
    with pytest.raises(InputError, match=r"no checkpoint of .* is whole"):
        checkpoints.find_resumable(tmp_path, "true")


def test_an_empty_folder_has_nothing_to_resume(tmp_path):
    assert checkpoints.find_resumable(tmp_path, "true") is None


def test_a_run_that_ends_with_its_best_checkpoint_needs_that_one_whole(tmp_path):
    before = write_checkpoint(tmp_path, 1, best=1)
    write_checkpoint(tmp_path, 2, best=2)
    last = write_checkpoint(tmp_path, 3, best=2)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == last
    halve(tmp_path / "checkpoint-2/model.safetensors")
    assert checkpoints.find_resumable(tmp_path, "true")[0] == before


def test_the_newest_run_counts_before_the_highest_step(tmp_path):
    """A new training over old results is killed after its first save: the old run's checkpoints are still there."""
    write_checkpoint(tmp_path, 900, run_id="old", started=1.0)
    new = write_checkpoint(tmp_path, 10, run_id="new", started=2.0)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == new


def test_another_run_s_checkpoint_does_not_stand_in_for_one_that_is_damaged(tmp_path):
    write_checkpoint(tmp_path, 900, run_id="old", started=1.0)
    halve(write_checkpoint(tmp_path, 10, run_id="new", started=2.0) / "model.safetensors")
    with pytest.raises(InputError, match=str(tmp_path)):
        checkpoints.find_resumable(tmp_path, "true")


def test_another_run_s_checkpoint_is_not_the_best_of_this_one(tmp_path):
    before = write_checkpoint(tmp_path, 1, best=1)
    write_checkpoint(tmp_path, 2, run_id="other", started=0.5)
    last = write_checkpoint(tmp_path, 3, best=2)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == before
    with pytest.raises(InputError, match="checkpoint-2"):
        checkpoints.find_resumable(tmp_path, str(last))


# ---------------------------------------------------------------------------------------------------------------------
# Another release's, or somebody's


def rewrite(checkpoint: Path, change) -> None:
    """Change trainer_state.json, and let the manifest say that it is right."""
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    sign_manifest(checkpoint)


RECORD = [field.name for field in dataclasses.fields(Record) if field.name not in MAY_BE_ABSENT]
PROGRESS = [field.name for field in dataclasses.fields(Progress) if field.name not in MAY_BE_ABSENT]
CHANGES = {
    **{f"lacks {name}": lambda state, name=name: state["resume"].pop(name) for name in RECORD},
    **{f"lacks progress.{name}": lambda state, name=name: state["resume"]["progress"].pop(name) for name in PROGRESS},
    "a key too many": lambda state: state["resume"].update(more=1),
    "a key of the progress too many": lambda state: state["resume"]["progress"].update(more=1),
    "no object": lambda state: state.update(resume=[1]),
    "another list": lambda state: state["resume"].update(progress=[]),
    "a number as text": lambda state: state["resume"]["progress"].update(step="2"),
    "true for a number": lambda state: state["resume"]["progress"].update(step=True),
    "a path for a number": lambda state: state["resume"]["progress"].update(best_step="2/../../.ssh"),
    "a negative step": lambda state: state["resume"]["progress"].update(step=-1),
    "a best step to come": lambda state: state["resume"]["progress"].update(best_step=3),
    "more than any float": lambda state: state["resume"]["progress"].update(seconds=10**400),
    "no number": lambda state: state["resume"]["progress"].update(loss_sum=float("nan")),
    "a window of threes": lambda state: state["resume"]["progress"].update(window=[[1, 2, 3]]),
    "a log of texts": lambda state: state["resume"]["progress"].update(log_history=["loss"]),
    "a path for the best": lambda state: state.update(best_model_checkpoint="../../.ssh"),
    "a list for the best": lambda state: state.update(best_model_checkpoint=["checkpoint-1"]),
    "an object for the id": lambda state: state["resume"].update(run_id={}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_another_release_is_passed_over_in_one_line(tmp_path, caplog, change):
    good, bad = write_checkpoint(tmp_path, 1), write_checkpoint(tmp_path, 2)
    rewrite(bad, lambda state: None)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == bad
    rewrite(bad, CHANGES[change])
    assert checkpoints.find_resumable(tmp_path, "true")[0] == good
    (line,) = [line for line in caplog.messages if "checkpoint-2" in line]
    assert "passed over" in line and "\n" not in line
    with pytest.raises(InputError, match="checkpoint-2"):
        checkpoints.find_resumable(tmp_path, str(bad))


def test_files_without_an_end_and_json_without_a_floor_are_passed_over(tmp_path, caplog):
    """A pipe would be waited for, a device read for ever."""
    good = write_checkpoint(tmp_path, 1)
    for step in range(2, 7):
        bad = write_checkpoint(tmp_path, step)
        path = bad / ("manifest.json" if step % 2 else "trainer_state.json")
        path.unlink()
        if step < 4:
            os.mkfifo(path)
        elif step < 6:
            path.symlink_to("/dev/zero")
        else:
            path.write_text("[" * 200_000)
            sign_manifest(bad)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == good
    assert len(caplog.messages) == 5


def test_a_record_without_what_is_new_is_good(tmp_path):
    newest = write_checkpoint(tmp_path, 2)

    def older(state: dict) -> None:
        del state["resume"]["decides_bits"], state["resume"]["progress"]["evaluation_due"]

    rewrite(newest, older)
    found, kept = checkpoints.find_resumable(tmp_path, "true")
    assert found == newest and kept.decides_bits is None and kept.progress.evaluation_due is False


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "link"])
def test_a_manifest_that_names_a_file_elsewhere_is_not_followed(tmp_path, name):
    (tmp_path / "outside").write_text("precious")
    checkpoint = write_checkpoint(tmp_path / "out", 1)
    (checkpoint / "link").symlink_to(tmp_path / "outside")
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    data = (checkpoint / name).read_bytes() if (checkpoint / name).exists() else b""
    manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=re.escape(name)):
        checkpoints.read_state(checkpoint)


def test_only_what_the_manifest_names_comes_along_from_another_folder(tmp_path):
    best = write_checkpoint(tmp_path / "old", 2, best=2)
    last = write_checkpoint(tmp_path / "old", 3, best=2)
    (tmp_path / "secret").write_text("secret")
    (best / "more").symlink_to(tmp_path / "secret")
    (tmp_path / "new").mkdir()
    checkpoints.bring_best(last, tmp_path / "new", checkpoints.read_resumable(last))
    assert names(tmp_path / "new/checkpoint-2") == sorted([*FILES, "manifest.json"])


def test_another_runs_checkpoint_of_the_same_name_is_not_taken_for_the_best(tmp_path):
    write_checkpoint(tmp_path / "old", 2, run_id="mine", best=2)
    last = write_checkpoint(tmp_path / "old", 3, run_id="mine", best=2)
    write_checkpoint(tmp_path / "new", 2, run_id="another")
    checkpoints.bring_best(last, tmp_path / "new", checkpoints.read_resumable(last))
    assert checkpoints.read_record(tmp_path / "new/checkpoint-2").run_id == "mine"


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_the_same_keys_at_its_beginning_and_later(name):
    """What a checkpoint of this release is recognised by."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    kwargs = {"patience": 1} if name == "reduce_lr_on_plateau" else NEEDED.get(name)
    scheduler = get_scheduler(name, optimizer, 2, 10, scheduler_specific_kwargs=kwargs)
    fresh = json.loads(json.dumps([plain_state(scheduler.state_dict()), train_state.group_values(optimizer)]))
    for _ in range(5):
        optimizer.step()
        scheduler.step(*[1.0] * (name in FOLLOW_EVALUATIONS))
    same_keys([plain_state(scheduler.state_dict()), train_state.group_values(optimizer)], fresh, "state")


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
def test_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch, failing, replaces):
    whole = write_checkpoint(tmp_path, 1)
    if replaces:
        write_checkpoint(tmp_path, 2)
    before = everything_in(tmp_path)

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        target = {"write": (Path, "write_text"), "fsync": (os, "fsync"), "rename": (Path, "rename")}[failing]
        patch.setattr(*target, refuse)
        with pytest.raises(RunError, match=r"checkpoint-2 could not be written .*No space left on device"):
            write_checkpoint(tmp_path, 2)
    assert everything_in(tmp_path) == before
    assert checkpoints.read_state(whole)


def test_a_safetensors_or_tokenizers_failure_is_told_in_one_line_too(tmp_path):
    """Both libraries are written in Rust and report a full disk with exceptions of their own."""

    def tokenizer_fails(folder: Path) -> None:
        raise Exception("No space left on device (os error 28)")  # what tokenizers 0.22 raises

    with pytest.raises(RunError, match="No space left on device"):
        checkpoints.write_checkpoint(tmp_path / "checkpoint-1", tokenizer_fails, "checkpoint-1", "nothing is whole")
    assert names(tmp_path) == []

    def fault_of_ours(folder: Path) -> None:
        raise Exception("something else")

    with pytest.raises(Exception, match="something else") as caught:
        checkpoints.write_checkpoint(tmp_path / "checkpoint-1", fault_of_ours, "checkpoint-1", "nothing is whole")
    assert not isinstance(caught.value, RunError)


@pytest.mark.parametrize("call", range(1, 36))
def test_killed_at_any_call_to_the_system_one_whole_checkpoint_is_left(tmp_path, monkeypatch, call):
    """A child writes checkpoint-2 over a damaged one, rotates, and dies at its n-th call that changes a disk."""
    write_checkpoint(tmp_path, 1)
    halve(write_checkpoint(tmp_path, 2) / "model.safetensors")
    child = os.fork()
    if child == 0:
        left = [call]

        def dying(function):
            def wrapped(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return function(*arguments, **options)

            return wrapped

        for name in ("mkdir", "rename", "unlink", "rmdir", "fsync", "replace"):
            setattr(os, name, dying(getattr(os, name)))
        Path.write_text = dying(Path.write_text)
        final = write_checkpoint(tmp_path, 2)
        checkpoints.rotate(tmp_path, 1, [final])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in (0, 9)
    found, kept = checkpoints.find_resumable(tmp_path, "true")
    assert kept.progress.step == int(found.name.partition("-")[2])
    # Every folder with a checkpoint's name is whole; the damaged one may only still be there before it was replaced.
    for path in checkpoints.checkpoints_in(tmp_path):
        if path.name == "checkpoint-1" or found.name == "checkpoint-2":
            checkpoints.read_state(path)
    if ended == 0:
        assert found.name == "checkpoint-2" and names(tmp_path) == ["checkpoint-2"]
    remove_leftovers(tmp_path)
    assert checkpoints.find_resumable(tmp_path, "true")[0] == found
    assert all(name.startswith("checkpoint-") for name in names(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Rotation


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [1, 2, 3, 4, 5]),
        (2, None, [4, 5]),
        (1, None, [5]),
        (2, 2, [2, 5]),
        (1, 2, [2, 5]),  # the best one is kept whatever the limit
        (1, 7, [5]),  # the best evaluation was at a step without a checkpoint
        (3, 4, [3, 4, 5]),
        (9, 1, [1, 2, 3, 4, 5]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(tmp_path, limit, best, left):
    for step in range(1, 6):
        write_checkpoint(tmp_path, step)
    keep = [tmp_path / "checkpoint-5", *([tmp_path / f"checkpoint-{best}"] if best else [])]
    checkpoints.rotate(tmp_path, limit, keep)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in left]


def test_the_first_save_of_a_new_run_removes_the_old_run(tmp_path):
    for step in (5, 10, 15):
        write_checkpoint(tmp_path, step, run_id="old")
    new = write_checkpoint(tmp_path, 5, run_id="new", started=2.0)
    best = tmp_path / "checkpoint-10"  # of the new run's steps, which has no checkpoint
    checkpoints.rotate(tmp_path, None, [new, best], foreign_run="new")
    assert names(tmp_path) == ["checkpoint-5"]


def test_folders_that_only_look_like_checkpoints_are_left_alone(tmp_path):
    for name in ("checkpoint-best", "checkpoint-7b", "checkpoint-"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-3").write_text("a file")
    new = write_checkpoint(tmp_path, 9)
    checkpoints.rotate(tmp_path, 1, [new], foreign_run="a")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["checkpoint-", "checkpoint-3", "checkpoint-7b", "checkpoint-9", "checkpoint-best"]


def test_the_best_checkpoint_comes_along_from_another_folder(tmp_path):
    write_checkpoint(tmp_path / "old", 2, best=2)
    last = write_checkpoint(tmp_path / "old", 3, best=2)
    (tmp_path / "new").mkdir()
    checkpoints.bring_best(last, tmp_path / "new", checkpoints.read_resumable(last))
    assert checkpoints.read_state(tmp_path / "new/checkpoint-2")["global_step"] == 2
    shutil.rmtree(tmp_path / "old/checkpoint-2")
    with pytest.raises(InputError, match="its best checkpoint so far, checkpoint-2, is not"):
        checkpoints.find_resumable(tmp_path, str(last))


# ---------------------------------------------------------------------------------------------------------------------
# States


def test_optimizer_states_come_back_bit_for_bit(tmp_path):
    def parameters() -> list[torch.nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        return [torch.nn.Parameter(torch.randn(4, 3, generator=generator)) for _ in range(3)]

    def make(values):
        groups = [{"params": values[:2], "weight_decay": 0.1}, {"params": values[2:], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9), fused=True)
        return optimizer, get_scheduler("linear", optimizer, 2, 10)

    def step(values, optimizer, scheduler, number):
        for index, value in enumerate(values):
            value.grad = torch.full_like(value, 0.1 * number + index)
        optimizer.step()
        scheduler.step()

    straight = parameters()
    optimizer, scheduler = make(straight)
    for number in range(6):
        if number == 3:
            groups = train_state.save_optimizer(optimizer, ["a", "b.c", "d/e"], tmp_path / "optimizer.safetensors")
            # Through JSON, as in a checkpoint.
            saved = json.loads(json.dumps([groups, plain_state(scheduler.state_dict())]))
            values = [value.detach().clone() for value in straight]
        step(straight, optimizer, scheduler, number)
    again = [torch.nn.Parameter(value) for value in values]
    optimizer, scheduler = make(again)
    tensors = train_state.load_file(tmp_path / "optimizer.safetensors")
    train_state.load_optimizer(optimizer, ["a", "b.c", "d/e"], tensors, saved[0])
    scheduler.load_state_dict({**scheduler.state_dict(), **saved[1]})
    for number in range(3, 6):
        step(again, optimizer, scheduler, number)
    assert all(torch.equal(one, two) for one, two in zip(straight, again, strict=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_on_where_it_was(name):
    def make():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        kwargs = NEEDED.get(name)
        if name == "reduce_lr_on_plateau":
            kwargs = {"patience": 1}
        return optimizer, get_scheduler(name, optimizer, 2, 10, scheduler_specific_kwargs=kwargs)

    def step(optimizer, scheduler) -> float:
        optimizer.step()
        scheduler.step(*[1.0] * (name in FOLLOW_EVALUATIONS))  # a metric that never improves
        return optimizer.param_groups[0]["lr"]

    optimizer, scheduler = make()
    rates = []
    for number in range(9):
        if number == 4:
            saved = json.loads(json.dumps(plain_state(scheduler.state_dict())))
            rate = optimizer.param_groups[0]["lr"]
        rates.append(step(optimizer, scheduler))
    optimizer, scheduler = make()
    optimizer.param_groups[0]["lr"] = rate
    scheduler.load_state_dict({**scheduler.state_dict(), **saved})
    assert [step(optimizer, scheduler) for _ in range(4, 9)] == rates[4:]


def test_random_states_of_twelve_processes_keep_their_order(tmp_path):
    """Twelve, because the names "10" and "2" sort as text in the wrong order."""
    states = [{"cpu": torch.Generator().manual_seed(number).get_state()} for number in range(12)]
    train_state.save_random_states(states, tmp_path / "random_states.safetensors")
    loaded = train_state.load_random_states(tmp_path / "random_states.safetensors")
    assert all(torch.equal(one["cpu"], two["cpu"]) for one, two in zip(states, loaded, strict=True))
    torch.manual_seed(7)
    drawn = torch.rand(3)
    Device(torch.device("cpu")).set_random_state(loaded[7])
    assert torch.equal(torch.rand(3), drawn)


def test_the_difference_of_recipes_is_named():
    then = {"seed": 1, "model": "a" * 64, "dropout": None, "kept": 1}
    now = {"seed": 2, "model": "b" * 64, "dropout": 0.1, "kept": 1}
    expected = f'dropout: null -> 0.1, model: "{"a" * 12}" -> "{"b" * 12}", seed: 1 -> 2'
    assert recipe_difference(then, now) == expected
    assert recipe_difference(then, then) is None
