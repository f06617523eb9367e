"""Publishing: a check before training, a test before upload, one commit, and no loss on the way.

    target = preflight(args)                 # before training: seconds; creates nothing on the Hub
    ...
    url = publish(output_dir, args, target)  # after it: smoke test, then one commit

Only the files in PUBLISHED_FILES leave the machine. They are staged in a temporary folder first, with local paths
reduced to base names and searched for tokens; that folder is what is tested (smoke_test.py) and what is uploaded.

The commit is guarded by the repository's head as the run last saw it: at the preflight, or, where output_dir was
published before, then (hub_state.json in output_dir remembers it). Somebody else's commit in between stops the
publication, which then names the files that changed; --hub_force publishes over it.

huggingface_hub retries some requests and not others (repos/create, validate-yaml and the commit never; a
commit made by upload_folder with hf_xet always, twice over if an answer was lost). So everything here goes through
create_commit, which asks once, and `until` repeats the whole of it: look at the head, recognise what has landed,
upload, commit.
"""

import json
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData, get_session
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from distilbart_mnli.errors import HubError, InputError, RunError
from distilbart_mnli.files import atomic_file
from distilbart_mnli.hub_client import bounded_client
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.public_text import without_tokens
from distilbart_mnli.publish.client import ODD_ANSWER, TOKEN_SETTINGS, Result, connect, until, within
from distilbart_mnli.publish.commit import Publication, PublishTarget, changed, repo_info
from distilbart_mnli.publish.run_files import read_json
from distilbart_mnli.publish.smoke_test import Predictions, smoke_test
from distilbart_mnli.publish.staging import check_publishable, known_secrets, refuse_links, staged

logger = logging.getLogger(__name__)

RETRY_SECONDS = 120.0  # after hours of training two minutes of patience are cheap
PREFLIGHT_SECONDS = 6.0  # before it, an answer is wanted soon: three attempts, 1 and 2 s apart
PREFLIGHT_READ_TIMEOUT = 10.0  # seconds for a whole answer
STATE_FILE = "hub_state.json"  # repository -> its commit that the folder saw last; there may be several repositories


# ---------------------------------------------------------------------------------------------------------------------
# Before training


def preflight(args: Arguments, card: str = "") -> PublishTarget:
    """Find out in seconds whether `publish` will be allowed; creates nothing.

    Checked: a token, valid and with the right to write to that name; the card's metadata; that the repository did not
    change since output_dir was published there last.

    Args:
        card: README.md as far as it is known; of a publish-only run it is read.

    Raises:
        InputError: no training, and no model in output_dir; a link in the place of a file that is published.
        HubError: anything that the Hub refuses, in one line that says what to do.
    """
    assert args.output_dir is not None
    output_dir = Path(args.output_dir)
    publish_only = not (args.do_train or args.do_eval or args.do_predict)
    if args.do_train:
        refuse_links(output_dir)
    else:
        check_publishable(output_dir)
    if publish_only:
        try:
            card = (output_dir / "README.md").read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{output_dir}: no README.md to publish, and no page goes without one: {error}"
            ) from error
    with bounded_client(PREFLIGHT_READ_TIMEOUT):
        api = connect(args)

        def ask(question: Callable[[], Result]) -> Result:
            return until(lambda: within(PREFLIGHT_READ_TIMEOUT, question), PREFLIGHT_SECONDS, api)

        account = _account(ask(api.whoami), api)
        repo_id = _repo_id(args.hub_model_id or output_dir.resolve().name, account.name)
        info = ask(lambda: repo_info(api, repo_id))
        if account.role == "read":
            raise HubError(f"{repo_id}: this token may only read; make one that may write at {TOKEN_SETTINGS}")
        if info is None or not ask(lambda: _may_write(api, repo_id)):
            _check_namespace(repo_id, account)
        if info is not None and args.hub_private_repo and not info.private:
            raise HubError(f"{repo_id} exists and is public; hub_private_repo cannot change that: choose another name")
        if not publish_only:  # the license as the user typed it: a card takes any, under the name "other"
            license = ModelCardData(license=args.license, tags=["distilbart"]).to_yaml()
            ask(lambda: _check_card(api, f"---\n{license}\n---\n"))
        if card:
            ask(lambda: _check_card(api, card))
        head = None if info is None else info.sha
        seen = _seen(output_dir).get(repo_id)
        if seen is not None and head not in (None, seen) and not publish_only and not args.hub_force:
            what = ask(lambda: changed(api, repo_id, seen, str(head)))
            raise HubError(
                f"{repo_id} changed since {output_dir} was published there ({what}); look at it, then use "
                "--hub_force to publish over it"
            )
    logger.info("publishing to %s: allowed (%s)", repo_id, "it exists" if head else "it will be created")
    return PublishTarget(repo_id, seen if seen and head and not args.hub_force else head)


@dataclass(frozen=True)
class _Account:
    """Whose token it is."""

    name: str
    role: str | None
    """ "read", "write" or "fineGrained"."""
    organisations: list[str]
    """Those that it may write to."""


def _account(who: Any, api: HfApi) -> _Account:
    """What the Hub says about the token's owner, which may be anything: a proxy could be answering."""
    try:
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        organisations = [org["name"] for org in who.get("orgs") or [] if org.get("roleInOrg") != "read"]
        account = _Account(who["name"], role, organisations)
    except ODD_ANSWER:
        account = _Account("", None, [])
    if not account.name or not all(isinstance(name, str) for name in (account.name, *account.organisations)):
        raise HubError(f"{api.endpoint} does not say whose token this is: is it a Hub, and is HF_ENDPOINT right?")
    return account


def _repo_id(name: str, user: str) -> str:
    repo_id = name if "/" in name else f"{user}/{name}"
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"hub_model_id {repo_id}: not a name the Hub allows: {error}") from error
    return repo_id


def _may_write(api: HfApi, repo_id: str) -> bool:
    """Whether the Hub says so; False where it does not know this question (404)."""
    try:
        api.auth_check(repo_id, write=True)
    except HfHubHTTPError as error:
        if error.response.status_code == 404:
            return False
        raise
    return True


def _check_namespace(repo_id: str, account: _Account) -> None:
    """Where the Hub cannot be asked about the repository, which may not exist yet. Scopes of a token are not read."""
    namespace, yours = repo_id.split("/")[0], [account.name, *account.organisations]
    if namespace not in yours:
        raise HubError(
            f"{repo_id}: {account.name} may not write to {namespace}; possible: {', '.join(yours)} (hub_model_id)"
        )


def _check_card(api: HfApi, content: str) -> None:
    """Whether the Hub takes the metadata. RepoCard.validate asks another Hub: that of HF_ENDPOINT at import."""
    answer = get_session().post(
        f"{api.endpoint}/api/validate-yaml",
        json={"content": content, "repoType": "model"},
        headers=build_hf_headers(token=api.token),
    )
    if answer.status_code == 400:
        try:
            reasons = "; ".join(str(error["message"]) for error in answer.json()["errors"])
        except (ValueError, *ODD_ANSWER):
            reasons = answer.text[:300]
        raise HubError(f"the Hub refuses the model card's metadata: {reasons}")
    hf_raise_for_status(answer)


# ---------------------------------------------------------------------------------------------------------------------
# After training


def publish(
    output_dir: Path,
    args: Arguments,
    target: PublishTarget | None = None,
    predictions: Predictions | None = None,
) -> str:
    """Test the finished model of output_dir and publish it in one commit; the commit's address.

    Calling it again is harmless: what is already there is recognised by its content and not committed twice.

    Args:
        target: from `preflight`; None: it is called now (a publish-only run).
        predictions: of an evaluation set, for the smoke test; None: not compared.

    Raises:
        InputError: output_dir holds no finished model.
        RunError: a token in a file, or the smoke test failed; nothing was uploaded.
        HubError: the Hub refused for good, or somebody else published in between. Both name the command that retries.
    """
    target = target or preflight(args)
    try:
        api = connect(args)
        with staged(output_dir, known_secrets(args)) as folder, bounded_client():
            publication = Publication(api, target, folder, args)
            smoke_test(folder, predictions, args.model_name_or_path)
            _remember(output_dir, target.repo_id, target.parent)
            commit = until(publication.attempt, RETRY_SECONDS, api)
    except (RunError, HubError) as error:
        command = retry_command(output_dir, args, target)
        raise type(error)(
            f"not published: {error}; the run's files are in {output_dir}; to try again: {command}"
        ) from error
    _remember(output_dir, target.repo_id, commit)
    url = without_tokens(f"{api.endpoint}/{target.repo_id}/commit/{commit}")
    logger.info("%s: %s", "published" if publication.is_new else "already published", url)
    return url


def retry_command(output_dir: Path, args: Arguments, target: PublishTarget) -> str:
    """The command line of a publish-only run."""
    command = ["python", "run_glue.py", "--push_to_hub", "--output_dir", str(output_dir)]
    private = ["--hub_private_repo"] if args.hub_private_repo else []
    return shlex.join([*command, "--hub_model_id", target.repo_id, *private])


def _seen(output_dir: Path) -> dict[str, str]:
    """Repository -> its commit that output_dir saw last."""
    try:
        seen = read_json(output_dir / STATE_FILE)
    except InputError as error:
        logger.warning("%s; it is written anew, and what was published there before is not remembered", error)
        return {}
    return {repo_id: commit for repo_id, commit in seen.items() if isinstance(commit, str)}


def _remember(output_dir: Path, repo_id: str, commit: str | None) -> None:
    if commit is None:
        return
    try:
        with atomic_file(output_dir / STATE_FILE) as temporary:
            temporary.write_text(json.dumps({**_seen(output_dir), repo_id: commit}, indent=2) + "\n", encoding="utf-8")
    except RunError as error:  # a folder that cannot be written to can still be published
        logger.warning("%s", error)
