"""Results on the disk: the scores of the texts that are done, kept beside the output, and the output, written whole.

    part = PartFile.open(output, digest, labels=4, texts_at_once=256, total=100_000)
    part.done                       # texts that an earlier run has scored
    part.append(scores)             # of the next ones
    write_results(output, form, texts, part)

The part's name has the digest of all that decides a score, so a run with another model, other labels or other texts
finds none and starts anew. It holds a JSON list of scores a line; whatever a kill left behind the last whole group of
texts is cut off, so that the texts are grouped, and their scores rounded, as in a run that was never stopped.
"""

import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilbart_mnli.errors import cannot_write
from distilbart_mnli.files import atomic_file

NONE_OF_THESE = "none of these"
TABLES = {".csv": ",", ".tsv": "\t"}
ENDINGS = (".jsonl", ".ndjson", *TABLES)


def rounded(scores: Iterable[float]) -> list[float]:
    """Scores as they are kept and shown: seven digits."""
    return [float(f"{score:.7g}") for score in scores]


@dataclass(frozen=True)
class Form:
    """Which labels of a text are shown."""

    labels: list[str]
    threshold: float = 0.0
    """Labels with a lower score are left out; where none is left, the answer is NONE_OF_THESE."""
    top_k: int | None = None
    """At most so many, the best; None: all of them, in a table one."""

    def row(self, number: int, text: str, scores: Sequence[float]) -> dict[str, Any]:
        """line, sequence, label, and the labels and scores that are shown, the best first."""
        order = np.argsort(scores)[::-1][: self.top_k]
        kept = [place for place in order if scores[place] >= self.threshold]
        return {
            "line": number,
            "sequence": text,
            "label": self.labels[kept[0]] if kept else NONE_OF_THESE,
            "labels": [self.labels[place] for place in kept],
            "scores": [scores[place] for place in kept],
        }


class PartFile:
    """The scores of the first texts."""

    def __init__(self, path: Path, done: int):
        self.path, self.done = path, done

    @staticmethod
    def open(output: Path, digest: str, labels: int, texts_at_once: int, total: int) -> "PartFile":
        """The part of an earlier run with this digest, as far as it is whole, or an empty one.

        Raises:
            InputError: it may not be written. RunError: another error of the disk.
        """
        path = output.with_name(f"{output.name}.{digest[:12]}.part")
        done = whole = end = 0
        with _disk_errors(path):
            output.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file:
                for number, line in enumerate(itertools.islice(file, total), start=1):
                    if len(_read_scores(line)) != labels:
                        break
                    end += len(line)
                    if number % texts_at_once == 0 or number == total:
                        done, whole = number, end
                file.truncate(whole)
        return PartFile(path, done)

    def append(self, scores: np.ndarray) -> None:
        """Keep the scores [texts, labels] of the next texts, on the disk when this returns."""
        lines = "".join(json.dumps(rounded(row)) + "\n" for row in scores)
        with _disk_errors(self.path), self.path.open("ab") as file:
            file.write(lines.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        self.done += len(scores)

    def __iter__(self) -> Iterator[list[float]]:
        with self.path.open("rb") as file:
            yield from map(_read_scores, file)


def _read_scores(line: bytes) -> list[float]:
    """The scores of a line; none where it is not whole, or damaged."""
    try:
        scores = json.loads(line) if line.endswith(b"\n") else []
    except ValueError:
        return []
    is_list = isinstance(scores, list) and all(isinstance(score, float) and 0 <= score <= 1 for score in scores)
    return scores if is_list else []


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(f"{path} could not be written", error, "give another --output") from None


def write_results(
    output: Path, form: Form, texts: Iterable[tuple[int, str]], scores: Iterable[Sequence[float]]
) -> None:
    """The output file, whole or not at all: .jsonl, .csv or .tsv.

    Raises:
        RunError: no space left, or another error of the disk.
    """
    rows = (form.row(number, text, row) for (number, text), row in zip(texts, scores, strict=True))
    with (
        atomic_file(output, "the scores are kept") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        if output.suffix.lower() not in TABLES:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        count = min(form.top_k or 1, len(form.labels))
        table = csv.writer(file, delimiter=TABLES[output.suffix.lower()], lineterminator="\n")
        numbered = [f"_{place}" if place > 1 else "" for place in range(1, count + 1)]
        table.writerow(["line", "text", *(name + number for number in numbered for name in ("label", "score"))])
        for row in rows:
            best = list(zip(row["labels"], row["scores"], strict=True))[:count] or [(NONE_OF_THESE, "")]
            best += [("", "")] * (count - len(best))
            table.writerow([row["line"], row["sequence"], *(field for pair in best for field in pair)])
