"""What tests do to files: edit, damage, plant a payload, and prove that nothing changed."""

import json
import os
from pathlib import Path


class Payload:
    """Makes the folder `sign` when it is unpickled."""

    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self):
        return os.mkdir, (str(self.sign),)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """The bytes of every file below `folder`; None for a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def edit_json(path: Path, drop=(), **changes) -> None:
    """Change keys of a JSON object's file, and drop some."""
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: values[key] for key in values if key not in drop}), encoding="utf-8")


def edit_config(folder: Path, drop=(), **changes) -> None:
    """Change keys of a model's configuration."""
    edit_json(folder / "config.json", drop, **changes)


def flip_bit(path: Path, place: int | None = None) -> None:
    """Flip one bit of the byte at `place`; by default, of the one in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)
