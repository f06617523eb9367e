"""For every test: no network, no cache of the user's, one thread; and what the second try of `make test` changed."""

import logging
import os
import tempfile
from collections.abc import Iterator

import pytest

# Before anything imports huggingface_hub, datasets or torch, which read these once. The processes that a test starts
# inherit them. Whoever speaks to the Hub of hub_server.py says so (Hub.environment, publishing.log_in).
CACHES = tempfile.TemporaryDirectory(prefix="caches-")
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=f"{CACHES.name}/hf", XDG_CACHE_HOME=CACHES.name)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.add_cleanup(CACHES.cleanup)


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """What a command sets for the logging of its process ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With --last-failed: the tests that failed before and passed now."""
    if config.getoption("lf", False):
        passed = [report.nodeid for report in terminalreporter.getreports("passed")]
        names = "".join(f"\n  {name}" for name in passed)
        terminalreporter.write_line(f"{len(passed)} of the tests that failed passed at the second try{names}")
