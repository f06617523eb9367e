"""What the small Hub of the tests keeps: users, repositories, commits, files; and its rules for cards and LFS."""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".png", ".zip", ".h5", ".onnx")
LICENSES = "apache-2.0 mit bsd-3-clause cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 gpl-3.0 openrail other unknown".split()


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class User:
    name: str
    token: str
    role: str
    orgs: list[str]
    valid: bool = True


@dataclass(frozen=True)
class File:
    content: bytes
    lfs: bool

    @property
    def size(self) -> int:
        return len(self.content)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
            self.sha256.encode(),
            self.size,
        )

    @cached_property
    def blob_id(self) -> str:
        content = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass
class Commit:
    title: str
    description: str
    parent: str | None
    files: dict[str, File]
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))

    @cached_property
    def oid(self) -> str:
        tree = sorted((path, file.blob_id) for path, file in self.files.items())
        return hashlib.sha1(repr((self.title, self.parent, tree, self.date)).encode()).hexdigest()


@dataclass
class Repo:
    id: str
    type: str
    private: bool = False
    gated: bool = False
    commits: list[Commit] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0] if "/" in self.id else ""

    def at(self, revision: str) -> Commit:
        for commit in reversed(self.commits):
            if revision == "main" or (len(revision) >= 7 and commit.oid.startswith(revision)):
                return commit
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def is_lfs(path: str, sample: bytes) -> bool:
    try:
        sample[:500].decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < len(sample[:500]) - 3:  # not merely a character cut in two by the end of the sample
            return True
    return path.endswith(LFS_SUFFIXES) or b"\0" in sample


def card_metadata(card: str) -> Any:
    """The YAML between the two lines of three dashes; {} without it."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    return (yaml.safe_load(found.group(1)) if found else None) or {}


def card_errors(content: str) -> list[str]:
    """What the Hub says about the metadata of a card; the rules that a generated card could break."""
    try:
        data = card_metadata(content)
    except yaml.YAMLError as error:
        return [f"YAML is not valid: {error}"]
    if not isinstance(data, dict):
        return ["the metadata must be an object"]
    errors = [f'"{key}" must not be empty' for key, value in data.items() if value is None or value == ""]
    if "license" in data and data["license"] not in LICENSES:
        errors.append(f'"license" must be one of [{", ".join(LICENSES)}]')
    for key in ("tags", "datasets", "metrics"):
        value = data.get(key, [])
        if not isinstance(value, list | str) or not all(isinstance(v, str) for v in value):
            errors.append(f'"{key}" must be an array of strings')
    for model in data.get("model-index") or []:
        if not isinstance(model, dict) or not model.get("name") or not isinstance(model.get("results"), list):
            errors.append('"model-index[0]" needs a name and results')
            continue
        for result in model["results"]:
            if not result.get("task", {}).get("type") or not {"type", "name"} <= set(result.get("dataset", {})):
                errors.append('"model-index[0].results[0]" needs task.type, dataset.type and dataset.name')
            for metric in result.get("metrics", []):
                if not metric.get("type") or not isinstance(metric.get("value"), int | float | str | dict):
                    errors.append('"model-index[0].results[0].metrics[0]" needs type and value')
    return errors
