"""All attacks, kind by kind."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from distilbart_mnli.publish import card as product_card
from tests.support.attack import Attack, Workplace, output_of
from tests.support.attack_bench import Bench
from tests.support.attack_files import caches, checkpoints, publications, run_folders, students, teachers
from tests.support.attack_inputs import command_lines, hubs
from tests.support.hub_server import Hub
from tests.support.publishing import shorten_waits
from tests.support.training_runs import digest

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
        with output_of(folder / "making.txt"):  # what their making prints is nobody's
            bench = Bench(workplace, hub, patch)

        def attacks() -> Iterator[Attack]:
            for of_a_kind in KINDS:
                made = of_a_kind(bench)
                while kind in of_a_kind.__name__:
                    with output_of(folder / "making.txt"):
                        attack = next(made, None)
                    if attack is None:
                        break
                    yield attack

        yield workplace, attacks()
