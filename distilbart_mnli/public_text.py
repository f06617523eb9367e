"""What may be published of a command line, an option or a text: nothing tells where files lay on one machine, and no
token is in it.
"""

import itertools
import re
import shlex
from pathlib import Path

_START = r"(?:file:/+|~[\w.-]*[\\/]|[A-Za-z]:[\\/]|\\\\|\.{0,2}/(?!/))"
# </s> and the like are tokens or HTML, no paths; </home/ada/x> is one.
_LOCAL_PATH = re.compile(r"(?<![\w./\\-])(?!(?<=<)/[\w|-]+>)" + _START + r"[^\s'\"`,;)\]}<>]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")


def without_paths(text: str) -> str:
    """`text` with each local path reduced to its last part: absolute, from the home folder, or with a leading dot."""
    return _LOCAL_PATH.sub(lambda match: last_part(match.group()), text)


def public_command(command: str) -> str:
    """A command line to publish: paths of one machine reduced to their last parts, tokens left out."""
    try:
        words = shlex.split(command)
    except ValueError:  # an unclosed quote: not one of ours, but it is text all the same
        return _TOKEN.sub("hf_...", without_paths(command))
    kept: list[str] = []
    for word in without_token_option(words):
        option, equals, value = word.partition("=")
        start, value = (option + "=", value) if option.startswith("-") and equals else ("", word)
        if re.match(_START + "|/", value):  # the whole word, spaces included
            value = last_part(value)
        kept.append(_TOKEN.sub("hf_...", start + without_paths(value)))
    return shlex.join(kept)


def without_token_option(words: list[str]) -> list[str]:
    """The words of a command line without --hub_token and its value."""

    def is_token_option(word: str) -> bool:
        return word.partition("=")[0].replace("-", "_") == "__hub_token"

    return [
        word
        for before, word in itertools.pairwise(["", *words])
        if not is_token_option(word) and not (is_token_option(before) and "=" not in before)
    ]


def last_part(path: str) -> str:
    """Base name of a path of any system; "." of a root."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "."


def shown_path(text: str) -> str:
    """A path of this machine as its last part; anything else as it is.

    A folder that is there is a path, however much its name looks like one on the Hub: models/student.
    """
    if len(text) > 1 and (text.startswith(("/", "~", "../")) or Path(text).is_dir()):
        return Path(text).name
    return text
