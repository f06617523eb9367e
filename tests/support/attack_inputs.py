"""Attacks over the wire and from the keyboard: a Hub that lies, command lines, files of options (attack.py)."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import constants

import compare_models
import create_student
from tests.support import attack_damages as damages
from tests.support.attack import PASSWORD, TOKEN, Attack
from tests.support.attack_bench import REPO, Bench, command
from tests.support.attack_damages import LIES, SPECIAL_LIES
from tests.support.hub_server import FOREVER
from tests.support.in_process import glue
from tests.support.publishing import read_from
from tests.support.training_runs import digest


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
    bench.with_hub()
    read_from(bench.patch, bench.hub, whole)
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
