"""One commit on the Hub, however often it takes: recognised where it landed, refused where somebody was faster."""

import functools
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, RepoFile, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.sha import git_hash

from distilbart_mnli.errors import HubError, RunError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.public_text import visible
from distilbart_mnli.publish.client import ODD_ANSWER, has_no_xet, within
from distilbart_mnli.publish.run_files import is_number, read_json
from distilbart_mnli.publish.staging import checksums, name_in, published_files

logger = logging.getLogger(__name__)

BLANK = {".gitattributes"}  # what a repository holds that was just created
ANSWER_SECONDS = 120.0  # for one question
SLOWEST_UPLOAD = 32e3  # bytes a second, 256 kbit/s: 14 hours for the 1.6 GB of bart-large-mnli
COMMIT_SECONDS = 600.0  # the small files travel in it


@dataclass(frozen=True)
class PublishTarget:
    """Where a run publishes to, as it saw the place last."""

    repo_id: str
    parent: str | None
    """The head commit; None: there was no such repository."""


def repo_info(api: HfApi, repo_id: str) -> Any:
    """What the Hub says about a repository, its head commit included; None where there is no such repository."""
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None
    if not isinstance(info.sha, str):
        raise HubError(f"{api.endpoint} answers otherwise than the Hub: {repo_id} has no commit")
    return info


def commit_message(output_dir: Path) -> tuple[str, str]:
    """Title and description: the scores of all_results.json (fractions)."""
    numbers = {key: value for key, value in read_json(output_dir / "all_results.json").items() if is_number(value)}
    unscored = re.compile(r"eval_.*(loss|samples|runtime|steps|per_second|epoch)")
    scores = [f"{k[5:]} {v:.4f}" for k, v in numbers.items() if k.startswith("eval_") and not unscored.match(k)]
    title = f"Add {output_dir.resolve().name}" + (f": {', '.join(scores)}" if scores else "")
    return visible(title), "\n".join(f"{visible(key)} = {value:.10g}" for key, value in numbers.items())


class Publication:
    """One publication: `attempt` may be called until it succeeds.

    Made before the smoke test: what is uploaded are the bytes that `folder` held then.
    """

    def __init__(self, api: HfApi, target: PublishTarget, folder: Path, args: Arguments):
        self.api, self.repo_id, self.seen, self.args = api, target.repo_id, target.parent, args
        self.folder, self.files, self.tested = folder, published_files(folder), checksums(folder)
        self.title, self.description = commit_message(folder)
        self.tried = False  # whether a commit may have landed
        self.is_new = False

    def attempt(self) -> str:
        """The commit that holds the files: an earlier one that landed, or a new one on top of the head."""
        self._check_unchanged()
        ask = functools.partial(within, ANSWER_SECONDS)
        info = ask(lambda: repo_info(self.api, self.repo_id))
        parent = self.seen
        if info is None:
            if parent is not None and not self.args.hub_force:
                raise HubError(f"{self.repo_id} is gone since this run last saw it; --hub_force creates it again")
            ask(lambda: self.api.create_repo(self.repo_id, private=self.args.hub_private_repo, exist_ok=True))
            info = ask(lambda: repo_info(self.api, self.repo_id))
            if info is None:
                raise HubError(f"{self.api.endpoint} says that it created {self.repo_id}, and does not have it")
            parent = info.sha
        operations = [
            CommitOperationAdd(name_in(self.folder, path), path) for path in self.files
        ]  # new ones: a commit uses them up
        for operation in operations:
            operation.upload_info.sha256 = self.tested[operation.path_in_repo]
        landed = ask(lambda: self._landed(operations, parent, 1 if self.args.hub_force else 20))
        if landed is not None:
            self.is_new = self.tried
            if landed != info.sha:
                what = ask(functools.partial(changed, self.api, self.repo_id, landed, info.sha))
                logger.warning("%s has changed since these files were published there (%s)", self.repo_id, what)
            return landed
        blank = parent is None and {file.rfilename for file in info.siblings or []} <= BLANK
        if info.sha != parent and not blank and not self.args.hub_force:
            what = "it did not exist then"
            if parent is not None:
                what = ask(functools.partial(changed, self.api, self.repo_id, parent, info.sha))
            raise HubError(
                f"{self.repo_id} changed since this run last saw it ({what}); look at it, then add --hub_force to "
                "publish over it"
            )
        size = sum(operation.upload_info.size for operation in operations)
        within(ANSWER_SECONDS + size / SLOWEST_UPLOAD, functools.partial(self._upload, operations))
        self._check_unchanged()
        self.tried = True
        commit = functools.partial(
            self.api.create_commit,
            self.repo_id,
            operations,
            commit_message=self.title,
            commit_description=self.description,
            parent_commit=info.sha,
        )
        odd: Exception | None = None
        try:
            within(COMMIT_SECONDS, commit)
        except HfHubHTTPError as error:
            if error.response.status_code == 412:
                return self.attempt()  # somebody was faster, by a second; look again
            raise
        except (json.JSONDecodeError, *ODD_ANSWER) as error:
            odd = error
        # Whatever was answered, the tree tells what was done.
        landed = ask(lambda: self._landed(operations, info.sha, 20))
        if landed is None:
            raise odd or HubError(
                f"{self.api.endpoint} says that it committed the files of {self.repo_id}, and its tree does not hold "
                "them all with their sizes and checksums"
            )
        self.is_new = True
        return landed

    def _upload(self, operations: list[CommitOperationAdd]) -> None:
        """The large files; over plain HTTP where the server has no xet storage."""
        # A .gitignore in the repository would silently drop files of ours; one that ignores nothing goes before it.
        upload = functools.partial(
            self.api.preupload_lfs_files, free_memory=False, gitignore_content="# nothing is ignored\n"
        )
        try:
            upload(self.repo_id, operations)
        except ConnectionError as error:
            if not has_no_xet(error):
                raise
            logger.info("%s has no xet storage: uploading without it, as HF_HUB_DISABLE_XET=1 does", self.api.endpoint)
            constants.HF_HUB_DISABLE_XET = True
            upload(self.repo_id, operations)

    def _check_unchanged(self) -> None:
        """The weights are not copied for the test; somebody may have replaced them since."""
        if checksums(self.folder) != self.tested:
            raise RunError(f"the files of {self.folder.name} changed after they were tested; nothing was committed")

    def _landed(self, operations: list[CommitOperationAdd], parent: str | None, commits: int) -> str | None:
        """The commit, from `parent` on, that brought the tree to hold every one of our files, if one has.

        Args:
            commits: how many are looked at. With hub_force, before our own commit, only the head counts: what others
                made of it since is to be replaced.
        """
        landed = None
        for commit in self.api.list_repo_commits(self.repo_id)[:commits]:
            tree = {
                e.path: e for e in self.api.list_repo_tree(self.repo_id, recursive=True, revision=commit.commit_id)
            }
            if all(_holds(tree.get(operation.path_in_repo), operation) for operation in operations):
                landed = commit.commit_id
            elif landed is not None:
                break
            if commit.commit_id == parent:
                break
        return landed


def _holds(entry: Any, operation: CommitOperationAdd) -> bool:
    """Whether a tree's entry is the file that the operation adds. Of a small file the Hub knows git's sum."""
    if not isinstance(entry, RepoFile) or entry.size != operation.upload_info.size:
        return False
    if entry.lfs:
        return entry.lfs.sha256 == operation.upload_info.sha256.hex()
    with operation.as_file() as file:
        return entry.blob_id == git_hash(file.read())


def changed(api: HfApi, repo_id: str, before: str, after: str) -> str:
    """ "1a2b3c4 -> 5d6e7f8: README.md, config.json"."""
    try:
        old, new = (
            {
                e.path: e.blob_id
                for e in api.list_repo_tree(repo_id, recursive=True, revision=at)
                if isinstance(e, RepoFile)
            }
            for at in (before, after)
        )
    except RevisionNotFoundError:
        return f"{before[:7]} is no longer in its history"
    names = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"{before[:7]} -> {after[:7]}: {shown or 'no file'}"
