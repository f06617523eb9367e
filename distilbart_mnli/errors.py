"""The four ways in which a command of this repository ends other than well, and the exit code of each.

    0  done
    1  the run failed: disk, memory, a loss that is not finite
    2  bad input, or a path that cannot be used
    3  the Hub refused, preflight included
    128 + n  stopped by signal n, after a checkpoint

A message is one line: what is wrong, where, what was expected, what to do. A user never sees a traceback for their own
mistake; an exception of any other class is a fault of ours and keeps its traceback.
"""

import sys
from collections.abc import Callable


class CommandError(Exception):
    """Ends the command with one line on stderr and `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, exit_code: int | None = None):
        # One line of characters that any stream can write: a file's key can be half a character ("\\ud800" in JSON).
        super().__init__(" ".join(str(message).split()).encode("utf-8", "backslashreplace").decode("utf-8"))
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


class StoppedBySignal(CommandError):
    """A signal asked the run to stop; its checkpoint is written. The exit code is 128 + the signal's number."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message, 128 + signal_number)


def run_command(main: Callable[[], None]) -> int:
    """Run `main` and return the exit code of the process; a CommandError becomes one line on stderr.

    An interrupt outside a training (inside one it is handled, see train/loop.py) ends with 130, as a shell expects.
    """
    try:
        main()
    except CommandError as error:
        if str(error):  # empty: another process of the run says it
            print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:
        # `create_student.py ... | head` closed our stdout; nothing is left to say to it.
        sys.stderr.close()
        return 1
    return 0
