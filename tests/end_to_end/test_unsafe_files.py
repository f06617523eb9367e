"""Nothing unsafe is loaded, and no token is written.

A payload is planted in every file that could be a pickle or code; what it does when it is unpickled or imported is to
make a folder, which must never appear. A planted token is searched for in every byte that a run wrote.
"""

import json
import os
import pickle
import shutil
import stat
from pathlib import Path

import pytest
import torch

from tests.support.files import Payload, edit_json, everything_in
from tests.support.in_process import train_here
from tests.support.training_runs import Workshop, only_checkpoint, outcome, sign_manifest

pytestmark = pytest.mark.xdist_group("unsafe")
CHANGES = {"max_steps": 4, "eval_steps": 2}
TOKEN, FLAG_TOKEN = "hf_plantedTokenOfTheEnvironment0123", "hf_plantedTokenOfTheCommandLine4567"


@pytest.fixture(scope="module")
def finished(shop) -> Path:
    options = shop.options("finished", **CHANGES)
    assert train_here(options) == (0, "")
    return Path(options["output_dir"])


@pytest.fixture
def sign(tmp_path) -> Path:
    return tmp_path / "the payload ran"


@pytest.fixture
def payload(sign) -> bytes:
    return pickle.dumps(Payload(sign))


def test_the_payload_works(payload, sign, tmp_path):
    """Guards the tests below: in a reader that unpickles, it does run."""
    pickle.loads(payload)
    assert sign.is_dir()
    sign.rmdir()
    torch.save({"weights": Payload(sign)}, tmp_path / "state.bin")
    torch.load(tmp_path / "state.bin", weights_only=False)
    assert sign.is_dir()


# ---------------------------------------------------------------------------------------------------------------------
# Models


def student_with_bin(shop: Workshop, folder: Path, extra: dict) -> Path:
    """The student as those of 2020 are stored: pytorch_model.bin, no safetensors."""
    from safetensors.torch import load_file

    shutil.copytree(shop.folder / "student", folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**weights, **extra}, folder / "pytorch_model.bin")
    return folder


def test_weights_of_2020_are_read(shop, finished, tmp_path):
    student = student_with_bin(shop, tmp_path / "student", {})
    options = shop.options(tmp_path / "out", **CHANGES)
    assert train_here({**options, "model_name_or_path": str(student)}) == (0, "")
    assert outcome(tmp_path / "out") == outcome(finished)


@pytest.mark.parametrize("form", ["torch.save", "bare pickle", "legacy torch.save"])
def test_a_payload_in_pytorch_model_bin_does_not_run(shop, tmp_path, payload, sign, form):
    student = student_with_bin(shop, tmp_path / "student", {"a_weight_more": Payload(sign)})
    if form == "bare pickle":
        (student / "pytorch_model.bin").write_bytes(payload)
    elif form == "legacy torch.save":
        state = {"a_weight_more": Payload(sign)}
        torch.save(state, student / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    options = shop.options(tmp_path / "out", **CHANGES)
    code, error = train_here({**options, "model_name_or_path": str(student)})
    assert not sign.exists()
    assert code == 2 and str(student) in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_payload_under_the_name_of_a_safe_file_does_not_run(shop, tmp_path, payload, sign, name):
    shutil.copytree(shop.folder / "student", tmp_path / "student")
    (tmp_path / "student" / name).write_bytes(payload)
    options = shop.options(tmp_path / "out", **CHANGES)
    code, error = train_here({**options, "model_name_or_path": str(tmp_path / "student")})
    assert not sign.exists()
    assert code == 2 and str(tmp_path / "student") in error


def test_code_beside_a_model_does_not_run(shop, tmp_path, sign):
    shutil.copytree(shop.folder / "student", tmp_path / "student")
    code = f"import os\nos.mkdir({str(sign)!r})\nclass Evil: pass\n"
    for module in ("evil", "modeling_bart", "tokenization_bart"):
        (tmp_path / "student" / f"{module}.py").write_text(code)
    classes = ["AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoTokenizer"]
    for name in ("config.json", "tokenizer_config.json"):
        auto_map = {kind: ["evil.Evil", "evil.Evil"] if kind == "AutoTokenizer" else "evil.Evil" for kind in classes}
        edit_json(tmp_path / "student" / name, auto_map=auto_map)
    options = shop.options(tmp_path / "out", **CHANGES)
    train_here({**options, "model_name_or_path": str(tmp_path / "student")})  # trained or refused, both are safe
    assert not sign.exists()


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "optimizer.safetensors",
        "random_states.safetensors",
        "trainer_state.json",
        "manifest.json",
        "config.json",
        "tokenizer.json",
    ],
)
def test_a_payload_in_a_checkpoint_does_not_run(shop, finished, tmp_path, payload, sign, name):
    only_checkpoint(finished, tmp_path / "out", 2)
    bad = tmp_path / "out/checkpoint-2"
    (bad / name).write_bytes(payload)
    if name != "manifest.json":
        sign_manifest(bad)
    options = shop.options(tmp_path / "out", **CHANGES)
    code, error = train_here(options, ("--resume_from_checkpoint",))
    assert not sign.exists()
    if name in ("config.json", "tokenizer.json"):  # resuming reads neither
        assert (code, error) == (0, "")
    else:  # seen to be no checkpoint: the one before is used
        assert (code, error) == (0, "") and outcome(tmp_path / "out") == outcome(finished)


@pytest.mark.parametrize("where", ["best_model_checkpoint", "best_step"])
def test_a_checkpoint_from_elsewhere_writes_nothing_outside_output_dir(shop, finished, tmp_path, where):
    """It says that its best checkpoint is ../../.ssh, and brings a whole one of that name along."""
    run = {**CHANGES, "load_best_model_at_end": True, "save_steps": 2}
    foreign, home = tmp_path / "mail/deep/er", tmp_path / "home"
    assert train_here(shop.options(foreign, **run)) == (0, "")
    shutil.copytree(foreign / "checkpoint-4", tmp_path / "mail/.ssh")
    (tmp_path / "mail/.ssh/authorized_keys").write_text("ssh-ed25519 theirs")
    sign_manifest(tmp_path / "mail/.ssh")
    state = json.loads((foreign / "checkpoint-4/trainer_state.json").read_text(encoding="utf-8"))
    if where == "best_step":
        state["resume"]["progress"]["best_step"] = "4/../../../.ssh"
        state["best_model_checkpoint"] = "checkpoint-4/../../../.ssh"
    else:
        state["best_model_checkpoint"] = "../../.ssh"
    (foreign / "checkpoint-4/trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    sign_manifest(foreign / "checkpoint-4")
    (home / "runs").mkdir(parents=True)
    before = everything_in(tmp_path)
    options = shop.options(home / "runs/out", **run)
    code, error = train_here(options, ("--resume_from_checkpoint", str(foreign / "checkpoint-4")))
    assert code == 2 and "checkpoint-4" in error and not (home / ".ssh").exists()
    after = {name: data for name, data in everything_in(tmp_path).items() if not name.startswith("home/runs/out")}
    assert after == before


def test_links_in_a_run_folder_are_replaced_and_what_they_lead_to_is_kept(shop, finished, tmp_path):
    """One under every name that a run writes, and under the temporary names of earlier releases."""
    out, outside = tmp_path / "out", tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    out.mkdir()
    names = [path.name for path in finished.iterdir()]
    for name in [*names, *(f".writing-{name}" for name in names), ".writing-model", ".writing-.writing-model", "runs"]:
        folder = name.startswith(("checkpoint-", ".writing-checkpoint", "runs"))
        target = outside / (f"inner/{name}" if folder else name)
        target.mkdir() if folder else target.write_text("precious")
        (out / name).symlink_to(target)
    before = everything_in(outside)
    options = shop.options(out, **CHANGES, report_to="tensorboard", run_name="here")
    assert train_here(options, ("--overwrite_output_dir",)) == (0, "")
    assert everything_in(outside) == before
    assert outcome(out) == outcome(finished)
    assert [path.name for path in out.rglob("*") if path.is_symlink()] == ["runs"]


@pytest.mark.parametrize("name", ["model.safetensors", "all_results.json", "README.md", "vocab.json", ".lock"])
def test_a_folder_where_a_file_is_to_be_written_is_refused_before_the_training(shop, tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    code, error = train_here(shop.options(tmp_path / "out", **CHANGES), ("--overwrite_output_dir",))
    assert code == 2 and "output_dir" in error
    assert [path.name for path in (tmp_path / "out").rglob("*")] == [name]


def test_what_a_run_writes_is_as_readable_as_the_umask_says(shop, tmp_path):
    before = os.umask(0o022)
    try:
        assert train_here(shop.options(tmp_path / "out", **CHANGES), card=True) == (0, "")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"model.safetensors", "optimizer.safetensors", "README.md", "training_curves.png"} <= set(modes)
    assert set(modes.values()) == {0o644}, modes


def test_pickles_that_other_programs_would_load_are_not_touched(shop, finished, tmp_path, payload, sign):
    """The names of transformers' Trainer and of Accelerate's save_state."""
    only_checkpoint(finished, tmp_path / "out", 2)
    names = "training_args.bin optimizer.pt optimizer.bin scheduler.pt scheduler.bin scaler.pt rng_state.pth "
    names += "random_states_0.pkl custom_checkpoint_0.pkl sampler.bin dl_state_dict.bin pytorch_model.bin"
    for name in names.split():
        (tmp_path / "out/checkpoint-2" / name).write_bytes(payload)
        (tmp_path / "out" / name).write_bytes(payload)
    sign_manifest(tmp_path / "out/checkpoint-2")
    options = shop.options(tmp_path / "out", **CHANGES)
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert not sign.exists() and outcome(tmp_path / "out") == outcome(finished)


# ---------------------------------------------------------------------------------------------------------------------
# Caches


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", ["states.bin", "xxh3.bin", "meta.json"])
def test_a_payload_in_the_encoder_cache_does_not_run(shop, finished, tmp_path, payload, sign, name, padded):
    """Padded to the size of the file that it replaces, it is seen by its content alone."""
    shutil.copytree(shop.folder / "cache", tmp_path / "cache")
    for path in (tmp_path / "cache").glob(f"*/{name}"):
        path.write_bytes(payload.ljust(path.stat().st_size, b"\0") if padded else payload)
    options = shop.options(tmp_path / "out", **CHANGES)
    assert train_here({**options, "encoder_cache_dir": str(tmp_path / "cache")}) == (0, "")
    assert not sign.exists() and outcome(tmp_path / "out") == outcome(finished)


def test_a_payload_in_an_unfinished_encoder_cache_does_not_run(shop, finished, tmp_path, payload, sign):
    shutil.copytree(shop.folder / "cache", tmp_path / "cache")
    for folder in [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]:
        (folder / "meta.json").unlink()
        for name in ("states.bin", "xxh3.bin", "done.bin"):
            (folder / name).write_bytes(payload)
        folder.rename(folder.with_name(folder.name + ".partial"))
    options = shop.options(tmp_path / "out", **CHANGES)
    assert train_here({**options, "encoder_cache_dir": str(tmp_path / "cache")}) == (0, "")
    assert not sign.exists() and outcome(tmp_path / "out") == outcome(finished)


def test_a_payload_among_the_kept_tokens_does_not_run(shop, finished, tmp_path, payload, sign):
    options = shop.options(tmp_path / "out", **CHANGES)
    assert train_here(options) == (0, "")
    kept = list((tmp_path / "out-datasets").rglob("*.arrow"))
    for path in kept:
        path.write_bytes(payload)
    assert kept and train_here(options, ("--overwrite_output_dir",)) == (0, "")
    assert not sign.exists() and outcome(tmp_path / "out") == outcome(finished)


# ---------------------------------------------------------------------------------------------------------------------
# Tokens


def files_with(folder: Path, *needles: str) -> list[str]:
    """Files below `folder` that hold one of the texts, as UTF-8 or UTF-16, in their bytes or in their names."""
    coded = [needle.encode(coding) for needle in needles for coding in ("utf-8", "utf-16-le")]
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if any(needle in str(path) for needle in needles)
        or (path.is_file() and any(code in path.read_bytes() for code in coded))
    ]


def test_no_token_is_written_anywhere(shop, tmp_path, monkeypatch, capfd, caplog):
    """Given in the environment and on the command line, to a run with a tracker that ends, and to one that fails after
    a checkpoint: searched for in the files of both, in their logs, in TensorBoard's events and in every cache."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    failing = {"learning_rate": 1e25, "warmup_steps": 0, "max_steps": 30, "logging_steps": 50}
    said = []
    for name, more in (("ends", {}), ("fails", failing)):
        changes = {**CHANGES, "report_to": ["tensorboard"], "encoder_cache_dir": None, **more}
        options = shop.options(tmp_path / name, **changes)
        said.append(train_here(options, ("--hub_token", FLAG_TOKEN), card=True))
    assert [code for code, _ in said] == [0, 1]
    assert list((tmp_path / "ends/runs").rglob("*tfevents*")) and (tmp_path / "ends/README.md").exists()
    assert list((tmp_path / "fails").glob("checkpoint-*")) and list((tmp_path / "xdg").rglob("states.bin"))
    state = json.loads((tmp_path / "ends/trainer_state.json").read_text(encoding="utf-8"))
    assert state["run"]["command"] == "python run_glue.py ends.json"
    assert "step 4 of 4" in caplog.text
    assert not any(
        token in text for token in (TOKEN, FLAG_TOKEN) for text in (*capfd.readouterr(), caplog.text, said[1][1])
    )
    assert files_with(tmp_path, TOKEN, FLAG_TOKEN) == []
    # The search finds what is there.
    (tmp_path / "ends" / "probe").write_bytes(b"\0" + FLAG_TOKEN.encode() + b"\0")
    assert files_with(tmp_path, TOKEN, FLAG_TOKEN) == ["ends/probe"]


@pytest.mark.parametrize(
    "words", [["--hub_token", FLAG_TOKEN], [f"--hub_token={FLAG_TOKEN}"], ["--hub-token", FLAG_TOKEN]]
)
def test_the_command_that_goes_on_is_printed_without_the_token(monkeypatch, words):
    from distilbart_mnli.command_line import this_command

    monkeypatch.setattr("sys.argv", ["/here/run_glue.py", "args.json", *words, "--seed", "3"])
    assert this_command().partition(" run")[2] == "_glue.py args.json --seed 3"
