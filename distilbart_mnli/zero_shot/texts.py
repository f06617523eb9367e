"""The texts of a file, one after the other, any number of them in constant memory.

    with open_texts("reviews.csv", TextOptions(text_key="body")) as texts:
        texts.count, texts.digest           # it was read once, and every row is good
        for number, text in texts: ...      # and is read again, as often as it takes

What comes from stdin is copied into a temporary file first, so that it can be read again.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distilbart_mnli.data.tables import stream_texts
from distilbart_mnli.data.tokens import digest_of
from distilbart_mnli.errors import InputError, cannot_write
from distilbart_mnli.files import sha256

FORMATS = {"lines": "", "csv": ".csv", "tsv": ".tsv", "jsonl": ".jsonl", "json": ".json"}
"""Name of a format -> what formats.open_table calls it."""


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How a file is read."""

    format: str = "auto"
    """One of FORMATS. auto: by the file's ending; plain lines if it has none of theirs, and from stdin."""
    text_key: str = "text"
    """Column or key that holds the text."""
    skip_bad_rows: bool = False


@dataclass(frozen=True)
class Texts:
    """Texts that can be iterated over: (line number, text)."""

    path: Path
    options: TextOptions
    count: int = 0
    digest: str = ""
    """SHA-256 of the file and of how it is read."""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return stream_texts(self.path, self._kind, self.options.text_key, self.options.skip_bad_rows)

    @property
    def _kind(self) -> str:
        if self.options.format != "auto":
            return FORMATS[self.options.format]
        ending = self.path.suffix.lower().replace(".ndjson", ".jsonl")
        return ending if ending in FORMATS.values() else ""


@contextlib.contextmanager
def open_texts(name: str, options: TextOptions) -> Iterator[Texts]:
    """The texts of a file, or with the name - of stdin.

    Raises:
        InputError: the file cannot be read, has no such column or no text, or a row is bad or its text empty.
    """
    with contextlib.ExitStack() as stack:
        path = Path(name)
        if name == "-":
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "stdin")
            try:
                with path.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file)
            except OSError as error:
                raise cannot_write("stdin could not be kept", error, "name another folder in TMPDIR") from None
        texts = Texts(path, options)
        count = sum(1 for _ in texts)
        if not count:
            raise InputError(f"{name}: no texts")
        yield Texts(path, options, count, digest_of(sha256(path), repr(options), texts._kind))
