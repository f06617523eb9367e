"""`make attack`: files that are damaged or anybody's, a Hub that lies, command lines with slips; and what comes of it.

    python -m tests.support.attack                      # all of them, as a Markdown table: minutes
    python -m tests.support.attack --kind "checkpoint" --list
    for attack in all_attacks(Workplace(folder))[::20]: ...     # the short form: tests/end_to_end/test_attack.py

Each attack damages a copy of something whole, runs a command of the user's in this process, and is judged:

    an exit code that its kind allows        no traceback, one line at most after "error: "
    after code 0 the undamaged result        nothing changed outside the folder that the command may write
    an end within LIMIT seconds              no token, no password and no terminal escape in any byte of output
    on the Hub what was tested, or nothing

The kinds are in attack_files.py and attack_inputs.py, the damages and lies in attack_damages.py.
"""

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distilbart_mnli.command_line import VisibleFormatter
from tests.support.files import everything_in

LIMIT = 30  # seconds
TOKEN = "hf_plantedTokenOfTheAttacker0123456789"
PASSWORD = "plantedPassword"
SECRET = b"-----BEGIN OPENSSH PRIVATE KEY----- planted"


@dataclass(frozen=True)
class Attack:
    """One attack: made ready in a folder of its own, then a command."""

    kind: str
    name: str
    codes: frozenset[int]
    prepare: Callable[[Path], None]
    """Lays out the folder, damaged."""
    command: Callable[[Path], int]
    """Runs in the folder; returns the exit code."""
    result: Callable[[Path], Any] = lambda folder: None
    """What is there after code 0 ..."""
    expected: Any = None
    """... and must be."""
    published: Callable[[], str | None] = lambda: None
    """What is wrong with what is on the Hub."""


@dataclass
class Verdict:
    attack: Attack
    code: int | None = None
    seconds: float = 0.0
    line: str = ""
    faults: list[str] = field(default_factory=list)


class TooLong(BaseException):
    pass


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """TooLong, raised wherever the main thread is then."""

    def raise_it(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def output_of(path: Path) -> Iterator[None]:
    """Everything that this process and its children write, and its log, into a file."""
    root = logging.getLogger()
    with path.open("w", encoding="utf-8", errors="surrogateescape") as file:
        saved = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        handler = logging.StreamHandler(file)
        handler.setFormatter(VisibleFormatter())  # as the command's own (in_process.py leaves that out)
        root.addHandler(handler)
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            root.removeHandler(handler)
            file.flush()
            for number, original in zip((1, 2), saved, strict=True):
                os.dup2(original, number)
                os.close(original)


class Workplace:
    """A folder with what must not change beside what the attacks are made in."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.precious = folder / "precious"
        self.precious.mkdir(parents=True)
        (self.precious / "id_rsa").write_bytes(SECRET)
        (self.precious / "authorized_keys").write_text("ssh-ed25519 mine\n")
        (self.precious / "empty").mkdir()
        self.count = 0

    def judge(self, attack: Attack) -> Verdict:
        """Make the attack and say what is wrong with what came of it."""
        self.count += 1
        mine, output = self.folder / f"attack-{self.count}" / "here", self.folder / "output.txt"
        mine.mkdir(parents=True)
        attack.prepare(mine)
        verdict, started = Verdict(attack), time.monotonic()
        outside, beside = everything_in(self.precious), sorted(path.name for path in mine.parent.iterdir())
        try:
            with output_of(output), within(LIMIT):
                verdict.code = attack.command(mine)
        except TooLong:
            verdict.faults.append(f"not ended after {LIMIT} s")
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())[:150]
            verdict.faults.append(f"traceback: {type(error).__name__}: {text} ({Path(where.filename).name})")
        verdict.seconds = time.monotonic() - started
        self._read(verdict, output.read_bytes())
        if verdict.code is not None and verdict.code not in attack.codes:
            verdict.faults.append(f"exit code {verdict.code}")
        if everything_in(self.precious) != outside:
            verdict.faults.append("something outside was changed")
        if sorted(path.name for path in mine.parent.iterdir()) != beside:
            verdict.faults.append("something beside was made")
        if verdict.code == 0 and attack.result(mine) != attack.expected:
            verdict.faults.append("another result")
        if wrong := attack.published():
            verdict.faults.append(wrong)
        return verdict

    def _read(self, verdict: Verdict, output: bytes) -> None:
        text = output.decode("utf-8", "replace")
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        verdict.line = errors[-1].removeprefix("error: ") if errors else ""
        if verdict.code and len(errors) != 1:
            verdict.faults.append(f"{len(errors)} lines of error")
        if "Traceback (most recent call last)" in text:
            verdict.faults.append("a traceback in the output")
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x9b]", text):
            verdict.faults.append("a control character in the output")
        for secret in (TOKEN, PASSWORD, os.environ.get("HF_TOKEN") or TOKEN):
            if secret.encode() in output:
                verdict.faults.append("a token in the output")


def table(verdicts: list[Verdict]) -> str:
    """One row a kind: how many attacks, how they ended, what is wrong."""
    lines = ["| what is attacked | attacks | ended well | refused in a line (code 2) | other codes | held |"]
    lines.append("|---|---:|---:|---:|---|---:|")
    for kind in dict.fromkeys(verdict.attack.kind for verdict in verdicts):
        mine = [verdict for verdict in verdicts if verdict.attack.kind == kind]
        codes = Counter(verdict.code for verdict in mine)
        others = ", ".join(f"{code}: {codes[code]}" for code in sorted(codes, key=str) if code not in (0, 2))
        held = sum(not verdict.faults for verdict in mine)
        lines.append(f"| {kind} | {len(mine)} | {codes[0]} | {codes[2]} | {others or '-'} | {held} |")
    held = sum(not verdict.faults for verdict in verdicts)
    lines.append(f"| **all** | **{len(verdicts)}** | | | | **{held}** |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="", help="only this function of attack_files.py or attack_inputs.py")
    parser.add_argument("--name", default="", help="only attacks with this in their name")
    parser.add_argument("--verbose", action="store_true", help="a line for every attack")
    parser.add_argument("--output", type=Path, help="where the table goes as well")
    options = parser.parse_args()
    caches = tempfile.TemporaryDirectory(prefix="attack-caches-")
    # Before anything imports huggingface_hub or datasets, which read these once.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=f"{caches.name}/hf", XDG_CACHE_HOME=caches.name)
    from tests.support.attack_kinds import all_attacks

    started, verdicts = time.monotonic(), []
    with (
        caches,
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
        all_attacks(Path(folder), options.kind) as found,
    ):
        workplace, attacks = found
        for attack in attacks:
            if options.name in attack.name:
                verdict = workplace.judge(attack)
                verdicts.append(verdict)
                if verdict.faults or options.verbose:
                    what = "; ".join(verdict.faults) or "held"
                    said = f"{verdict.code} in {verdict.seconds:.1f} s: {verdict.line[:200]!r}"
                    print(f"{attack.kind} | {attack.name} | {what} | {said}", file=sys.stderr, flush=True)
    text = table(verdicts)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    broken = sum(bool(verdict.faults) for verdict in verdicts)
    print(f"{len(verdicts)} attacks, {broken} broke something; {time.monotonic() - started:.0f} s", file=sys.stderr)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
