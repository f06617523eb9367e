"""What all commands of the repository share: one-line mistakes, near names, log lines, how they were started."""

import argparse
import difflib
import logging
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from distilbart_mnli.errors import InputError
from distilbart_mnli.public_text import shown_lines, visible, without_token_option, without_tokens


class OneLineParser(argparse.ArgumentParser):
    """argparse, with one line for a mistake instead of the usage of every option, and the nearest name.

    Options are not abbreviated, - and _ are the same in them, and the description is shown as it was written.

    Args:
        meant: what people type -> what it is called here, or what to do instead.
    """

    def __init__(self, prog: str, description: str | None, meant: dict[str, str] | None = None):
        self.meant = meant or {}
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args=None, namespace=None):
        known, words = self._option_string_actions, []
        for word in sys.argv[1:] if args is None else args:
            name, equals, value = word.partition("=")
            if name.startswith("--") and len(name) > 2 and name not in known:
                name = "--" + name[2:].replace("-", "_")
                if name not in known:
                    hint = self.meant.get(name[2:]) or did_you_mean(name, known) or f"see {self.prog} --help"
                    raise InputError(f"command line: unknown option {name}; {hint}")
                word = name + equals + value
            words.append(word)
        return super().parse_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"command line: {message}; see {self.prog} --help")


def path_or_id(text: str) -> str:
    """The type of an option that is a file, a folder or a Hub id: ~ is expanded; an unset $VARIABLE is refused."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path, not an empty text")
    return os.path.expanduser(text)  # noqa: PTH111 - an id is no path


def file_path(text: str) -> Path:
    """The type of an option that is a file or a folder."""
    return Path(path_or_id(text))


def positive(text: str) -> int:
    """The type of an option that is a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not '{text}'")
    return int(text)


def share(text: str) -> float:
    """The type of an option that is a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not '{text}'")
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "did you mean NAME?" with the known name that this one is a slip of; "" where there is none.

    Nobody misses the first letter: fp16 is no slip of bf16, nor snli of wnli.
    """
    alike = [one for one in known if one.lstrip("-")[:1] == name.lstrip("-")[:1]]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else ""


def this_command() -> str:
    """How this process was started, as a shell reads it, with the launcher's usual command in front.

    Without a token: this is printed, and written to files.
    """
    launched = "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ
    words = [Path(sys.argv[0]).name, *without_token_option(sys.argv[1:])]
    return ("accelerate launch " if launched else "python ") + shlex.join(words)


def resume_command() -> str:
    """The command that goes on from the newest checkpoint of this one, as a shell reads it."""
    words = shlex.split(this_command())
    if "--resume_from_checkpoint" in words:
        at = words.index("--resume_from_checkpoint")
        has_value = at + 1 < len(words) and not words[at + 1].startswith("--")
        del words[at : at + 1 + has_value]
    return shlex.join([*words, "--resume_from_checkpoint", "true"])


class VisibleFormatter(logging.Formatter):
    """A log line that no file's text can break, forge or colour, without a token; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(without_tokens(super().formatMessage(record)))

    def formatException(self, ei) -> str:
        return shown_lines(super().formatException(ei))


def set_up_logging(is_main: bool = True, format: str = "%(asctime)s %(levelname)s %(message)s") -> None:
    """Log lines on stderr: everything from the first process, warnings from the others; no bars of the libraries."""
    import huggingface_hub.utils.logging  # noqa: F401 - it adds its handler when it is imported
    import transformers

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter(format, datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO if is_main else logging.WARNING, handlers=[handler], force=True)
    for name in (
        *("httpx", "httpx2", "datasets", "filelock", "fsspec", "matplotlib", "urllib3", "accelerate", "absl"),
        *("onnx_ir", "onnxscript", "onnxruntime"),
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("transformers", "huggingface_hub"):  # each prints through a handler of its own, unformatted
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
