"""Experiment trackers (`report_to`): accelerate's, kept from ever stopping a training.

A tracker talks to a disk, a daemon or a server of somebody else's, and may raise anything. What it raises becomes one
warning, the tracker is left out from then on, and the training goes on. Only the first process reports.

    tensorboard    output_dir/runs
    wandb          the current folder, or WANDB_DIR; project WANDB_PROJECT, else distilbart-mnli; offline: WANDB_MODE
    trackio        trackio's folder in the Hub's cache, or TRACKIO_DIR; project TRACKIO_PROJECT, else distilbart-mnli
"""

import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate import tracking

from distilbart_mnli.errors import InputError
from distilbart_mnli.files import path_inside
from distilbart_mnli.public_text import without_token_option

logger = logging.getLogger(__name__)

PROJECT = "distilbart-mnli"
CLASSES: dict[str, Any] = {
    "tensorboard": tracking.TensorBoardTracker,
    "wandb": tracking.WandBTracker,
    "trackio": tracking.TrackioTracker,
}


def check_installed(names: list[str] | None) -> None:
    """Raises InputError if a tracker that is asked for is not installed."""
    for name in names or []:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"report_to {name}: not installed; pip install -r requirements-trackers.txt")


@contextlib.contextmanager
def argv_without_token() -> Iterator[None]:
    """Inside, sys.argv has no --hub_token: wandb writes the command line into the run's files."""
    argv = sys.argv
    sys.argv = without_token_option(argv)
    try:
        yield
    finally:
        sys.argv = argv


class Trackers:
    """All trackers of a run; the same calls on every process, with effect on the first.

    Args:
        names: report_to.
        run_name: the run's name.
        config: hyper-parameters; lists, objects and None are written as text (TensorBoard takes nothing else).
        enabled: false on all processes but the first.
    """

    def __init__(
        self, names: list[str] | None, run_name: str, output_dir: Path, config: dict[str, Any], enabled: bool
    ):
        self._open: dict[str, Any] = {}
        self.urls: dict[str, str] = {}
        if not enabled:
            return
        plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in config.items()}
        for name in names or []:
            with self._guard(name), argv_without_token():
                # accelerate calls `run_name` what TensorBoard takes for the run, and the two others for the project.
                if name == "tensorboard":
                    runs = path_inside(output_dir, "runs")
                    path_inside(runs, run_name)
                    tracker = CLASSES[name](run_name, logging_dir=runs)
                else:
                    tracker = CLASSES[name](os.environ.get(f"{name.upper()}_PROJECT", PROJECT), name=run_name)
                # accelerate constructs a tracker and starts it in two steps where it can.
                if hasattr(tracker, "start"):
                    tracker.start()
                tracker.store_init_configuration(plain)
                self._open[name] = tracker
                url = getattr(tracker.tracker, "url", None)
                if isinstance(url, str) and url.startswith("https://"):
                    self.urls[name] = url

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send the numbers among `values`; `step` is their place, not one of them."""
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float) and k != "step"}
        for name, tracker in list(self._open.items()):
            with self._guard(name):
                tracker.log(numbers, step=step)

    def finish(self) -> None:
        """Close them all."""
        for name, tracker in list(self._open.items()):
            with self._guard(name):
                tracker.finish()
        self._open = {}

    @contextlib.contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a tracker raises, the training is worth more
            logger.warning("tracker %s: %s: %s; the run goes on without it", name, type(error).__name__, error)
            self._open.pop(name, None)
