"""run_glue.py under its launchers: two processes, or two machines without a common disk, do what one process does.

Everything is without dropout, where the number of processes must not matter: the examples of every step, the losses,
the gradients' norms, the metrics and the predictions are those of one process, with counts that do not divide by two.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from distilbart_mnli.processes import lock_output_dir
from tests.support.launch import environment, finish, launch, run, start, two_machines, two_ranks
from tests.support.tiny import ROOT, tiny_bart, tiny_mnli

pytestmark = pytest.mark.xdist_group("launchers")
RUN_GLUE = ROOT / "run_glue.py"
TIMES = ("runtime", "per_second", "time_share")


def machine(folder: Path, **changes: object) -> tuple[Path, Path]:
    """A machine's own disk: student, data (odd counts), an args file. Returns the args file and its output_dir."""
    tiny_bart(folder / "student")
    tiny_mnli(folder / "data", train=45, matched=21, mismatched=13)
    return folder / "args.json", options(folder, **changes)


def options(folder: Path, output: str = "output", **changes: object) -> Path:
    values = {
        "model_name_or_path": str(folder / "student"),
        "task_name": "MNLI",
        "data_dir": str(folder / "data"),
        "output_dir": str(folder / output),
        "encoder_cache_dir": str(folder / "cache"),
        "cache_encoder_outputs": "true",
        "do_train": True,
        "do_eval": True,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 3,  # 3 x 4 x 1 process, 3 x 2 x 2; 45 examples: 3 steps of 12, one of 9
        "per_device_eval_batch_size": 4,
        "effective_batch_size": 12,
        "learning_rate": 5e-3,
        "freeze_encoder": True,
        "freeze_embeds": True,
        "bf16": False,  # multi_node.yaml says bf16, which counts where the args file is silent
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_steps": 4,
        **changes,
    }
    (folder / "args.json").write_text(json.dumps(values), encoding="utf-8")
    return folder / output


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def timeless(values: dict) -> dict:
    return {key: value for key, value in values.items() if not any(time in key for time in TIMES)}


def history(folder: Path) -> list[dict]:
    """The log history without what the clock says."""
    return [timeless(entry) for entry in read(folder, "trainer_state.json")["log_history"]]


def assert_same_run(found: Path, expected: Path) -> None:
    """The log histories, results and predictions of two runs are equal to float32's rounding."""
    assert len(history(expected)) == 10  # 8 steps, 2 evaluations
    for ours, theirs in zip(history(found), history(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    for name in ("eval_predictions_mnli.tsv", "eval_predictions_mnli-mm.tsv"):
        ours, theirs = [(folder / name).read_text().splitlines() for folder in (found, expected)]
        assert len(ours) == len(theirs) == {"eval_predictions_mnli.tsv": 22}.get(name, 14)
        for our_row, their_row in zip(ours[1:], theirs[1:], strict=True):
            *our_words, a, b, c = our_row.split("\t")
            *their_words, x, y, z = their_row.split("\t")
            assert our_words == their_words
            assert [float(a), float(b), float(c)] == pytest.approx([float(x), float(y), float(z)], rel=1e-4, abs=1e-5)
    results = timeless(read(expected, "all_results.json"))
    assert (results["eval_samples"], results["eval_samples_mm"]) == (21, 13)
    assert {key: read(found, "all_results.json")[key] for key in results} == pytest.approx(results, rel=1e-5)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The run that all others are compared with: python run_glue.py args.json."""
    folder = tmp_path_factory.mktemp("one")
    args, output = machine(folder)
    done = run("run_glue.py", args, check=True)
    assert "1 process on 1 machine, cpu" in done.stderr
    assert "3 x 4 x 1 process = 12 examples a step" in done.stderr
    return output


def test_one_process_under_the_launcher_is_one_process_without_it(tmp_path, one_process):
    args, output = machine(tmp_path)
    done = launch("cpu.yaml", RUN_GLUE, args, "--expected_num_processes", 1)
    assert done.returncode == 0, done.stdout
    assert "1 process on 1 machine, cpu" in done.stdout
    for ours, theirs in zip(history(output), history(one_process), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_two_processes_have_the_losses_metrics_and_predictions_of_one(tmp_path, one_process):
    args, output = machine(tmp_path)
    done = launch("multi_cpu.yaml", RUN_GLUE, args, "--expected_num_processes", 2)
    assert done.returncode == 0, done.stdout
    assert "2 processes on 1 machine, cpu" in done.stdout
    assert done.stdout.count("3 x 2 x 2 processes = 12 examples a step") == 1  # said once, by the first
    assert "encoder cache: train written" in done.stdout
    assert read(output, "trainer_state.json")["run"]["num_processes"] == 2
    assert_same_run(output, one_process)
    assert not [path.name for path in output.iterdir() if path.name.startswith(".")]


def test_two_machines_without_a_common_disk_are_one_process_and_resume_to_the_same_bits(tmp_path, one_process):
    folders = tmp_path / "first", tmp_path / "second"
    (args, output), (args_there, output_there) = [machine(folder) for folder in folders]
    done = two_machines(RUN_GLUE, (args, "--expected_num_processes", 2), (args_there,))
    assert [launcher.returncode for launcher in done] == [0, 0], done[0].stdout + done[1].stdout
    assert "2 processes on 2 machines" in done[0].stdout
    assert_same_run(output, one_process)
    assert list(folders[1].glob("cache/*/*"))  # each machine has the encoder states on its own disk
    assert not output_there.exists() or not list(output_there.iterdir())  # results are written on the first alone

    uninterrupted = load_file(output / "model.safetensors"), history(output)
    for path in output.iterdir():  # as a run that died after its first checkpoint, and lost the second machine's disk
        if path.name == "checkpoint-8":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    shutil.rmtree(folders[1] / "cache")
    again = ("--resume_from_checkpoint", "true")
    done = two_machines(RUN_GLUE, (args, *again), (args_there, *again))
    assert [launcher.returncode for launcher in done] == [0, 0], done[0].stdout + done[1].stdout
    assert "resuming from checkpoint-4" in done[0].stdout
    resumed = load_file(output / "model.safetensors")
    assert all(resumed[name].equal(tensor) for name, tensor in uninterrupted[0].items())
    assert history(output) == uninterrupted[1]


def test_early_stopping_stops_both_processes_at_the_same_step(tmp_path):
    args, output = machine(
        tmp_path,
        eval_steps=1,
        save_steps=1,
        load_best_model_at_end=True,
        early_stopping_patience=2,
        early_stopping_threshold=100.0,  # nothing improves by so much: the first evaluation stays the best
    )
    done = finish(*two_ranks(RUN_GLUE, args))
    assert [process.returncode for process in done] == [0, 0], done[0].stdout + done[1].stdout
    assert read(output, "trainer_state.json")["global_step"] == 3


def test_a_failure_on_the_second_process_ends_both_with_its_code_and_one_message(tmp_path):
    args, output = machine(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    args_there, _ = tmp_path / "second" / "args.json", options(tmp_path / "second")
    (tmp_path / "second" / "data" / "train.tsv").unlink()
    done = finish(*two_ranks(RUN_GLUE, args, second=(args_there,)))
    assert [process.returncode for process in done] == [2, 2], done[0].stdout + done[1].stdout
    assert sum(process.stdout.count("error: ") for process in done) == 1
    assert "train.tsv" in done[1].stdout
    assert not output.exists()


def test_a_second_run_in_the_same_output_dir_is_refused(tmp_path):
    args, output = machine(tmp_path)
    with lock_output_dir(output, True):
        done = run("run_glue.py", args, "--overwrite_output_dir")
        assert done.returncode == 2
        assert f"process {os.getpid()} " in done.stderr
        assert [path.name for path in output.iterdir()] == [".lock"]


def test_two_processes_publish_once(hub, tmp_path):
    args, output = machine(tmp_path, num_train_epochs=1, eval_strategy="no", save_strategy="no")
    flags = ("--push_to_hub", "--hub_model_id", "ann/distilbart-mnli-2-2", "--license", "mit")
    variables = hub.environment(hub.add_user("ann"), tmp_path / "home")
    done = finish(*two_ranks(RUN_GLUE, args, *flags, **variables))
    assert [process.returncode for process in done] == [0, 0], done[0].stdout + done[1].stdout
    assert len(hub.commits("ann/distilbart-mnli-2-2")) == 2  # the repository's creation, and ours
    published = hub.files("ann/distilbart-mnli-2-2")
    assert published["model.safetensors"] == (output / "model.safetensors").read_bytes()
    assert not [name for name in published if name.startswith(".lock")]


def test_a_launch_that_is_not_what_was_expected_touches_nothing(tmp_path):
    args, output = machine(tmp_path)
    done = finish(start([sys.executable, RUN_GLUE, args, "--expected_num_processes", 2], environment()))[0]
    assert done.returncode == 2
    assert "error: expected_num_processes is 2" in done.stdout
    assert not output.exists()
