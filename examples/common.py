"""What the examples share: the repository's command lines one after another, without those whose output is whole."""

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from distilbart_mnli.errors import CommandError, RunError

ROOT = Path(__file__).resolve().parent.parent


def shown(path: Path | str) -> str:
    """A path as the commands get it: they run in the repository's folder."""
    path = Path(path).resolve()
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


def execute(words: Sequence[str]) -> int:
    """Run `python WORDS` in a process of its own; returns its exit code, 128 + n if signal n killed it.

    A signal to this process is passed on once, so that a training can write its checkpoint before it ends.
    """
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, start_new_session=True)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda received, _: process.send_signal(received)) for number in numbers]
    try:
        code = process.wait()
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


class Steps:
    """Runs command lines, each printed before; counts those that were done and those that were whole already."""

    def __init__(self) -> None:
        self.done = self.skipped = 0

    def run(self, *words: object, whole: bool = False, label: str = "") -> None:
        """Run `python WORDS` unless its output is whole.

        Raises:
            CommandError: it failed; with its exit code.
        """
        line = f"python {shlex.join(map(str, words))}"
        print(f"\n# done already: {line}" if whole else f"\n{label}$ {line}", flush=True)
        if whole:
            self.skipped += 1
        elif code := execute([str(word) for word in words]):
            raise CommandError(f"exit code {code} from: {line}; run this again", code)
        else:
            self.done += 1


def filled_in(words: Sequence[str], teacher: str, data_dir: Path, output_dir: Path) -> list[str]:
    """`words` with folders in place of $TEACHER (a Hub id stays one), $DATA_DIR and $OUTPUT_DIR."""
    values = {
        "$TEACHER": shown(teacher) if Path(teacher).is_dir() else teacher,
        "$DATA_DIR": shown(data_dir),
        "$OUTPUT_DIR": shown(output_dir),
    }
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return list(words)


def answer(commands: Sequence[Sequence[str]], dry_run: bool, table: Path, text: Callable[[], str]) -> None:
    """Run commands, "python" and its words each, one after another, and write a table of what they gave.

    Args:
        dry_run: print the commands instead, one a line, and write nothing.
        text: the table's, once all have run.

    Raises:
        RunError: one of them failed, with code 1; with its own code where a signal stopped it.
    """
    if dry_run:
        print("".join(f"{shlex.join(words)}\n" for words in commands), end="")
        return
    steps = Steps()
    try:
        for number, (_, *words) in enumerate(commands, start=1):
            steps.run(*words, label=f"[{number}/{len(commands)}] ")
    except CommandError as error:
        raise RunError(str(error), error.exit_code if error.exit_code > 128 else None) from None
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(text(), encoding="utf-8")
    print(f"the table is in {table}")


def spread(values: Sequence[float], digits: int) -> str:
    """ "71.6" of one value, "71.6 (71.2..71.9)" of several: mean, lowest and highest."""
    mean, *ends = (f"{value:.{digits}f}" for value in (statistics.fmean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({'..'.join(ends)})"


def read_json(path: Path) -> dict[str, Any]:
    """A file's object; empty where there is none, or none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def results(folder: Path, *needed: str) -> dict[str, Any]:
    """all_results.json of a run; empty where one of the needed keys is missing: the run is not whole."""
    values = read_json(folder / "all_results.json")
    return values if values.keys() >= set(needed) else {}


def is_model(folder: Path) -> bool:
    """Whether a model stands in `folder`. The scripts that make one rename it into place when it is whole."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with a line's end after its last row."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
