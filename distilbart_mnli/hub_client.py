"""The client of the Hub, within limits: for silence, and for how long a server may tell it to wait.

    with bounded_client():      # around all that huggingface_hub, transformers and datasets ask of the Hub
        tokenizer = AutoTokenizer.from_pretrained(name)

huggingface_hub has no limit for silence. When it asks again, it first sleeps for as long as the answer said, in
Retry-After or RateLimit: for a year, if need be. What does not fit the limit is kept from it here, and it waits as it
does without: five times, 23 s in all.
"""

import contextlib
import math
import re
from collections.abc import Iterator

import httpx2
from huggingface_hub import get_session, set_client_factory

TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)  # those that huggingface_hub itself retries, where it does
READ_TIMEOUT = 120.0  # seconds without one byte
WAITING_SECONDS = 300.0  # that a server may ask for, all answers together: the window of the Hub's own rate limits


@contextlib.contextmanager
def bounded_client(read_seconds: float = READ_TIMEOUT) -> Iterator[None]:
    """Inside, the Hub's client has these limits; may be nested."""
    before = get_session()
    hooks, timeout = before.event_hooks, before.timeout  # the client's own: offline mode, an id for each request
    left = WAITING_SECONDS

    def drop_long_waits(response: httpx2.Response) -> None:
        nonlocal left
        if response.status_code in TRANSIENT_STATUS:
            asked = _seconds_asked_for(response.headers)
            if asked <= left:
                left -= asked
            else:
                for name in ("Retry-After", "RateLimit"):
                    response.headers.pop(name, None)

    limited = {**hooks, "response": [*hooks["response"], drop_long_waits]}
    _use(limited, httpx2.Timeout(read_seconds, connect=10.0))
    try:
        yield
    finally:
        _use(hooks, timeout)


def _use(hooks: dict, timeout: httpx2.Timeout) -> None:
    set_client_factory(lambda: httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=timeout))


def _seconds_asked_for(headers: httpx2.Headers) -> float:
    """What the client would wait, 0 if nothing is said; infinite where it would stumble over what is: "²"."""
    after = re.fullmatch(r"\s*(\d{1,6})\s*", headers.get("Retry-After", "0"), re.ASCII)
    reset = re.search(r"\bt\s*=\s*(\d{1,6})\b", headers.get("RateLimit", "t=0"), re.ASCII)
    return max(float(found[1]) if found else math.inf for found in (after, reset))
