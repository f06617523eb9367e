"""The training on XLA, with the CPU in place of a TPU: few programs, the losses of a plain run, exact resume.

    make test-xla

torch_xla counts what it compiles; the counts are read around every optimizer step and every evaluation. The first run
trains everything, so that the tables that are shared must stay shared; the second is the recipe's (frozen encoder and
embeddings) with dropout.
"""

import csv
import json
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

pytest.importorskip("torch_xla", reason="needs torch_xla in an environment of its own: make test-xla")

import torch_xla.debug.metrics as met

from distilbart_mnli.data.batches import XLA_BUCKETS
from distilbart_mnli.train import loop as training
from tests.support.in_process import train_here
from tests.support.launch import finish, launcher, run, start
from tests.support.training_runs import Workshop, environment, only_checkpoint, outcome

STEPS = 7  # an epoch: 52 examples in steps of 8, the last one of 4
EPOCHS = 3


def counter(name: str) -> int:
    return int(met.counter_value(name) or 0)


def timed(name: str) -> int:
    """How often a thing that torch_xla times has happened."""
    return int((met.metric_data(name) or [0])[0])


class Watch:
    """What every optimizer step compiled, read back and was made of."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.shapes: list[list[tuple[int, ...]]] = []
        self.compiled: list[int] = []
        self.compiled_after: list[int] = []
        self.read_back: list[int] = []
        self.started_with = timed("CompileTime")
        self.total = 0
        step, after = training.Training._step, training.Training._after_step

        def watched_step(run: training.Training, batches, examples: int) -> None:
            shapes: list[tuple[int, ...]] = []

            def look():
                for batch in batches:
                    shapes.append(tuple(batch["input_ids"].shape))
                    yield batch

            before, read = timed("CompileTime"), timed("TransferFromDeviceTime")
            step(run, look(), examples)
            self.compiled.append(timed("CompileTime") - before)
            self.read_back.append(timed("TransferFromDeviceTime") - read)
            self.shapes.append(shapes)

        def watched_after(run: training.Training) -> None:
            before = timed("CompileTime")
            after(run)
            self.compiled_after.append(timed("CompileTime") - before)

        patch.setattr(training.Training, "_step", watched_step)
        patch.setattr(training.Training, "_after_step", watched_after)

    def epoch(self, number: int) -> tuple[set[tuple[int, ...]], int, int]:
        """(shapes, programs compiled in its steps, and in its evaluation, logging and saving)"""
        part = slice(number * STEPS, (number + 1) * STEPS)
        shapes = {shape for step in self.shapes[part] for shape in step}
        return shapes, sum(self.compiled[part]), sum(self.compiled_after[part])


def lengthen(path: Path) -> None:
    """Repeat the premise of some rows, so that the set has several lengths."""
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    at = head.split("\t").index("sentence1")
    for number, row in enumerate(rows):
        cells = row.split("\t")
        cells[at] = " ".join([cells[at]] * (1 + number % 4))
        rows[number] = "\t".join(cells)
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


def workshop(folder: Path, dropout: float) -> Workshop:
    made = Workshop(folder, train=52, dropout=dropout)
    for path in (folder / "data").iterdir():
        lengthen(path)
    return made


ALL = {
    "freeze_encoder": False,
    "freeze_embeds": False,
    "num_train_epochs": EPOCHS,
    "per_device_eval_batch_size": 8,
    "max_seq_length": 128,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
}
RECIPE = {
    **ALL,
    "freeze_encoder": True,
    "freeze_embeds": True,
    "num_train_epochs": 2,
    # Loss falls, so the "best" evaluation is the first: the run ends by loading weights back.
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "greater_is_better": True,
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Workshop:
    return workshop(tmp_path_factory.mktemp("xla"), dropout=0.0)


@pytest.fixture(scope="module")
def trained(shop) -> tuple[Path, Watch]:
    """Three epochs on XLA, everything trained, no dropout."""
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(patch)
        options = shop.options("xla", **ALL)
        assert train_here(options) == (0, "")
        watch.total = timed("CompileTime") - watch.started_with
    return Path(options["output_dir"]), watch


@pytest.fixture(scope="module")
def on_cpu(shop) -> Path:
    """The same in a process without torch_xla."""
    options = shop.options("cpu", **ALL)
    path = shop.folder / "cpu.json"
    path.write_text(json.dumps(options), encoding="utf-8")
    done = run("run_glue.py", path, env=environment(shop.folder, USE_TORCH_XLA="0"), check=True)
    assert "distributed type NO" in done.stderr
    return Path(options["output_dir"])


def log_of(folder: Path) -> list[dict]:
    return json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in log_of(folder) if "loss" in entry]


def predictions(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"eval_predictions_{name}.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def logits_in(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[name]) for name in row if name.startswith("logit_")] for row in rows])


# ---------------------------------------------------------------------------------------------------------------------


def test_the_hardware_line_says_xla(trained):
    run = json.loads((trained[0] / "trainer_state.json").read_text(encoding="utf-8"))["run"]
    assert "distributed type XLA" in run["hardware"] and "xla:0 (CPU)" in run["hardware"]
    assert "4 x 2 x 1 process = 8 examples a step" in run["hardware"]


def test_batches_are_full_and_of_no_more_lengths_than_there_are_buckets(trained):
    shapes = {shape for step in trained[1].shapes for shape in step}
    assert 3 <= len(shapes) <= len(XLA_BUCKETS)
    assert {rows for rows, _ in shapes} == {4}
    assert {length for _, length in shapes} <= set(XLA_BUCKETS)


def test_one_program_a_length_and_two_for_the_optimizer_and_none_after_the_first_epoch(trained, capsys):
    watch = trained[1]
    with capsys.disabled():
        for number in range(EPOCHS):
            shapes, in_steps, after = watch.epoch(number)
            lengths = sorted(length for _, length in shapes)
            print(f"\nepoch {number + 1}: lengths {lengths}, programs compiled: {in_steps} in {STEPS} steps, ", end="")
            print(f"{after} in evaluation and saving", end="")
        print(f"; in the whole run {watch.total}")
    first = watch.epoch(0)[0]
    assert watch.epoch(0)[1] <= len(first) + 2  # the optimizer's step with its moments still to be made, and without
    # Evaluation's lengths, and one program that asks whether the weights are finite.
    assert watch.epoch(0)[2] <= len(XLA_BUCKETS) + 1
    for later in (1, 2):
        shapes, in_steps, after = watch.epoch(later)
        assert shapes <= first, "choose data whose first epoch has every length"
        assert (in_steps, after) == (0, 0)
    # Outside the epochs: zeros at the start, accelerate's barrier, and "is it finite?" for each shape of a parameter.
    shapes_of_parameters = {tensor.shape for tensor in load_file(trained[0] / "model.safetensors").values()}
    assert watch.total <= sum(watch.epoch(0)[1:]) + 2 + len(shapes_of_parameters)


def test_no_step_waits_for_the_device(trained):
    assert len(trained[1].read_back) == STEPS * EPOCHS
    assert set(trained[1].read_back) == {0}


def test_losses_and_evaluations_are_those_of_a_plain_run_on_the_cpu(trained, on_cpu):
    found, expected = losses(trained[0]), losses(on_cpu)
    assert len(found) == len(expected) > 9
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    for ours, theirs in zip(log_of(trained[0]), log_of(on_cpu), strict=True):
        for key in ("eval_loss", "eval_loss_mm", "grad_norm", "learning_rate", "epoch", "step"):
            assert (key in ours) == (key in theirs)
            assert ours.get(key, 0) == pytest.approx(theirs.get(key, 0), rel=1e-3), key


def test_the_loss_falls(trained):
    found = losses(trained[0])
    assert np.mean(found[-3:]) < 0.8 * np.mean(found[:3])


@pytest.mark.parametrize(("name", "file", "count"), [("mnli", "dev_matched", 21), ("mnli-mm", "dev_mismatched", 13)])
def test_stock_transformers_load_the_model_and_agree_on_every_row_of_the_evaluation(shop, trained, name, file, count):
    model = AutoModelForSequenceClassification.from_pretrained(trained[0]).eval()
    assert type(model).__name__ == "BartForSequenceClassification"
    assert model.model.shared.weight is model.model.decoder.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    with (shop.folder / "data" / f"{file}.tsv").open(encoding="utf-8") as lines:
        texts = [(row["sentence1"], row["sentence2"]) for row in csv.DictReader(lines, delimiter="\t", quoting=3)]
    rows = predictions(trained[0], name)
    assert [int(row["index"]) for row in rows] == list(range(count))
    with torch.no_grad():
        stock = [model(**tokenizer(*pair, return_tensors="pt")).logits[0].numpy() for pair in texts]
    np.testing.assert_allclose(logits_in(rows), np.stack(stock), rtol=0, atol=1e-4)


def launched(options: dict, *flags: object) -> CompletedProcess:
    """The command of tpu.yaml: the launcher imports run_glue.py and calls its main in a thread."""
    path = Path(options["output_dir"] + ".json")
    path.write_text(json.dumps(options), encoding="utf-8")
    command = launcher("tpu.yaml", "run_glue.py", path, *flags)
    return finish(start(command, environment(path.parent, ACCELERATE_USE_CPU="false")), timeout=600)[0]


def test_the_tpu_launcher_trains(shop):
    options = shop.options("launched", **{**RECIPE, "num_train_epochs": 1})
    done = launched(options, "--expected_num_processes", 1)
    assert done.returncode == 0, done.stdout
    assert "distributed type XLA" in done.stdout
    output = Path(options["output_dir"])
    assert json.loads((output / "trainer_state.json").read_text())["global_step"] == STEPS
    assert (output / "README.md").is_file()


def test_the_tpu_launcher_ends_with_one_line_and_the_code_of_what_is_wrong(shop):
    done = launched(shop.options("refused", **RECIPE), "--expected_num_processes", 8)
    assert done.returncode == 2
    assert done.stdout.count("error: expected_num_processes is 8") == 1
    assert "Traceback" not in done.stdout


def test_an_encoder_cache_that_is_asked_for_is_refused(shop):
    code, error = train_here({**shop.options("cached", **RECIPE), "cache_encoder_outputs": "true"})
    assert code == 2 and "cache_encoder_outputs" in error


def test_a_resumed_run_ends_as_the_uninterrupted_one(shop, trained, tmp_path):
    only_checkpoint(trained[0], tmp_path / "out", STEPS)
    options = shop.options(tmp_path / "out", **ALL)
    assert train_here(options, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == outcome(trained[0])


def test_dropout_goes_on_where_it_was_and_the_best_checkpoint_is_loaded_back(tmp_path):
    shop = workshop(tmp_path / "shop", dropout=0.1)
    options = shop.options("first", **RECIPE)
    assert train_here(options) == (0, "")
    first = Path(options["output_dir"])
    only_checkpoint(first, tmp_path / "out", STEPS)
    again = {**options, "output_dir": str(tmp_path / "out")}
    assert train_here(again, ("--resume_from_checkpoint",)) == (0, "")
    assert outcome(tmp_path / "out") == outcome(first)
    last = load_file(first / f"checkpoint-{2 * STEPS}" / "model.safetensors")
    resumed = load_file(tmp_path / "out" / f"checkpoint-{2 * STEPS}" / "model.safetensors")
    best, final = (load_file(path / "model.safetensors") for path in (first / f"checkpoint-{STEPS}", first))
    assert all(torch.equal(last[name], resumed[name]) for name in last)
    assert all(torch.equal(best[name], final[name]) for name in best)
    assert any(not torch.equal(best[name], last[name]) for name in best)
    assert load_file(first / f"checkpoint-{STEPS}" / "random_states.safetensors")["0/xla"].dtype == torch.uint64
