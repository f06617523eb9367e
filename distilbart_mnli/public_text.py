"""What may be shown or published of a command line, an option or a text out of a file.

visible(text)           for a terminal: no control character of a file is obeyed there
without_tokens(text)    for whoever reads over one's shoulder, and for every file and log
without_paths(text)     for the Hub: nothing tells where files lay on one machine
"""

import itertools
import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

_START = r"(?:file:/+|~[\w.-]*[\\/]|[A-Za-z]:[\\/]|\\\\|\.{0,2}/(?!/))"
# </s> and the like are tokens or HTML, no paths; </home/ada/x> is one.
_LOCAL_PATH = re.compile(r"(?<![\w./\\-])(?!(?<=<)/[\w|-]+>)" + _START + r"[^\s'\"`,;)\]}<>]+")
_TOKEN = re.compile(r"(?<![A-Za-z0-9])(hf|api_org)_[A-Za-z0-9]{8,}")
# Up to the last @ before the path: a password may hold one. A URL that was taken for a path has lost a slash.
_URL_LOGIN = re.compile(r"(\b[A-Za-z][\w+.-]+:/{1,2})[^\s/]*@")
_URL_KEY = re.compile(
    r"([?&][\w-]*(?:token|signature|credential|password|secret|key)[\w-]*=)[^&\s\"']+", re.IGNORECASE
)
_BEARER = re.compile(r"\bBearer +[\w.~+/=-]{8,}")
SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "WANDB_API_KEY")
"""Environment variables whose whole value is a secret, whatever it looks like."""


def visible(text: str) -> str:
    """`text` with every character that does not print as itself written as Python writes it in a string.

    These are control characters (a terminal obeys them), line separators, marks that turn the direction of writing,
    and halves of characters, which no stream can write: "\\x1b[2J", "\\u2028", "\\u202e", "\\udce9".
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def without_tokens(text: str) -> str:
    """`text` without tokens of the Hub, secrets of the environment, and what opens a URL: password, key, signature."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    text = _BEARER.sub("Bearer ***", _URL_KEY.sub(r"\1***", _URL_LOGIN.sub(r"\1***@", text)))
    return _TOKEN.sub(r"\1_...", text)


def shown_lines(text: str) -> str:
    """Lines of ours, a table or a traceback, with what they quote made visible and no token in them."""
    return "\n".join(map(visible, without_tokens(text).split("\n")))


def _secrets() -> list[str]:
    """What this process was given in confidence; short values are words that stand in any text."""
    values = [os.environ.get(name, "") for name in SECRET_VARIABLES]
    for name in ("HF_ENDPOINT", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        user, _, password = os.environ.get(name, "").partition("://")[2].rpartition("@")[0].partition(":")
        values += [password or user, unquote(password or user)]
    return [value for value in values if len(value) >= 6]


def without_paths(text: str) -> str:
    """`text` with each local path reduced to its last part: absolute, from the home folder, or with a leading dot."""
    return _LOCAL_PATH.sub(lambda match: last_part(match.group()), text)


def public_command(command: str) -> str:
    """A command line to publish: paths of one machine reduced to their last parts, tokens left out."""
    try:
        words = shlex.split(command)
    except ValueError:  # an unclosed quote: not one of ours, but it is text all the same
        return without_tokens(without_paths(command))
    kept: list[str] = []
    for word in without_token_option(words):
        option, equals, value = word.partition("=")
        start, value = (option + "=", value) if option.startswith("-") and equals else ("", word)
        if re.match(_START + "|/", value):  # the whole word, spaces included
            value = last_part(value)
        kept.append(without_tokens(start + without_paths(value)))
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
