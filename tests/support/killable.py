"""run_glue.py in one or more processes, all of which can be killed at once, or asked to end."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

LONGEST = 600.0
"""Seconds that a run may take."""


class Run:
    """run_glue.py in one or more processes, all of which can be killed at once."""

    def __init__(self, words: list[str], variables: dict[str, str], log: Path, launched: bool):
        self.mark, self.log, self.launched = uuid.uuid4().hex, log, launched
        with log.open("w") as file:
            self.process = subprocess.Popen(
                words,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**variables, "STRESS_RUN": self.mark},
                start_new_session=True,
            )

    def _all(self) -> list[int]:
        """Processes of this run; the launcher's workers have the mark in their environment as well."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def kill(self) -> None:
        """SIGKILL to the process group and to whatever left it; returns when all of them are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        while others := self._all():
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            self.process.poll()
        self.process.wait()

    def ask(self, number: int) -> None:
        """Ask the run to end, and wait for it: the exit code must say what it was asked by."""
        self.process.send_signal(number)
        code = self.process.wait(LONGEST)
        if code not in (0, 128 + number, -number) and (not self.launched or code != 1):
            raise SystemExit(f"exit code {code} after signal {number}:\n{self.text}")

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")
