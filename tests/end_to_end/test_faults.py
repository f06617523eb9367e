"""Disks that are full or read-only, damaged models, trackers that raise, losses that are not finite, no memory:
one line, the right exit code, and the last good checkpoint as it was.
"""

import contextlib
import ctypes
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from distilbart_mnli.files import TEMPORARY
from distilbart_mnli.model import encoder_cache_build
from distilbart_mnli.train import checkpoints, evaluation, objective, resume, stages, trackers
from distilbart_mnli.train import loop as training
from tests.support.in_process import train_here, weights
from tests.support.training_runs import Workshop, command, environment, only_checkpoint, outcome

pytestmark = pytest.mark.xdist_group("faults")
CHANGES = {"eval_steps": 1, "max_steps": 6, "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}


@pytest.fixture(scope="module")
def expected(shop) -> dict:
    """What a run without a fault leaves."""
    options = shop.options("expected", **CHANGES)
    assert train_here(options) == (0, "")
    return outcome(Path(options["output_dir"]))


def options_in(shop: Workshop, tmp_path: Path, **changes) -> dict:
    return shop.options(tmp_path / "out", **{**CHANGES, **changes})


@contextlib.contextmanager
def full_disk(size: int):
    """No file of this process can grow beyond `size` bytes: the kernel refuses the write (EFBIG), root or not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def fails_from(call: int, size: int, function):
    """`function`, with a full disk from its n-th call on."""
    calls = iter(range(1, 1_000_000))

    def wrapped(*arguments, **keywords):
        with full_disk(size) if next(calls) >= call else contextlib.nullcontext():
            return function(*arguments, **keywords)

    return wrapped


# What is written, by which function, its call that finds the disk full, the bytes that still fit, what the line names.
FULL = {
    "a checkpoint's weights": (resume, "save_model", 4, 50_000, "checkpoint-4"),
    "a checkpoint's tokenizer": (resume, "save_model", 4, 5_000, "checkpoint-4"),
    "a checkpoint's moments": (resume, "save_optimizer", 4, 5_000, "checkpoint-4"),
    "a checkpoint's generators": (resume, "save_random_states", 4, 100, "checkpoint-4"),
    "a checkpoint's state": (resume, "write_trainer_state", 4, 1_000, "checkpoint-4"),
    "the final model": (stages, "save_final_model", 1, 50_000, "the model"),
    "the training's results": (stages, "merge_results", 1, 10, "all_results.json"),
    "the evaluation's results": (stages, "write_evaluation", 1, 10, "eval_results_mnli.txt"),
    "the predictions": (stages, "write_evaluation", 1, 300, "eval_predictions_mnli.tsv"),
    "the curves": (stages, "write_card", 1, 10, "training_curves.png"),
    "the model card": (ModelCard, "save", 1, 10, "README.md"),
    "the tokens": (evaluation, "tokenize_split", 1, 500, "the tokens of mnli"),
    "an encoder cache": (encoder_cache_build, "_lay_out", 1, 10_000, "encoder cache"),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_ends_the_run_in_one_line_and_resuming_ends_it_well(shop, expected, tmp_path, monkeypatch, what):
    owner, name, call, size, named = FULL[what]
    options = options_in(shop, tmp_path)
    if what == "an encoder cache":
        options["encoder_cache_dir"] = str(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails_from(call, size, getattr(owner, name)))
        code, error = train_here(options, card=True)
    assert code == 1 and named in error and re.search(r"File too large|No space left", error), error
    out = Path(options["output_dir"])
    assert not list(out.glob(TEMPORARY + "*"))
    if call == 4:
        assert str(out / "checkpoint-3") in error  # to go on from
        assert [path.name for path in checkpoints.checkpoints_in(out)] == [f"checkpoint-{step}" for step in (1, 2, 3)]
    for path in checkpoints.checkpoints_in(out):
        checkpoints.read_state(path)
    if what == "an encoder cache":
        assert not out.exists() and not list((tmp_path / "cache").glob("*.partial"))
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(out) == expected


def test_kept_tokens_that_are_damaged_are_made_again(shop, expected, tmp_path):
    options = options_in(shop, tmp_path)
    assert train_here(options) == (0, "")
    kept = sorted((tmp_path / "out-datasets").rglob("*.arrow"))
    assert len(kept) == 3
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    assert train_here(options, ("--overwrite_output_dir",)) == (0, "")
    assert outcome(tmp_path / "out") == expected


def in_own_mounts(script: str) -> list[str]:
    """A shell script that may mount things for itself alone, without being root outside."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script]


def can_mount() -> bool:
    with contextlib.suppress(OSError):
        probe = in_own_mounts("mount -t tmpfs -o size=64k none /mnt")
        return subprocess.run(probe, capture_output=True).returncode == 0
    return False


needs_mounts = pytest.mark.skipif(not can_mount(), reason="this machine lets nobody mount a disk of their own")


@needs_mounts
def test_a_disk_that_is_really_full_leaves_the_last_checkpoint_whole(shop, tmp_path):
    """A disk of 600 kB, on which the third checkpoint does not fit any more (ENOSPC, not EFBIG)."""
    options = options_in(shop, tmp_path)
    (tmp_path / "out").mkdir()
    words = shlex.join(command(options))
    script = f"""
        mount -t tmpfs -o size=600k none {tmp_path / "out"}
        {words} && exit 99 || code=$?
        ls {tmp_path / "out"}; echo exit code $code"""
    done = subprocess.run(
        in_own_mounts(script), env=environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["checkpoint-1", "checkpoint-2", "exit", "code", "1"], done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: checkpoint-3 ") and "No space left on device" in last
    assert str(tmp_path / "out/checkpoint-2") in last  # to go on from


# ---------------------------------------------------------------------------------------------------------------------
# Paths that cannot be used


@needs_mounts
def test_a_read_only_disk_is_refused(shop, tmp_path):
    options = options_in(shop, tmp_path)
    (tmp_path / "out").mkdir()
    child = os.fork()  # in this process a mount of its own is not to be had: it has threads
    if child == 0:
        libc = ctypes.CDLL(None)
        user, mounts, read_only = 0x10000000, 0x20000, 1  # CLONE_NEWUSER, CLONE_NEWNS, MS_RDONLY
        failed = libc.unshare(user | mounts) or libc.mount(
            b"none", str(tmp_path / "out").encode(), b"tmpfs", read_only, b""
        )
        code, error = (99, "no mount") if failed else train_here(options)
        (tmp_path / "said").write_text(error)
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 2 and (tmp_path / "said").read_text().startswith(f"output_dir {tmp_path / 'out'}")


@pytest.mark.parametrize("where", ["file", "file/below/it", "n" * 300])
def test_an_output_dir_that_cannot_be_made_is_refused_before_anything_is_loaded(shop, tmp_path, monkeypatch, where):
    (tmp_path / "file").write_text("something")

    def load(*arguments):
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(stages, "load", load)
    options = {**options_in(shop, tmp_path), "output_dir": str(tmp_path / "unused")}
    code, error = train_here(options, ("--output_dir", str(tmp_path / where)))
    assert code == 2 and str(tmp_path / where)[:100] in error
    assert (tmp_path / "file").read_text() == "something"


# ---------------------------------------------------------------------------------------------------------------------
# Trackers


@pytest.mark.parametrize("method", ["__init__", "start", "store_init_configuration", "log", "finish"])
def test_a_tracker_that_raises_changes_nothing(shop, expected, tmp_path, monkeypatch, method, caplog):
    calls = []

    def broken(self, *arguments, **keywords):
        calls.append(method)
        raise ConnectionError("the server of the tracker is gone")

    monkeypatch.setattr(trackers.CLASSES["tensorboard"], method, broken)
    options = options_in(shop, tmp_path, report_to=["tensorboard"])
    assert train_here(options) == (0, "")
    assert calls == [method]  # once, and then never again
    assert outcome(tmp_path / "out") == expected


def test_a_tracker_without_its_folder_changes_nothing(shop, expected, tmp_path):
    only_checkpoint(shop.folder / "expected", tmp_path / "out", 2)
    (tmp_path / "out/runs").write_text("a file where TensorBoard wants a folder")
    options = options_in(shop, tmp_path, report_to=["tensorboard"])
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == expected


# ---------------------------------------------------------------------------------------------------------------------
# Losses that are not finite


def assert_all_finite(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        if path.name != "random_states.safetensors":
            assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(path.parent).values()), path


@pytest.mark.parametrize("save_steps", [1, 2])
def test_an_exploding_loss_ends_the_run_and_no_checkpoint_holds_it(shop, tmp_path, save_steps):
    changes = {"learning_rate": 1e25, "warmup_steps": 0, "save_steps": save_steps, "logging_steps": 5, "max_steps": 12}
    options = options_in(shop, tmp_path, **changes, load_best_model_at_end=False)
    code, error = train_here(options)
    assert code == 1, error
    assert re.search(r"step \d+ is (nan|inf)|not finite", error), error
    left = checkpoints.checkpoints_in(tmp_path / "out")
    assert (str(left[-1]) if left else "no checkpoint") in error
    assert_all_finite(tmp_path)
    assert not (tmp_path / "out/model.safetensors").exists()


def test_a_loss_that_is_not_finite_names_its_step_and_the_last_good_checkpoint(shop, tmp_path, monkeypatch):
    """Looked at in step 6, where it is logged, found in step 5, where it happened; step 4 was saved."""
    losses = objective.label_losses
    calls = iter(range(1, 1000))

    def poisoned(*arguments):
        # Steps 1 to 5 are of two micro-batches each.
        return losses(*arguments) * (float("nan") if next(calls) == 9 else 1.0)

    monkeypatch.setattr(objective, "label_losses", poisoned)
    code, error = train_here(options_in(shop, tmp_path, save_steps=4, logging_steps=6, eval_steps=4))
    assert code == 1
    assert "step 5 is nan" in error and f"{tmp_path / 'out/checkpoint-4'};" in error
    assert_all_finite(tmp_path)


def test_weights_that_are_not_finite_are_never_the_result(shop, tmp_path, monkeypatch):
    """The last step's update spoils a weight after its loss was seen to be finite; nothing is saved in between."""
    step = training.Training._step

    def spoil(self, *arguments):
        step(self, *arguments)
        if self.state.progress.step == 6:
            self.parameters[0].data.view(-1)[0] = float("inf")

    monkeypatch.setattr(training.Training, "_step", spoil)
    nothing = {"save_strategy": "no", "eval_strategy": "no", "metric_for_best_model": None}
    code, error = train_here(options_in(shop, tmp_path, load_best_model_at_end=False, **nothing))
    assert code == 1 and "not finite" in error
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_model_with_a_weight_that_is_not_finite_is_refused_before_the_training(shop, tmp_path):
    from safetensors.torch import save_file

    shutil.copytree(shop.folder / "student", tmp_path / "student")
    tensors = weights(tmp_path / "student")
    tensors["model.encoder.layers.0.fc1.bias"][0] = float("nan")  # of the frozen encoder: no update would change it
    save_file(tensors, tmp_path / "student/model.safetensors", metadata={"format": "pt"})
    options = options_in(shop, tmp_path, model_name_or_path=str(tmp_path / "student"))
    code, error = train_here(options)
    assert code == 2 and "not finite" in error and str(tmp_path / "student") in error
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------------
# No memory


def test_no_memory_in_a_batch_names_its_shape_and_what_to_lower(shop, tmp_path, monkeypatch):
    losses, calls = objective.label_losses, iter(range(1, 1000))

    def greedy(*arguments):
        if next(calls) == 7:
            torch.empty(1 << 55)  # the allocator's own error
        return losses(*arguments)

    monkeypatch.setattr(objective, "label_losses", greedy)
    code, error = train_here(options_in(shop, tmp_path))
    assert code == 1
    assert re.match(r"out of memory in a batch of 4 x \d+ tokens at step 4", error) and "\n" not in error
    named = ("per_device_train_batch_size", "gradient_checkpointing", str(tmp_path / "out/checkpoint-3"))
    assert all(subject in error for subject in named)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("do_train", [True, False])
def test_no_memory_in_an_evaluation_says_what_to_lower(shop, tmp_path, monkeypatch, kind, do_train):
    def greedy(*arguments, **keywords):
        return torch.empty(1 << 55) if kind == "torch" else np.empty(1 << 58)

    monkeypatch.setattr(evaluation, "evaluate_logits", greedy)
    code, error = train_here(options_in(shop, tmp_path, do_train=do_train))
    assert code == 1 and error.startswith("out of memory") and "per_device_eval_batch_size" in error


def test_the_folder_of_a_failed_run_says_what_it_holds(shop, tmp_path):
    """A first attempt that fails before it wrote anything leaves no output_dir behind."""
    code, _ = train_here(options_in(shop, tmp_path, data_dir=str(tmp_path / "nowhere")))
    assert code == 2 and not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "out.json").read_text())["data_dir"] == str(tmp_path / "nowhere")
