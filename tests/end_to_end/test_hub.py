"""The Hub both ways, as a user goes: teacher, data and student by their names there, the finished model back to it.

Every command is a process of its own with a cache of its own; the Hub is the small one of hub_server.py, spoken to by
the real clients. Publishing by itself is in test_hub.py, its troubles in test_hub_faults.py.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import pipeline

from tests.support.glue_files import write_hub
from tests.support.launch import environment, finish, run, start
from tests.support.tiny import ROOT, TEACHER_LABELS, tiny_bart, tiny_mnli

pytestmark = pytest.mark.xdist_group("hub")
TEACHER, STUDENT, FINISHED = "user/tiny-bart-mnli", "user/student-bart-mnli-2-1", "user/distilbart-mnli-2-1"
TEACHER_CARD = """---
language: en
license: other
license_name: Tiny Terms
license_link: LICENSE
---
# A teacher
"""
ROWS = 12  # of every split of the data set
TEXT, TOPICS = "the big dog", ["cat", "garden", "under"]
USE = f"""
import json
from transformers import pipeline
print(json.dumps(pipeline("zero-shot-classification", model={FINISHED!r})({TEXT!r}, {TOPICS!r})))
"""


def training(folder: Path, epochs: int = 1) -> list[object]:
    """Options of a small training on files of this machine, published as FINISHED."""
    tiny_bart(folder / "student", decoder_layers=1)
    tiny_mnli(folder / "data")
    return [
        *("--model_name_or_path", folder / "student", "--task_name", "MNLI", "--data_dir", folder / "data"),
        *("--do_train", "--do_eval", "--num_train_epochs", epochs, "--save_strategy", "no", "--use_cpu"),
        *("--output_dir", folder / "out", "--push_to_hub", "--hub_model_id", FINISHED, "--license", "mit"),
    ]


def error_line(stderr: str) -> str:
    """The one line of the refusal."""
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    return line


def test_teacher_data_and_student_by_their_names_and_the_finished_model_by_its_own(hub, tmp_path):
    token = hub.add_user("user")
    tiny_bart(tmp_path / "teacher")
    (tmp_path / "teacher" / "README.md").write_text(TEACHER_CARD)
    hub.add_repo(TEACHER, tmp_path / "teacher", private=True)  # its owner is logged in
    hub.add_repo("nyu-mll/glue", write_hub(tmp_path / "glue", "mnli", rows=ROWS), "dataset")
    env = hub.environment(token, tmp_path / "home")

    made = run(
        *("create_student.py", "--teacher_model_name_or_path", TEACHER, "--student_decoder_layers", 1),
        *("--save_path", tmp_path / "student"),
        env=env,
        check=True,
    )
    hub.add_repo(STUDENT, tmp_path / "student")
    shutil.rmtree(tmp_path / "student")
    output = tmp_path / "distilbart-mnli-2-1"
    trained = run(
        *("run_glue.py", "--model_name_or_path", STUDENT, "--task_name", "mnli", "--do_train", "--do_eval"),
        *("--num_train_epochs", 2, "--freeze_encoder", "--cache_encoder_outputs", "false", "--use_cpu"),
        *("--output_dir", output, "--push_to_hub"),  # its name: the user's and output_dir's
        env=env,
        check=True,
    )

    created, published = hub.commits(FINISHED)
    results = json.loads((output / "all_results.json").read_text())
    assert published.parent == created.oid and hub.asked("commit") == 1
    assert (results["train_samples"], results["eval_samples"], results["eval_samples_mm"]) == (ROWS, ROWS, ROWS)
    assert published.title == (
        f"Add distilbart-mnli-2-1: accuracy {results['eval_accuracy']:.4f}, "
        f"accuracy_mm {results['eval_accuracy_mm']:.4f}"
    )
    files = hub.files(FINISHED)
    assert files["model.safetensors"] == (output / "model.safetensors").read_bytes()
    for text in (made.stdout + made.stderr + trained.stdout + trained.stderr).encode(), *files.values():
        assert token.encode() not in text
    for content in (content for name, content in files.items() if not name.endswith((".safetensors", ".png"))):
        assert str(tmp_path).encode() not in content

    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "README.md").write_bytes(files["README.md"])
    card = ModelCard.load(tmp_path / "read" / "README.md").data
    assert (card.base_model, card.datasets, card.language) == (TEACHER, ["nyu-mll/glue"], "en")
    assert (card.license, card.license_name) == ("other", "tiny-terms")
    assert card.license_link == f"https://huggingface.co/{TEACHER}/blob/main/LICENSE"
    measured = [(r.dataset_type, r.dataset_config, r.dataset_split, r.metric_value) for r in card.eval_results]
    assert measured == [
        ("nyu-mll/glue", "mnli", "validation_matched", results["eval_accuracy"]),
        ("nyu-mll/glue", "mnli", "validation_mismatched", results["eval_accuracy_mm"]),
    ]
    config = json.loads(files["config.json"])
    assert [config["id2label"][str(index)] for index in range(3)] == list(TEACHER_LABELS)
    assert (config["teacher_name_or_path"], config["decoder_layer_ids"]) == (TEACHER, [0])

    (tmp_path / "stranger.py").write_text(USE)  # no code of ours, no token, nothing in the cache
    stranger = {**hub.environment(None, tmp_path / "empty"), "PYTHONPATH": ""}
    found = json.loads(run(str(tmp_path / "stranger.py"), env=stranger, check=True).stdout)
    local = pipeline("zero-shot-classification", model=str(output))(TEXT, TOPICS)
    assert (found["sequence"], found["labels"]) == (TEXT, local["labels"])
    assert found["scores"] == pytest.approx(local["scores"], rel=1e-6)


def test_of_two_processes_only_the_first_talks_to_the_hub(hub, tmp_path):
    variables = hub.environment(hub.add_user("user"), tmp_path / "home")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    command = [*torchrun, ROOT / "run_glue.py", *training(tmp_path)]
    (done,) = finish(start(command, environment(ACCELERATE_USE_CPU="true", **variables)))
    assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["run"]["num_processes"] == 2
    assert len(hub.commits(FINISHED)) == 2
    for endpoint in ("whoami", "create", "preupload", "xet-token", "commit"):
        assert hub.asked(endpoint) == 1, endpoint
    assert hub.files(FINISHED)["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()


def test_a_token_that_may_not_write_is_refused_before_a_training_of_days_begins(hub, tmp_path):
    token = hub.add_user("user", role="read")
    env = hub.environment(token, tmp_path / "home")
    done = run("run_glue.py", *training(tmp_path, epochs=10**6), env=env, timeout=200)
    assert done.returncode == 3
    assert "read" in error_line(done.stderr) and token not in done.stderr  # what the token may
    assert not (tmp_path / "out").exists()
    assert not hub.repos and hub.asked("create") == 0


def test_a_token_that_expires_during_training_costs_one_command(hub, tmp_path):
    token = hub.add_user("user")
    hub.fault("info", run=lambda: None)  # the preflight's question
    hub.fault("info", run=lambda: hub.revoke(token))  # the next one comes when the training is over
    done = run("run_glue.py", *training(tmp_path), env=hub.environment(token, tmp_path / "home"))
    assert done.returncode == 3
    line = error_line(done.stderr)
    assert "401" in line and token not in done.stdout + done.stderr
    assert not hub.repos  # nothing half published
    output = tmp_path / "out"
    whole = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    assert len(load_file(output / "model.safetensors")) > 0 and "README.md" in whole

    words = shlex.split(line.rpartition("to try again: ")[2])
    assert words[:2] == ["python", "run_glue.py"]
    again = run(*words[1:], env=hub.environment(hub.add_user("user"), tmp_path / "home"))
    assert again.returncode == 0, again.stderr
    assert len(hub.commits(FINISHED)) == 2
    assert hub.files(FINISHED)["model.safetensors"] == whole["model.safetensors"]
    assert b"mit" in hub.files(FINISHED)["README.md"]
    assert all((output / name).read_bytes() == content for name, content in whole.items() if name != "hub_state.json")


def test_a_teacher_that_may_not_be_read_is_one_line_that_says_how_to_get_it(hub, tmp_path):
    hub.add_repo("lab/gated", {"config.json": b"{}"}, gated=True)
    hub.add_repo("lab/private", {"config.json": b"{}"}, private=True)
    script = tmp_path / "several.py"  # create_student.py's main for one teacher after the other: one start of Python
    script.write_text(
        "import sys, create_student\nfrom distilbart_mnli.errors import run_command\n"
        "flags = ['--student_decoder_layers', '1', '--save_path', sys.argv[1]]\n"
        "for teacher in ('lab/gated', 'lab/private'):\n"
        "    sys.argv[1:] = ['--teacher_model_name_or_path', teacher, *flags]\n"
        "    print(run_command(create_student.main))\n"
    )
    done = run(str(script), tmp_path / "student", env=hub.environment(hub.add_user("user"), tmp_path / "home"))
    assert done.stdout.split() == ["3", "3"], done.stderr
    gated, private = done.stderr.splitlines()
    assert gated.startswith("error: teacher lab/gated: ") and "https://huggingface.co/lab/gated" in gated
    assert private.startswith("error: teacher lab/private: ")
    assert "hf auth login" in gated and "hf auth login" in private
    assert not (tmp_path / "student").exists()
