"""What an attack does to a file, and what a Hub that lies answers."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.attack import SECRET, TOKEN
from tests.support.files import edit_json, flip_bit
from tests.support.hub_server import Lie

DEEP = b"[" * 100_000
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u2028error: not this line\r\nerror: nor this one"


def other_shape(value: Any) -> Any:
    """JSON of another shape: in an object every value becomes something else; a list becomes an object."""
    if isinstance(value, dict):
        others = [None, [], {}, "x", -1, 1.5, True, [[1]], {"a": {}}, "\x1b[2J"]
        return {key: others[number % len(others)] for number, key in enumerate(value)}
    return {"0": value}


def reshape(path: Path, _: Path) -> None:
    """As other_shape does, where the file is JSON; else an object."""
    try:
        value = other_shape(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        value = {"a": {"b": None}}
    path.write_text(json.dumps(value), encoding="utf-8")


def replace_by_folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_secret(path: Path, precious: Path) -> None:
    path.unlink()
    path.symlink_to(precious / "id_rsa")


def link_to_itself_outside(path: Path, precious: Path) -> None:
    """What the link leads to is what the file was."""
    target = precious / "copies" / path.name
    target.parent.mkdir(exist_ok=True)
    path.replace(target)
    path.symlink_to(target)


def noise(path: Path, _: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(max(64, path.stat().st_size)))


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "cut in half": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path, _: path.write_bytes(b""),
    "a list": lambda path, _: path.write_text("[1, 2]\n"),
    "JSON of another shape": reshape,
    "a hundred thousand lists": lambda path, _: path.write_bytes(DEEP),
    "one bit flipped": lambda path, _: flip_bit(path) if path.stat().st_size else None,
    "noise": noise,
    "missing": lambda path, _: path.unlink(),
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
    "a link to a private key": link_to_secret,
    "a link to what it was": link_to_itself_outside,
}

UNSEEN = "model.safetensors: one bit flipped"
"""In the folder of a model, which holds no checksum of its weights: nobody can know."""
PORTAL = b"<!DOCTYPE html><html><title>Hotel Wi-Fi</title><body>Accept the terms to go on.</body></html>"


def _reshaped(answer: bytes) -> bytes:
    try:
        return json.dumps(other_shape(json.loads(answer))).encode()
    except ValueError:
        return b'{"a": {"b": null}}'


LIES: dict[str, Callable[[bytes], Lie]] = {
    "nothing": lambda _: Lie(),
    "{}": lambda _: Lie(b"{}"),
    "[]": lambda _: Lie(b"[]"),
    "null": lambda _: Lie(b"null"),
    "a number": lambda _: Lie(b"7"),
    "half of the answer": lambda answer: Lie(answer[: len(answer) // 2] or b"{"),
    "another shape": lambda answer: Lie(_reshaped(answer)),
    "a captive portal's page": lambda _: Lie(PORTAL, headers={"Content-Type": "text/html"}),
    "a redirect to a portal": lambda _: Lie(b"", 302, {"Location": "/portal"}),
    "bytes that are no text": lambda _: Lie(b"\xff\xfe\x00\x81" * 20),
    "a hundred thousand lists": lambda _: Lie(DEEP),
    "503, Retry-After of strange digits": lambda _: Lie(b"{}", 503, {"Retry-After": "\u00b2"}),
    "429, Retry-After of a year": lambda _: Lie(b"{}", 429, {"Retry-After": "31536000"}),
    "400 with escapes and a token": lambda _: Lie(json.dumps({"error": f"{ESCAPES} {TOKEN}"}).encode(), 400),
    "one byte at a time": lambda answer: Lie((answer + b" " * 600)[:600], piece=1, seconds=0.02),
}
COMMIT = {"success": True, "commitOid": "0" * 40, "commitUrl": "https://hub/commit/" + "0" * 40}
SPECIAL_LIES: dict[tuple[str, str], Callable[[bytes], Lie]] = {
    ("commit", "success without a commit"): lambda _: Lie(json.dumps(COMMIT).encode()),
    ("commit", "a commit without its address"): lambda _: Lie(json.dumps({"success": True}).encode()),
    ("whoami", "a name with escapes"): lambda _: Lie(json.dumps({"name": ESCAPES, "auth": {}}).encode()),
    ("whoami", "a name that is a path"): lambda _: Lie(json.dumps({"name": "../../x", "orgs": [1]}).encode()),
}

# ---------------------------------------------------------------------------------------------------------------------
# Names in files


def set_best(folder: Path, name: object) -> None:
    """Another best checkpoint, in whichever files of a checkpoint name one."""
    for path in folder.glob("*.json"):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "best_model_checkpoint" in values:
            edit_json(path, best_model_checkpoint=name)


def sharded(folder: Path, name: object) -> None:
    """A model whose index names its only file `name`."""
    (folder / "model.safetensors").rename(folder / "x.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": {"model.shared.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def card(folder: Path, front: str) -> None:
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A teacher\n", encoding="utf-8")


LAUGHS = "\n".join(["a0: &a0 [lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)])
CARDS = {
    "a date as license": "license: 2020-01-01",
    "bytes as license": "license: !!binary aGVsbG8=",
    "a set as license": "license: !!set {mit, apache-2.0}",
    "a list as license": "license: [mit, [mit]]",
    "escapes in its license": 'license: "mit\\e[2J\\a"',
    "an object of Python": "license: !!python/object/apply:os.system ['touch owned']",
    "a billion laughs": f"{LAUGHS}\nlicense: mit",
    "a billion laughs as license": f"{LAUGHS}\nlicense: *a11",
    "an anchor in itself": "license: &a [*a]",
    "a hundred thousand lists": "license: " + "[" * 100_000,
    "a key twice": "license: mit\nlicense: mit",
    "a language that is a number": "license: mit\nlanguage: 7",
    "Norway's language": "license: mit\nlanguage: no",
    "a secret": f"license: {SECRET.decode()}",
}
