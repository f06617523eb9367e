"""What is attacked, and with which command: one function a kind, each a generator of attacks (attack.py)."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

import compare_models
import create_student
from distilbart_mnli.errors import run_command
from distilbart_mnli.model import encoder_cache
from distilbart_mnli.publish import card as product_card
from tests.support import attack_damages as damages
from tests.support.attack import PASSWORD, SECRET, TOKEN, Attack, Workplace
from tests.support.attack_damages import DAMAGES, LIES, SPECIAL_LIES
from tests.support.files import edit_config, edit_json
from tests.support.hub_server import FOREVER, Hub
from tests.support.in_process import as_in_a_new_process, glue
from tests.support.publishing import log_in, shorten_waits
from tests.support.training_runs import Workshop, digest, only_checkpoint, outcome

REPO = "ann/distilbart-mnli-2-1"
DONE_OR_REFUSED, DONE = frozenset({0, 2}), frozenset({0})


def command(main: Callable[[], None], *words: object) -> int:
    """One of the small scripts, with this command line."""
    with as_in_a_new_process("script.py", *words):
        return run_command(main)


class Bench:
    """What every kind starts from: whole folders to copy, and a Hub."""

    def __init__(self, workplace: Workplace, hub: Hub, patch: pytest.MonkeyPatch):
        self.workplace, self.hub, self.patch = workplace, hub, patch
        self.folder = workplace.folder / "whole"
        self.shop = Workshop(self.folder, train=16, decoder_layers=1)
        damages.card(self.folder / "student", "license: mit\nlanguage: en")
        self.token = hub.add_user("ann")
        self.run = self.folder / "run"
        assert self.train(self.folder, "run") == 0
        self.reference = outcome(self.run)
        self.checkpoints = self.run.rename(self.folder / "with checkpoints")
        self.run.mkdir()
        for path in self.checkpoints.iterdir():
            if path.is_file():
                shutil.copy(path, self.run)

    def options(self, here: Path, output_dir: str = "out", **changes: Any) -> dict[str, Any]:
        """Of a training of 4 steps with 4 checkpoints, the best one kept."""
        changes = {"num_train_epochs": 2, "load_best_model_at_end": True, "eval_steps": 1, **changes}
        changes = {"metric_for_best_model": "accuracy", "dataloader_num_workers": 0, "use_cpu": True, **changes}
        return self.shop.options(here / output_dir, **changes)

    def train(self, here: Path, output_dir: str = "out", *flags: object, **changes: Any) -> int:
        path = here / "args.json"
        path.write_text(json.dumps(self.options(here, output_dir, **changes)), encoding="utf-8")
        return glue(path, *flags)

    def evaluate(self, here: Path, model: Path | None = None) -> int:
        words = {"model_name_or_path": model or self.folder / "student", "task_name": "MNLI"}
        words |= {"data_dir": self.folder / "data", "output_dir": here / "out", "max_seq_length": 64}
        flags = [word for name, value in words.items() for word in (f"--{name}", value)]
        return glue(*flags, "--do_eval", "--use_cpu", "--disable_tqdm")

    def publish(self, here: Path) -> int:
        return glue("--push_to_hub", "--hub_model_id", REPO, "--output_dir", here / "out")

    def student_of(self, here: Path, teacher: object) -> int:
        words = ("--teacher_model_name_or_path", teacher, "--save_path", here / "new", "--student_encoder_layers", 1)
        return command(create_student.main, *words)

    def with_hub(self) -> None:
        """A Hub as it was at first, that this process is logged in to; of ann's is there a teacher."""
        self.hub.faults.clear()
        self.hub.repos.clear()
        self.hub.objects.clear()
        self.hub.requests.clear()
        self.hub.add_repo("ann/teacher", self.folder / "student")
        log_in(self.patch, self.hub, self.token, xet=False)

    def wrong_on_the_hub(self) -> str | None:
        """What is there is the trained model, or nothing."""
        if ("model", REPO) not in self.hub.repos:
            return None
        there = self.hub.files(REPO)
        weights = there.get("model.safetensors")
        if weights is not None and hashlib.sha256(weights).hexdigest() != self.reference["weights"]:
            return "other weights were published"
        if any(SECRET in content or TOKEN.encode() in content for content in there.values()):
            return "a secret was published"
        return None


def damaged_files(
    bench: Bench, whole: Path, place: str, only: Callable[[Path], bool] = lambda path: True
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(name, how to lay out HERE/`place` as a copy of `whole` with one file damaged), for every file and damage."""

    def lay_out(here: Path, name: Path, how: str) -> None:
        shutil.copytree(whole, here / place)
        DAMAGES[how](here / place / name, bench.workplace.precious)

    for path in sorted(path for path in whole.rglob("*") if path.is_file() and only(path)):
        name = path.relative_to(whole)
        for how in DAMAGES:
            yield f"{name}: {how}", partial(lay_out, name=name, how=how)


def predictions(here: Path) -> str:
    return digest(here / "out" / "eval_predictions_mnli.tsv")


# ---------------------------------------------------------------------------------------------------------------------
# Kinds


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
    here.mkdir()
    assert bench.evaluate(here) == 0
    for name, lay_out in damaged_files(bench, bench.run, "out"):
        yield Attack(
            "a run's folder that is evaluated into",
            name,
            frozenset({0, 1, 2}) if name.endswith("a folder") else DONE_OR_REFUSED,
            lay_out,
            bench.evaluate,
            predictions,
            predictions(here),
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
            return bench.train(here, "out", encoder_cache_dir=str(here / "cache"))
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
            (partly / "done.bin").write_bytes(b"\1" * 64)
    result = lambda here: outcome(here / "out")  # noqa: E731
    for kind, whole, place in (
        ("an encoder cache", first / "cache", "cache"),
        ("a half-built encoder cache", half, "cache"),
        ("kept tokens", first / "tokens", "tokens"),
    ):
        for name, lay_out in damaged_files(bench, whole, place):
            yield Attack(kind, name[-60:], DONE, lay_out, run, result, bench.reference)
    for name, lay_out in damaged_files(bench, first / "cache", "cache", lambda path: path.name == "meta.json"):
        for word in ("list", "prune"):
            listed = lambda here, word=word: command(encoder_cache.main, word, "--encoder_cache_dir", here / "cache")  # noqa: E731
            yield Attack("an encoder cache that is listed or pruned", f"{word}: {name[-60:]}", DONE, lay_out, listed)


def hubs(bench: Bench) -> Iterator[Attack]:
    """Every request of a publication and of a download, answered by every lie."""
    whole = bench.folder / "asked"
    whole.mkdir()
    shutil.copytree(bench.run, whole / "out")
    bench.with_hub()
    assert bench.publish(whole) == 0
    asked = dict.fromkeys(request.split()[1] for request in bench.hub.requests)

    def lay_out(here: Path, endpoint: str, lie: Any, times: int) -> None:
        shutil.copytree(bench.run, here / "out")
        bench.with_hub()
        bench.patch.setattr(constants, "HF_HUB_CACHE", str(here / "hub"))
        bench.hub.fault(endpoint, lie=lie, times=times)

    once = {name: LIES[name] for name in ("nothing", "{}", "null", "another shape", "a captive portal's page")}
    for times, often in ((FOREVER, ""), (1, ", once")):
        for endpoint in asked:
            lies = {
                **(LIES if times > 1 else once),
                **{name: lie for (of, name), lie in SPECIAL_LIES.items() if of == endpoint},
            }
            for name, lie in lies.items():
                yield Attack(
                    "a Hub that is published to",
                    f"{endpoint}: {name}{often}",
                    frozenset({0, 3}),
                    partial(lay_out, endpoint=endpoint, lie=lie, times=times),
                    bench.publish,
                    lambda here: "model.safetensors" in bench.hub.files(REPO),
                    True,
                    bench.wrong_on_the_hub,
                )
    bench.patch.setattr(constants, "ENDPOINT", bench.hub.url)
    bench.patch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", bench.hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    bench.with_hub()
    bench.patch.setattr(constants, "HF_HUB_CACHE", str(whole / "hub"))
    assert bench.student_of(whole, "ann/teacher") == 0
    expected = digest(whole / "new" / "model.safetensors")
    for endpoint in dict.fromkeys(request.split()[1] for request in bench.hub.requests):
        for name, lie in LIES.items():
            yield Attack(
                "a Hub that a teacher is read from",
                f"{endpoint}: {name}",
                frozenset({0, 2, 3}),
                partial(lay_out, endpoint=endpoint, lie=lie, times=FOREVER),
                lambda here: bench.student_of(here, "ann/teacher"),
                lambda here: digest(here / "new" / "model.safetensors"),
                expected,
            )


def command_lines(bench: Bench) -> Iterator[Attack]:
    """Slips and hostile texts in command lines, in files of options and in the environment."""
    kind, wrong = "a command line or a file of options", frozenset({2, 3})

    def nothing(here: Path) -> None:
        pass

    def training(here: Path, *words: object) -> int:
        return bench.train(here, "out", *words)

    for words in (
        ("--seed", TOKEN),
        (TOKEN,),
        (f"--{TOKEN}",),
        ("--hub_tokn", TOKEN),
        ("--hub_token", TOKEN, "--seed", "x"),
        (f"--learning_rate={TOKEN}",),
        ("--task_name", TOKEN),
        ("--model_name_or_path", f"https://ann:{PASSWORD}@hub.example/ann/x"),
        ("--data_dir", f"s3://ann:{PASSWORD}@bucket/x"),
        ("--hub_model_id", f"https://ann:{PASSWORD}@hub/x", "--push_to_hub"),
        ("--data_dir", damages.ESCAPES),
        ("--model_name_or_path", damages.ESCAPES),
        (damages.ESCAPES,),
        ("--task_name", "MNLI\x1b[2J"),
        ("--output_dir", "a\0b"),
        ("--output_dir", "x" * 5000),
        ("--model_name_or_path", "x\0y"),
        ("--seed", "9" * 5000),
        ("--learning_rate", "nan"),
        ("--resume_from_checkpoint", "../../precious"),
    ):
        title = " ".join(str(word) for word in words).encode("unicode_escape").decode()[:60]
        yield Attack(kind, f"run_glue {title}", wrong, nothing, lambda here, words=words: training(here, *words))
    for text in (
        f"{damages.LAUGHS}\nseed: 1",
        f"{damages.LAUGHS}\nseed: *a11",
        "seed: &a [*a]",
        "a: " + "[" * 100_000,
        "seed: !!python/object/apply:os.system ['touch owned']",
        "seed: 2020-01-01",
        "? [1]\n: 2",
        f"seed: {TOKEN}",
        f'seed: "{TOKEN}\\e[2J"',
        "{",
        "\x1b[2J: 1",
        "- 1",
        "\xff\xfe",
        "task_name: MNLI\ntask_name: CoLA",
    ):
        for suffix in ("yaml", "json"):

            def written(here: Path, text: str = text, suffix: str = suffix) -> None:
                (here / f"args.{suffix}").write_text(text, encoding="latin-1")

            run = lambda here, suffix=suffix: glue(here / f"args.{suffix}", "--output_dir", here / "out")  # noqa: E731
            yield Attack(kind, f"args.{suffix}: {text[:40]!r}", wrong, written, run)
    for words in (
        ("--save_path", TOKEN, TOKEN),
        ("--teacher_revision", TOKEN, "x"),
        ("--student_encoder_layers", TOKEN),
    ):
        run = lambda here, words=words: command(create_student.main, *words)  # noqa: E731
        yield Attack(kind, f"create_student {words[0]}", wrong, nothing, run)
    run = lambda here: command(compare_models.main, TOKEN, f"https://ann:{PASSWORD}@x/y", damages.ESCAPES)  # noqa: E731
    yield Attack(kind, "compare_models with a token", wrong, nothing, run)

    def endpoint(here: Path) -> None:
        shutil.copytree(bench.run, here / "out")
        bench.with_hub()
        bench.patch.setenv("HF_ENDPOINT", f"http://ann:{PASSWORD}@127.0.0.1:9")

    yield Attack(kind, "a password in HF_ENDPOINT", wrong, endpoint, bench.publish)


KINDS = (students, teachers, checkpoints, run_folders, publications, caches, hubs, command_lines)


@contextlib.contextmanager
def all_attacks(folder: Path, kind: str = "") -> Iterator[tuple[Workplace, Iterator[Attack]]]:
    """The place, and the attacks whose kind has `kind` in its name. Waits run at fifty times their speed."""
    drawn: dict[str, bytes] = {}
    plot = product_card.plot_training_curves

    def plot_once(folder: Path) -> Path | None:
        """Drawing takes longer than most attacks, and nearly all of it is of one log."""
        state = folder / "trainer_state.json"
        log = digest(state) if state.is_file() else ""
        if log not in drawn:
            path = plot(folder)
            if path is not None:
                drawn[log] = path.read_bytes()
            return path
        (folder / "training_curves.png").write_bytes(drawn[log])
        return folder / "training_curves.png"

    with Hub(folder / "hub") as hub, pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        patch.setattr(product_card, "plot_training_curves", plot_once)
        workplace = Workplace(folder / "place")
        with open_output(folder):
            bench = Bench(workplace, hub, patch)

        def attacks() -> Iterator[Attack]:
            for of_a_kind in KINDS:
                if kind in of_a_kind.__name__ or not kind:
                    yield from of_a_kind(bench)

        yield workplace, attacks()


def open_output(folder: Path) -> contextlib.AbstractContextManager:
    """What the making of the whole folders prints is nobody's."""
    from tests.support.attack import output_of

    return output_of(folder / "making.txt")
