"""Speaking with the Hub: whose token, how long to wait, when to try again, and what to say when it ends."""

import json
import logging
import os
import re
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import huggingface_hub
from huggingface_hub import HfApi, close_session, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from distilbart_mnli.errors import HubError
from distilbart_mnli.hub_client import TRANSIENT_STATUS
from distilbart_mnli.options.fields import Arguments

logger = logging.getLogger(__name__)

TOKEN_SETTINGS = "https://huggingface.co/settings/tokens"

# All that the Hub's client raises: its own errors are httpx2's or OSErrors; hf_xet's are ConnectionError (network, but
# also 401, 403 and 404) and RuntimeError; bad metadata and a refused LFS batch are ValueErrors.
CLIENT_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError, ValueError)
# What it raises where an answer is not the Hub's, {} or a list: it reads it without a look.
ODD_ANSWER = (LookupError, TypeError, AttributeError)

CLIENT_FOLDER = str(Path(huggingface_hub.__file__).parent)

Result = TypeVar("Result")


def connect(args: Arguments) -> HfApi:
    """The Hub as the token's owner. Raises HubError without a token."""
    try:
        token = args.hub_token or get_token()
    except CLIENT_ERRORS as error:  # an expired login that could not be renewed
        raise HubError(f"no token for the Hub: {str(error)[:200]}") from error
    if not token:
        raise HubError("not logged in to the Hub: `hf auth login`, or set HF_TOKEN")
    # HF_ENDPOINT as it is now, and as huggingface_hub takes it, which reads it once, when it is imported.
    return HfApi(endpoint=(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/"), token=token)


def until(call: Callable[[], Result], seconds: float, api: HfApi) -> Result:
    """`call` until it succeeds; after a transient error again, 1, 2, 4, 8, 8, ... s or Retry-After later.

    Raises:
        HubError: another error, or the next attempt would begin after `seconds`.
    """
    start, wait = time.monotonic(), 1.0
    while True:
        try:
            return call()
        except ODD_ANSWER as error:
            frames = traceback.extract_tb(error.__traceback__)
            if not any(frame.filename.startswith(CLIENT_FOLDER) for frame in frames):
                raise  # a fault of ours
            reason = f"{type(error).__name__}: {error}"
            raise HubError(f"{api.endpoint} answers otherwise than the Hub ({reason})") from error
        except CLIENT_ERRORS as error:
            reason = _reason(error, api)
            pause = max(wait, _retry_after(error))
            if not _is_transient(error):
                raise HubError(reason) from error
            if time.monotonic() - start + pause > seconds:
                raise HubError(f"{reason} (tried for {time.monotonic() - start:.0f} s)") from error
            logger.warning("%s; trying again in %.0f s", reason, pause)
        time.sleep(pause)
        wait = min(wait * 2, 8.0)


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """`call`, if it is done in time. The client's own limits are for silence: of a byte a second it never tires.

    Raises:
        TimeoutError: it is not; its connection is closed.
    """
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((None, call()))
        except BaseException as error:  # raised again below, by the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        close_session()
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    if outcome[0] is not None:
        raise outcome[0]
    return outcome[1]


def _chain(error: BaseException) -> list[BaseException]:
    """The error, its cause, the cause of that, ..."""
    return [error, *(_chain(error.__cause__) if error.__cause__ else [])]


def _answer(error: BaseException) -> HfHubHTTPError | None:
    """What the Hub answered, where that is behind an error."""
    return next((cause for cause in _chain(error) if isinstance(cause, HfHubHTTPError)), None)


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error; hf_xet hides it in a text."""
    if answer := _answer(error):
        return answer.response.status_code
    found = re.search(r"\((4\d\d|501) ", str(error)) if isinstance(error, ConnectionError) else None
    return int(found[1]) if found else None


def _retry_after(error: BaseException) -> float:
    answer = _answer(error)
    value = answer.response.headers.get("Retry-After", "") if answer else ""
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else 0.0


def has_no_xet(error: BaseException) -> bool:
    """Whether a server that knows nothing of xet storage answered: hf_xet hides the status in a text."""
    return isinstance(error, ConnectionError) and _status(error) in (404, 405, 501) and "/xet-" in str(error)


def _is_transient(error: BaseException) -> bool:
    status = _status(error)
    if isinstance(error, RecursionError):  # an answer of a hundred thousand brackets
        return False
    if isinstance(error, RuntimeError):
        # An upload that failed halfway. What arrived damaged is refused with some 4xx, and goes well the next time.
        return status not in (401, 403)
    if status is not None:
        return status in TRANSIENT_STATUS
    if isinstance(error, OfflineModeIsEnabled):
        return False
    # JSONDecodeError: a page of the network's (a proxy, a login) where an answer was expected.
    return isinstance(error, json.JSONDecodeError | httpx2.TransportError | ConnectionError | TimeoutError)


def _reason(error: BaseException, api: HfApi) -> str:
    """One line without the token; what else a server says is made visible where it is shown (errors.py, logs)."""
    status, answer = _status(error), _answer(error)
    text = str(_chain(error)[-1])[:300]
    if answer:
        said = answer.server_message or answer.response.reason_phrase
        text = f"{said[:300]} ({answer.response.request.method} {answer.response.request.url.path})"
    if isinstance(error, OfflineModeIsEnabled):
        text = "HF_HUB_OFFLINE is set, so nothing can be published"
    elif status == 401:
        text = "the Hub does not accept the token (401): wrong, expired or revoked; `hf auth login`, or set HF_TOKEN"
    elif status == 403:
        text = f"the Hub forbids it (403): the token lacks the right to write there; see {TOKEN_SETTINGS}"
    elif status is not None:
        text = f"the Hub answered {status}: {text}"
    elif isinstance(error, json.JSONDecodeError):
        text = f"{api.endpoint} answered with something else than JSON: is there a login page in between?"
    elif isinstance(error, httpx2.TransportError | ConnectionError | TimeoutError):
        text = f"{api.endpoint} cannot be reached: {text or type(error).__name__}"
    else:
        text = f"{api.endpoint}: {text or type(error).__name__}"
    return " ".join(text.replace(str(api.token), "***").split())
