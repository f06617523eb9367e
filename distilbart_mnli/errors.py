"""The four ways in which a command of this repository ends other than well, and the exit code of each.

    0  done
    1  the run failed: disk, memory, a loss that is not finite
    2  bad input, or a path that cannot be used
    3  the Hub refused, preflight included
    128 + n  stopped by signal n; a training has written a checkpoint then

A message is one line: what is wrong, where, what was expected, what to do; no control character of a file and no
token is in it. A user never sees a traceback for their own mistake; an exception of any other class is a fault of ours
and keeps its traceback.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import NoReturn, TextIO

from distilbart_mnli.public_text import shown_lines, visible, without_tokens

OLDEST_PYTHON = (3, 11)
# What the system says of a path, and not of a disk.
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


class CommandError(Exception):
    """Ends the command with one line on stderr and `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, exit_code: int | None = None):
        super().__init__(visible(without_tokens(" ".join(str(message).split()))))
        if exit_code is not None:
            self.exit_code = exit_code


class RunError(CommandError):
    """The run failed although the input was good: no space left, out of memory, a non-finite loss."""

    exit_code = 1


class InputError(CommandError):
    """Something the user gave cannot be used: an argument, a file, a row, a model, a folder."""

    exit_code = 2


class HubError(CommandError):
    """The Hub refused, or could not be reached, and the retries are spent."""

    exit_code = 3


def cannot_write(message: str, error: OSError, otherwise: str) -> CommandError:
    """A file that could not be written: an InputError where nobody may write there, a RunError for a full disk.

    Args:
        otherwise: what else the user can do about it, such as "name another folder in HF_HOME".
    """
    unusable = error.errno in UNUSABLE
    advice = "make it a folder that this user may write to" if unusable else "free some space"
    return (InputError if unusable else RunError)(f"{message}: {error.strerror or error}; {advice}, or {otherwise}")


class StoppedBySignal(CommandError):
    """A signal asked the run to stop; its checkpoint is written. The exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message, 128 + signal_number)


def run_command(main: Callable[[], None]) -> int:
    """Run `main` and return the exit code of the process; a CommandError becomes one line on stderr.

    An interrupt outside a training (inside one it is handled, see train/loop.py) ends with 130, as a shell expects.
    What a stream cannot write (a name with accents, to an ASCII terminal) is escaped there.
    """
    if os.name == "nt":
        print("error: this needs Linux or macOS (file locks, signals); on Windows use WSL 2", file=sys.stderr)
        return InputError.exit_code
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not pytest's
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _show_fault
    with _signals_are_exceptions():
        try:
            if sys.version_info < OLDEST_PYTHON:
                raise InputError(f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}")
            main()
        except ModuleNotFoundError as error:
            if not error.name or error.name.startswith("distilbart_mnli"):
                raise
            remedy = "pip install -r requirements.txt, or start .venv/bin/python, which `make` makes"
            print(f"error: {error.name} is not installed for {sys.executable}: {remedy}", file=sys.stderr)
            return InputError.exit_code
        except CommandError as error:
            if str(error):  # empty: another process of the run says it
                print(f"error: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        except KeyboardInterrupt as error:
            number = getattr(error, "signal_number", signal.SIGINT)
            print(_stopped_line(number), file=sys.stderr, flush=True)
            return 128 + number
        except BrokenPipeError:
            # `create_student.py ... | head` closed our stdout; nothing is left to say to it.
            sys.stderr.close()
            return 1
    return 0


def say(text: str, stream: TextIO | None = None) -> None:
    """Print lines (to stdout) as a terminal may show them: what came from a file or a path is visible in them."""
    print(shown_lines(text), file=stream, flush=True)


class _Stopped(KeyboardInterrupt):
    """A signal as an exception, so that what is half written is removed on the way out."""

    def __init__(self, signal_number: int):
        self.signal_number = signal_number


@contextlib.contextmanager
def _signals_are_exceptions() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the command with one line; one that the parent ignores (nohup) stays ignored.

    A training puts its own handlers over these. A rank of several keeps what SIGTERM and SIGHUP do to any program: it
    may be waiting for a dead one outside Python, where no handler of Python's runs.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():  # the TPU launcher runs each device in a thread
        alone = os.environ.get("WORLD_SIZE", "1") == "1"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if alone else (signal.SIGINT,):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            # Libraries turn what is raised while they are imported into an ImportError, or swallow it.
            os.write(2, f"{_stopped_line(number)}\n".encode())
            os._exit(128 + number)
        frame = frame.f_back
    raise _Stopped(number)


def _stopped_line(number: int) -> str:
    return "error: interrupted" if number == signal.SIGINT else f"error: stopped by {signal.Signals(number).name}"


def _show_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback of a fault of ours, with what it quotes of files made visible, and no token."""
    say("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), sys.stderr)
