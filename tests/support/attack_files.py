"""Attacks on files: one function for what is read or written, each a generator of attacks (attack.py)."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import datasets

from distilbart_mnli.model import encoder_cache
from tests.support import attack_damages as damages
from tests.support.attack import TOKEN, Attack
from tests.support.attack_bench import DONE, DONE_OR_REFUSED, REPO, Bench, command, damaged_files, predictions
from tests.support.files import edit_config, edit_json
from tests.support.training_runs import digest, only_checkpoint, outcome


def students(bench: Bench) -> Iterator[Attack]:
    """A model that is evaluated."""
    here = bench.folder / "evaluated"
    here.mkdir()
    assert bench.evaluate(here) == 0
    expected = predictions(here)
    for name, lay_out in damaged_files(bench, bench.folder / "student", "model"):
        run = lambda here: bench.evaluate(here, here / "model")  # noqa: E731
        result = predictions if name != damages.UNSEEN else (lambda _: expected)
        yield Attack("a model that is evaluated", name, DONE_OR_REFUSED, lay_out, run, result, expected)


def teachers(bench: Bench) -> Iterator[Attack]:
    """A teacher that a student is made of: its files, its card, names in its files."""
    here = bench.folder / "copied"
    here.mkdir()
    assert bench.student_of(here, bench.folder / "student") == 0
    expected = digest(here / "new" / "model.safetensors")

    def weights(here: Path) -> str:
        return digest(here / "new" / "model.safetensors")

    def run(here: Path) -> int:
        return bench.student_of(here, here / "teacher")

    def edited(here: Path, edit: Callable[[Path], object]) -> None:
        shutil.copytree(bench.folder / "student", here / "teacher")
        edit(here / "teacher")

    found = list(damaged_files(bench, bench.folder / "student", "teacher"))
    for title, front in damages.CARDS.items():
        found.append((f"README.md: {title}", partial(edited, edit=partial(damages.card, front=front))))
    outside = bench.workplace.precious / "copies" / "model.safetensors"
    for name in ("../../precious/copies/model.safetensors", str(outside), "", 7, None, "\x1b[2J", "x\0y"):
        found.append((f"an index that names {name!r}"[:60], partial(edited, edit=partial(damages.sharded, name=name))))
    for title, change in {
        "code beside the model": {"auto_map": {"AutoModel": "evil--evil.Model"}},
        "a pipeline of its own": {"custom_pipelines": {"x": {"impl": "evil.Pipe"}}},
        "labels with escapes": {"id2label": {"0": damages.ESCAPES, "1": "b", "2": "c"}, "label2id": {}},
        "labels that are numbers": {"id2label": {"0": 0, "1": 1, "2": 2}},
        "a teacher's name with HTML": {"teacher_name_or_path": "`<script>alert(1)</script>\n# x"},
        "a history with HTML": {"distillation": [{"stage": "<b>", "teacher": damages.ESCAPES}] * 1000},
        "layer ids that are no numbers": {"encoder_layer_ids": ["a", None], "decoder_layer_ids": "x"},
        "a million layers": {"encoder_layers": 10**6},
        "a negative width": {"d_model": -16},
        "a vocabulary of 10^12": {"vocab_size": 10**12},
        "half a head": {"encoder_attention_heads": 3},
        "no positions": {"max_position_embeddings": 0},
    }.items():
        found.append(
            (f"config.json: {title}", partial(edited, edit=lambda f, change=change: edit_config(f, **change)))
        )
    for name, lay_out in found:
        result = weights if name != damages.UNSEEN else (lambda _: expected)
        yield Attack("a teacher that a student is made of", name, DONE_OR_REFUSED, lay_out, run, result, expected)


def checkpoints(bench: Bench) -> Iterator[Attack]:
    """The newest checkpoint of a training that goes on from it."""
    killed = bench.folder / "killed"
    only_checkpoint(bench.checkpoints, killed, 3)

    def edited(here: Path, edit: Callable[[Path], object]) -> None:
        shutil.copytree(killed, here / "out")
        edit(here / "out" / "checkpoint-3")

    found = list(damaged_files(bench, killed, "out", lambda path: path.parent.name == "checkpoint-3"))
    for name in ("../../precious", "../precious", "/etc", "checkpoint-2/../../x", ".", "", 7, [], "checkpoint-\u0663"):
        found.append((f"best_model_checkpoint {name!r}", partial(edited, edit=partial(damages.set_best, name=name))))
    for target in ("empty", "id_rsa", "nothing"):
        outside = bench.workplace.precious / target
        for name in ("checkpoint-4", ".writing-checkpoint-4", "checkpoint-99", ".lock", "all_results.json"):

            def link(folder: Path, name: str = name, outside: Path = outside) -> None:
                (folder.parent / name).unlink(missing_ok=True)
                (folder.parent / name).symlink_to(outside)

            found.append((f"{name} -> precious/{target}", partial(edited, edit=link)))
    for name, lay_out in found:
        run = lambda here: bench.train(here, "out", "--resume_from_checkpoint")  # noqa: E731
        allowed = frozenset({0, 1, 2}) if "->" in name else DONE_OR_REFUSED
        result = lambda here: outcome(here / "out")  # noqa: E731
        yield Attack("a checkpoint that is resumed", name, allowed, lay_out, run, result, bench.reference)


def run_folders(bench: Bench) -> Iterator[Attack]:
    """A finished run's folder that an evaluation writes into."""
    here = bench.folder / "evaluated into"
    shutil.copytree(bench.run, here / "out")
    assert bench.evaluate(here, here / "out") == 0
    expected = predictions(here)
    for name, lay_out in damaged_files(bench, bench.run, "out"):
        yield Attack(
            "a run's folder that is evaluated into",
            name,
            frozenset({0, 1, 2}) if name.endswith("a folder") else DONE_OR_REFUSED,
            lay_out,
            lambda here: bench.evaluate(here, here / "out"),
            predictions if name != damages.UNSEEN else (lambda _: expected),
            expected,
        )


def publications(bench: Bench) -> Iterator[Attack]:
    """A finished run's folder that is published."""

    def with_hub(here: Path, lay_out: Callable[[Path], None]) -> None:
        lay_out(here)
        bench.with_hub()

    def linked(here: Path, name: str) -> None:
        shutil.copytree(bench.run, here / "out")
        (here / "out" / name).unlink(missing_ok=True)
        (here / "out" / name).symlink_to(bench.workplace.precious / "id_rsa")

    found = list(damaged_files(bench, bench.run, "out"))
    for name in ("merges.txt", "hub_state.json", ".lock", ".writing-hub_state.json", "tradeoffs.json", "vocab.json"):
        found.append((f"{name} -> a private key", partial(linked, name=name)))
    for text in ('{"ann/distilbart-mnli-2-1": 7}', "[1]", "{", "\xff", '{"a": {}}', "[" * 100_000):

        def state(here: Path, text: str = text) -> None:
            shutil.copytree(bench.run, here / "out")
            (here / "out" / "hub_state.json").write_text(text, encoding="latin-1")

        found.append((f"hub_state.json: {text[:40]}", state))
    for title, change in {
        "a token": {"command": f"run_glue.py --hub_token {TOKEN}"},
        "escapes": {"command": damages.ESCAPES, "date": damages.ESCAPES},
        "HTML": {"date": "<script>alert(1)</script>", "hardware": "`x`\n# y"},
    }.items():

        def told(here: Path, change: dict[str, str] = change) -> None:
            shutil.copytree(bench.run, here / "out")
            run = json.loads((here / "out" / "trainer_state.json").read_text(encoding="utf-8")).get("run", {})
            edit_json(here / "out" / "trainer_state.json", run={**run, **change})

        found.append((f"trainer_state.json: {title}", told))
    for name, lay_out in found:
        yield Attack(
            "a run's folder that is published",
            name,
            frozenset({0, 1, 2, 3}),
            partial(with_hub, lay_out=lay_out),
            bench.publish,
            lambda here: "model.safetensors" in bench.hub.files(REPO),
            True,
            bench.wrong_on_the_hub if name != damages.UNSEEN else (lambda: None),
        )


def caches(bench: Bench) -> Iterator[Attack]:
    """The encoder cache, whole or half built, and the kept tokens of a training."""

    def run(here: Path) -> int:
        bench.patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(here / "tokens"))
        try:
            short = {
                "num_train_epochs": 1,
                "do_eval": False,
                "eval_strategy": "no",
                "save_strategy": "no",
                "warmup_steps": 0,
            }
            short |= {"load_best_model_at_end": False, "metric_for_best_model": None}
            return bench.train(
                here, "out", encoder_cache_dir=str(here / "cache"), cache_encoder_outputs="true", **short
            )
        finally:
            bench.patch.setattr(datasets.config, "HF_DATASETS_CACHE", kept)

    kept, first = datasets.config.HF_DATASETS_CACHE, bench.folder / "first"
    first.mkdir()
    assert run(first) == 0
    half = bench.folder / "half"
    for path in sorted(first.glob("cache/*")):
        if path.is_dir():
            partly = half / f"{path.name}.partial"
            shutil.copytree(path, partly)
            (partly / "meta.json").unlink()
            (partly / "done.bin").write_bytes(b"\1")  # all rows are one batch
    result = lambda here: digest(here / "out" / "model.safetensors")  # noqa: E731
    for kind, whole, place in (
        ("an encoder cache", first / "cache", "cache"),
        ("a half-built encoder cache", half, "cache"),
        ("kept tokens", first / "tokens", "tokens"),
    ):
        for name, lay_out in damaged_files(bench, whole, place):
            yield Attack(kind, name[-60:], DONE, lay_out, run, result, result(first))
    for name, lay_out in damaged_files(bench, first / "cache", "cache", lambda path: path.name == "meta.json"):
        for word in ("list", "prune"):
            listed = lambda here, word=word: command(encoder_cache.main, word, "--encoder_cache_dir", here / "cache")  # noqa: E731
            yield Attack("an encoder cache that is listed or pruned", f"{word}: {name[-60:]}", DONE, lay_out, listed)
