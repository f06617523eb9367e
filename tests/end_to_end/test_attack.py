"""The short form of `make attack`: of every kind one attack in forty; and that its judge sees what is wrong."""

import os
import sys
import time

import pytest

from tests.support import attack
from tests.support.attack import SECRET, TOKEN, Attack, Workplace, table
from tests.support.attack_kinds import KINDS, all_attacks


def test_one_attack_in_forty_breaks_nothing(tmp_path):
    with all_attacks(tmp_path) as (workplace, attacks):
        verdicts = [workplace.judge(one) for number, one in enumerate(attacks) if number % 40 == 7]
    broken = [f"{verdict.attack.name}: {verdict.faults} {verdict.line}" for verdict in verdicts if verdict.faults]
    assert not broken
    assert len({verdict.attack.kind for verdict in verdicts}) >= len(KINDS)
    assert str(len(verdicts)) in table(verdicts)


def fault(*_: object) -> int:
    raise KeyError("a fault of ours")


def say(text: str, code: int = 2):
    def command(_: object) -> int:
        os.write(2, text.encode())
        return code

    return command


def write(name: str):
    def command(here) -> int:
        (here / name).write_text("x")
        return 0

    return command


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        (fault, "traceback: KeyError"),
        (say("error: one\n", 1), "exit code 1"),
        (say(""), "0 lines"),
        (say("error: one\nerror: two\n"), "2 lines"),
        (say("error: \x1b[2J\n"), "control character"),
        (say(f"error: {TOKEN}\n"), "token"),
        (say("error: x\nTraceback (most recent call last):\n"), "traceback in the output"),
        (write("../../precious/id_rsa"), "outside"),
        (write("../beside"), "beside"),
        (write("wrong result"), "another result"),
        (lambda _: time.sleep(30) or 0, "not ended"),
    ],
)
def test_the_judge_sees(tmp_path, monkeypatch, command, seen):
    monkeypatch.setattr(attack, "LIMIT", 1)
    made = Attack(
        "kind", "name", frozenset({0, 2}), lambda here: None, command, lambda here: any(here.iterdir()), False
    )
    workplace = Workplace(tmp_path / "place")
    assert any(seen in found for found in workplace.judge(made).faults)
    good = Attack("kind", "name", frozenset({0, 2}), lambda here: None, say("error: one\n"))
    (workplace.precious / "id_rsa").write_bytes(SECRET)
    assert not workplace.judge(good).faults and sys.stderr.writable()
