"""One commit on the Hub, however often it takes: recognised where it landed, refused where somebody was faster."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, RepoFile
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.sha import git_hash

from distilbart_mnli.errors import HubError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.publish.card_facts import is_number, read_json
from distilbart_mnli.publish.staging import published_files

logger = logging.getLogger(__name__)

BLANK = {".gitattributes"}  # what a repository holds that was just created


@dataclass(frozen=True)
class PublishTarget:
    """Where a run publishes to, as it saw the place last."""

    repo_id: str
    parent: str | None
    """The head commit; None: there was no such repository."""


def repo_info(api: HfApi, repo_id: str) -> Any:
    try:
        return api.model_info(repo_id)
    except RepositoryNotFoundError:
        return None


def commit_message(output_dir: Path) -> tuple[str, str]:
    """Title and description: the scores of all_results.json (fractions)."""
    numbers = {key: value for key, value in read_json(output_dir / "all_results.json").items() if is_number(value)}
    unscored = re.compile(r"eval_.*(loss|samples|runtime|steps|per_second|epoch)")
    scores = [f"{k[5:]} {v:.4f}" for k, v in numbers.items() if k.startswith("eval_") and not unscored.match(k)]
    title = f"Add {output_dir.resolve().name}" + (f": {', '.join(scores)}" if scores else "")
    return title, "\n".join(f"{key} = {value:.10g}" for key, value in numbers.items())


class Publication:
    """One publication: `attempt` may be called until it succeeds."""

    def __init__(self, api: HfApi, target: PublishTarget, folder: Path, args: Arguments):
        self.api, self.repo_id, self.seen, self.args = api, target.repo_id, target.parent, args
        self.files = published_files(folder)
        self.title, self.description = commit_message(folder)
        self.tried = False  # whether a commit may have landed
        self.is_new = False

    def attempt(self) -> str:
        """The commit that holds the files: an earlier one that landed, or a new one on top of the head."""
        info = repo_info(self.api, self.repo_id)
        parent = self.seen
        if info is None:
            if parent is not None and not self.args.hub_force:
                raise HubError(f"{self.repo_id} is gone since this run last saw it; --hub_force creates it again")
            self.api.create_repo(self.repo_id, private=self.args.hub_private_repo, exist_ok=True)
            info = self.api.model_info(self.repo_id)
            parent = info.sha
        operations = [CommitOperationAdd(path.name, path) for path in self.files]  # new ones: a commit uses them up
        landed = self._landed(operations, parent)
        if landed is not None:
            self.is_new = self.tried
            if landed != info.sha:
                what = changed(self.api, self.repo_id, landed, info.sha)
                logger.warning("%s has changed since these files were published there (%s)", self.repo_id, what)
            return landed
        blank = parent is None and {file.rfilename for file in info.siblings or []} <= BLANK
        if info.sha != parent and not blank and not self.args.hub_force:
            what = changed(self.api, self.repo_id, parent, info.sha) if parent else "it did not exist then"
            raise HubError(
                f"{self.repo_id} changed since this run last saw it ({what}); look at it, then add --hub_force to "
                "publish over it"
            )
        # A .gitignore in the repository would silently drop files of ours; one that ignores nothing goes before it.
        self.api.preupload_lfs_files(
            self.repo_id, operations, free_memory=False, gitignore_content="# nothing is ignored\n"
        )
        self.tried = True
        try:
            done = self.api.create_commit(
                self.repo_id,
                operations,
                commit_message=self.title,
                commit_description=self.description,
                parent_commit=info.sha,
            )
        except HfHubHTTPError as error:
            if error.response.status_code == 412:
                return self.attempt()  # somebody was faster, by a second; look again
            raise
        self.is_new = True
        return done.oid

    def _landed(self, operations: list[CommitOperationAdd], parent: str | None) -> str | None:
        """The commit, from `parent` on, that brought the tree to hold every one of our files, if one has.

        With hub_force only the head counts: what others made of it since is to be replaced.
        """
        landed = None
        for commit in self.api.list_repo_commits(self.repo_id)[: 1 if self.args.hub_force else 20]:
            tree = {e.path: e for e in self.api.list_repo_tree(self.repo_id, revision=commit.commit_id)}
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
