"""The parser of the small scripts. run_glue.py, which also reads files, has its own (options/read.py)."""

import argparse
from typing import NoReturn

from distilbart_mnli.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """argparse, with one line for a mistake instead of the usage of every option.

    Options are not abbreviated, and the description is shown as it was written.
    """

    def __init__(self, prog: str, description: str | None):
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"command line: {message}; see {self.prog} --help")
