"""SIGTERM, SIGINT and SIGUSR1 ask a training to stop after its optimizer step, with a checkpoint.

    with StopSignals() as signals:
        ...                                 # a step
        if max_over_ranks(signals.received):     # of any process
            ...                             # save, and end with 128 + the number

Outside a training they do what they do to any program.
"""

import os
import signal
import threading
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignals:
    """While active, SIGTERM, SIGINT and SIGUSR1 ask for a stop after the optimizer step; a second SIGINT is obeyed."""

    def __init__(self) -> None:
        self.received = 0
        """The first signal's number; 0: none yet."""
        self._interrupts = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            # The TPU launcher runs each device in a thread, where Python allows no handlers: a signal ends the run.
            return self
        for number in STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            # os.write: the handler may run inside a print.
            os.write(2, b"interrupted twice: stopped at once, without a checkpoint\n")
            os._exit(128 + number)
        self.received = self.received or number
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: stopping after this optimizer step, with a checkpoint\n".encode())
