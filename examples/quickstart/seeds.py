"""Does the quickstart come out alike on every machine? Seeds of data and weights, with both of torch's products.

    python -m examples.quickstart --seeds 10

A float32 product is summed in another order by MKL than by oneDNN (distilbart_mnli/model/kernels.py takes the one that
is faster on a processor), and a training that hangs on the last bit of a float ends elsewhere then. Here every seed
trains with each. The bounds:

    the teacher                         at least 95 % on both sets
    the copied one-layer student        at least 10 points below its teacher on both sets
    every fine-tuned student            within 2 points of its teacher on both sets, and right on the five texts
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from distilbart_mnli.errors import RunError
from distilbart_mnli.model import kernels
from examples.common import markdown
from examples.quickstart.story import LOG, STUDENTS, TEXTS, Scores, Stages, answers, train

PRODUCTS = {"oneDNN": True, "MKL": False}
COPIED = "student-2-1-copied"


@dataclass(frozen=True)
class Outcome:
    """What one training of the whole story gave."""

    product: str
    seed: int
    scores: Scores
    right: int  # answers, of all students on all texts
    seconds: float

    def faults(self) -> list[str]:
        """The bounds that do not hold."""
        found = []
        for number, name in enumerate(("matched", "mismatched")):
            teacher, copied = self.scores["teacher"][number], self.scores[COPIED][number]
            if teacher < 95:
                found.append(f"teacher {teacher:.1f} {name}")
            if copied > teacher - 10:
                found.append(f"{COPIED} {copied:.1f} {name}, its teacher {teacher:.1f}")
            for student in STUDENTS:
                if abs(self.scores[student][number] - teacher) > 2:
                    found.append(f"{student} {self.scores[student][number]:.1f} {name}, its teacher {teacher:.1f}")
        if self.right < len(STUDENTS) * len(TEXTS):
            found.append(f"{self.right} right answers of {len(STUDENTS) * len(TEXTS)}")
        return [f"{self.product}, seed {self.seed}: {fault}" for fault in found]

    def row(self) -> list[str]:
        texts = f"{self.right} of {len(STUDENTS) * len(TEXTS)}"
        return [self.product, str(self.seed), *map(pair, self.scores.values()), texts, f"{self.seconds:.0f}"]


def pair(scores: Sequence[float]) -> str:
    return f"{scores[0]:.1f} / {scores[1]:.1f}"


def outcome(folder: Path, product: str, seed: int) -> Outcome:
    """Train everything with one seed and one product."""
    folder.mkdir(parents=True)
    started = time.monotonic()
    with (folder / LOG).open("w", encoding="utf-8") as log:
        with patch.object(kernels, "mkl_lacks_avx512", lambda: PRODUCTS[product]):
            scores = train(Stages(folder, log, told=False), seed)
        given = [(text, topic) for name in STUDENTS for text, (topic, _) in answers(folder / name).items()]
    right = sum(TEXTS[text] == topic for text, topic in given)
    return Outcome(product, seed, scores, right, time.monotonic() - started)


def show(folder: Path, count: int) -> None:
    """One line a run, then the worst of all.

    Raises:
        RunError: a bound does not hold.
    """
    outcomes: list[Outcome] = []
    for seed in range(count):
        for product in PRODUCTS:
            outcomes.append(outcome(folder / "seeds" / f"{product}-{seed}", product, seed))
            if len(outcomes) == 1:
                head = ["product", "seed", *outcomes[0].scores, "texts", "seconds"]
                print(markdown(head, []), end="", flush=True)
            print(markdown(head, [outcomes[-1].row()]).splitlines()[-1], flush=True)
    worst = []
    for name in outcomes[0].scores:
        choose = max if name == COPIED else min
        worst.append(pair([choose(outcome.scores[name][number] for outcome in outcomes) for number in (0, 1)]))
    texts = min(outcome.right for outcome in outcomes)
    print(markdown(head, [["worst", "", *worst, f"{texts} of {len(STUDENTS) * len(TEXTS)}", ""]]).splitlines()[-1])
    faults = [fault for outcome in outcomes for fault in outcome.faults()]
    if faults:
        raise RunError(f"the bounds do not hold: {'; '.join(faults)}")
    print(f"\nthe bounds hold in all {len(outcomes)} runs")
