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

import contextlib
import functools
import json
import logging
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData, get_session
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, validate_repo_id

from distilbart_mnli.errors import HubError, RunError
from distilbart_mnli.options.fields import Arguments
from distilbart_mnli.publish.card_facts import read_json
from distilbart_mnli.publish.client import TOKEN_SETTINGS, client_timeout, connect, until
from distilbart_mnli.publish.commit import Publication, PublishTarget, changed, repo_info
from distilbart_mnli.publish.smoke_test import Predictions, smoke_test
from distilbart_mnli.publish.staging import check_publishable, known_secrets, staged

logger = logging.getLogger(__name__)

RETRY_SECONDS = 120.0  # after hours of training two minutes of patience are cheap
PREFLIGHT_SECONDS = 6.0  # before it, an answer is wanted soon: three attempts, 1 and 2 s apart
READ_TIMEOUT, PREFLIGHT_READ_TIMEOUT = 120.0, 10.0  # seconds without one byte; the client itself would wait for ever
STATE_FILE = "hub_state.json"  # repository -> its commit that the folder saw last; there may be several repositories


# ---------------------------------------------------------------------------------------------------------------------
# Before training


def preflight(args: Arguments) -> PublishTarget:
    """Find out in seconds whether `publish` will be allowed; creates nothing.

    Checked: a token, valid and with the right to write to that name; the card's metadata as far as it is known; that
    the repository did not change since output_dir was published there last.

    Raises:
        InputError: no training, and no model in output_dir.
        HubError: anything that the Hub refuses, in one line that says what to do.
    """
    assert args.output_dir is not None
    output_dir = Path(args.output_dir)
    publish_only = not (args.do_train or args.do_eval or args.do_predict)
    if not args.do_train:
        check_publishable(output_dir)
    with client_timeout(PREFLIGHT_READ_TIMEOUT):
        api = connect(args)
        ask = functools.partial(until, seconds=PREFLIGHT_SECONDS, api=api)
        who = ask(api.whoami)
        repo_id = _repo_id(args.hub_model_id or output_dir.resolve().name, who["name"])
        info = ask(lambda: repo_info(api, repo_id))
        access = (who.get("auth") or {}).get("accessToken") or {}
        if access.get("role") == "read":
            raise HubError(f"{repo_id}: this token may only read; make one that may write at {TOKEN_SETTINGS}")
        if info is None or not ask(lambda: _may_write(api, repo_id)):
            _check_namespace(repo_id, who)
        if info is not None and args.hub_private_repo and not info.private:
            raise HubError(f"{repo_id} exists and is public; hub_private_repo cannot change that: choose another name")
        # Before training, the part of the metadata that is known by then.
        metadata = ModelCardData(license=args.license, tags=["distilbart"])
        content = f"---\n{metadata.to_yaml()}\n---\n"
        if publish_only:
            card = output_dir / "README.md"
            content = card.read_text(encoding="utf-8") if card.is_file() else ""
        ask(lambda: _check_card(api, content))
        head = None if info is None else info.sha
        seen = read_json(output_dir / STATE_FILE)[repo_id]
        if seen is not None and head not in (None, seen) and not publish_only and not args.hub_force:
            what = ask(lambda: changed(api, repo_id, seen, str(head)))
            raise HubError(
                f"{repo_id} changed since {output_dir} was published there ({what}); look at it, then use "
                "--hub_force to publish over it"
            )
    logger.info("publishing to %s: allowed (%s)", repo_id, "it exists" if head else "it will be created")
    return PublishTarget(repo_id, seen if seen and head and not args.hub_force else head)


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


def _check_namespace(repo_id: str, who: dict[str, Any]) -> None:
    """Where the Hub cannot be asked about the repository, which may not exist yet. Scopes of a token are not read."""
    namespace = repo_id.split("/")[0]
    yours = [who["name"], *(org["name"] for org in who.get("orgs", []) if org.get("roleInOrg") != "read")]
    if namespace not in yours:
        raise HubError(
            f"{repo_id}: {who['name']} may not write to {namespace}; possible: {', '.join(yours)} (hub_model_id)"
        )


def _check_card(api: HfApi, content: str) -> None:
    """Whether the Hub takes the metadata. RepoCard.validate asks another Hub: that of HF_ENDPOINT at import."""
    answer = get_session().post(
        f"{api.endpoint}/api/validate-yaml",
        json={"content": content, "repoType": "model"},
        headers=build_hf_headers(token=api.token),
    )
    if answer.status_code == 400:
        errors = [error.get("message", "") for error in answer.json().get("errors", [])]
        raise HubError(f"the Hub refuses the model card's metadata: {'; '.join(errors)}")
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
        with staged(output_dir, known_secrets(args)) as folder, client_timeout(READ_TIMEOUT):
            smoke_test(folder, predictions, args.model_name_or_path)
            _remember(output_dir, target.repo_id, target.parent)
            publication = Publication(api, target, folder, args)
            commit = until(publication.attempt, RETRY_SECONDS, api)
    except (RunError, HubError) as error:
        command = retry_command(output_dir, args, target)
        raise type(error)(
            f"not published: {error}; the run's files are in {output_dir}; to try again: {command}"
        ) from error
    _remember(output_dir, target.repo_id, commit)
    url = f"{api.endpoint}/{target.repo_id}/commit/{commit}"
    logger.info("%s: %s", "published" if publication.is_new else "already published", url)
    return url


def retry_command(output_dir: Path, args: Arguments, target: PublishTarget) -> str:
    """The command line of a publish-only run."""
    command = ["python", "run_glue.py", "--push_to_hub", "--output_dir", str(output_dir)]
    private = ["--hub_private_repo"] if args.hub_private_repo else []
    return shlex.join([*command, "--hub_model_id", target.repo_id, *private])


def _remember(output_dir: Path, repo_id: str, commit: str | None) -> None:
    if commit is not None:
        with contextlib.suppress(OSError):  # a folder that cannot be written to can still be published
            seen = {**read_json(output_dir / STATE_FILE), repo_id: commit}
            (output_dir / STATE_FILE).write_text(json.dumps(seen, indent=2) + "\n", "utf-8")
