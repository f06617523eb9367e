"""SIGTERM, SIGINT, SIGHUP and SIGUSR1 ask a run to stop soon, and in order.

    with StopSignals(device.agree_steps) as signals:
        ...                                 # a micro-batch, a batch of an evaluation
        signals.check()                     # raises StopRequested on all processes, if any was signalled

Where nothing asks, they do what they do to any program.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from distilbart_mnli.errors import StoppedBySignal
from distilbart_mnli.processes import max_over_ranks, raise_on_all_ranks

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class StopRequested(Exception):
    """A process of this run was sent the signal `number`; raised on all of them at the same place."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class StopSignals:
    """While open, stop signals wait for the next check; a second SIGINT is obeyed at once.

    Args:
        every: in every which round the processes ask each other.
    """

    def __init__(self, every: int = 1) -> None:
        self.received = 0
        """The first signal's number; 0: none yet."""
        self.every = every
        self._interrupts = 0
        self._before: dict[int, Any] = {}

    def check(self, number: int = 0) -> None:
        """Stop here if any process was signalled; all agree, without the device. All processes must call it.

        Args:
            number: of the round, the same on all processes.

        Raises:
            StopRequested: on all processes.
        """
        if number % self.every == 0 and (found := max_over_ranks(self.received)):
            raise StopRequested(found)

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            # The TPU launcher runs each device in a thread, where Python allows no handlers: a signal ends the run.
            return self
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup: the run is to outlive its terminal
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        self._interrupts += number == signal.SIGINT
        # os.write: the handler may run inside a print.
        if self._interrupts > 1:
            os.write(2, b"interrupted twice: stopped at once, without a checkpoint\n")
            os._exit(128 + number)
        self.received = self.received or number
        try:
            os.write(2, f"\n{signal.Signals(number).name}: stopping after this batch\n".encode())
        except OSError:  # the terminal is gone (SIGHUP), and whatever writes to it next must not end in that
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(nowhere, stream)


@contextlib.contextmanager
def stopping(what: str, again: str, every: int, is_main: bool) -> Iterator[StopSignals]:
    """A part of a run that a signal ends without a checkpoint.

    Args:
        what: is stopped, for the message.
        again: the command that does it again.

    Raises:
        StoppedBySignal: on all processes, with its message on the first.
    """
    with StopSignals(every) as signals:
        try:
            yield signals
        except StopRequested as stop:
            line = f"stopped by {signal.Signals(stop.number).name} in {what}; again with: {again}"
            raise_on_all_ranks(StoppedBySignal(line, stop.number) if is_main else None)
