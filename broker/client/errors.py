"""What a call to the broker can come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

_CUT_OFF = frozenset(
    {"grant_revoked", "key_revoked", "lease_over", "organization_revoked", "unknown_lease", "workload_revoked"}
)
_OURS = "urn:keybroker:problem:"


class CallFailed(Exception):
    """The broker said no, or gave no answer; the text says what to do.

    ``code`` is stable, ``status`` None where no answer came, ``problem`` the whole of it (RFC 9457), and
    ``retry_after`` the seconds that the broker asked to be left alone.
    """

    def __init__(
        self,
        text: str,
        *,
        code: str = "unknown",  # what is copied or pickled is made without it
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.problem = dict(problem or {})
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same call may do better shortly: no answer came, or the broker couldn't just then."""
        return self.code == "unreachable" or self.status == 429 or (self.status or 0) >= 500


class AccessDenied(CallFailed):
    """Policy doesn't allow this (403); the text says what would."""


class AccessEnded(CallFailed):
    """What was allowed before was cut off or is over: the lease, or what it relied on."""


class OutsideUpstream(Exception):
    """A request for another place than the upstream; it was not sent, and neither was the lease's token."""


class Answer(Protocol):
    """What the answers of requests, httpx and httpx2 have in common."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in any case."""
        ...

    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body, read."""
        ...


def raise_for_problem(response: Answer) -> None:
    """Raise the broker's own refusal of a proxied call; what the upstream answered passes.

    Args:
        response: of requests, httpx or httpx2; a streamed one must have been read.

    Raises:
        AccessDenied: policy refused this call. AccessEnded: the access was cut off or is over.
        CallFailed: another refusal or trouble of the broker.
    """
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/problem+json":
        return
    body = _object(response)
    if body is not None and str(body.get("type")).startswith(_OURS):  # an upstream may have problems of its own
        raise _failure(response, body)


def answer(response: Answer) -> dict[str, Any]:
    """The JSON of a good answer.

    Raises:
        CallFailed: carries the problem (RFC 9457) or OAuth error that came instead.
    """
    body = _object(response)
    if body is None:
        text = f"The answer ({response.status_code}) is not the broker's; check the address."
        raise CallFailed(
            text, code="not_a_broker", status=response.status_code, retry_after=_retry_after(response.headers)
        )
    if not 200 <= response.status_code < 300:
        raise _failure(response, body)
    return body


def unreachable(url: str, error: httpx2.HTTPError) -> CallFailed:
    """No answer at all from ``url``."""
    return CallFailed(
        f"No answer from {url} ({type(error).__name__}); does it run there? BROKER_URL names another place.",
        code="unreachable",
    )


def outside(url: str, base: str) -> OutsideUpstream:
    """The refusal of a request for ``url``, not below ``base``; it tells the origin only."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return OutsideUpstream(
        f"The request is for {place}, not below {base}: it was not sent, and neither was the lease's token. "
        "Call other places with a client of their own."
    )


def _object(response: Answer) -> dict[str, Any] | None:
    """The body; None where it isn't a JSON object."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _failure(response: Answer, body: Mapping[str, Any]) -> CallFailed:
    code = str(body.get("code") or body.get("error") or "unknown")
    text = str(body.get("detail") or body.get("error_description") or body.get("title") or "The broker said no.")
    kind = AccessEnded if code in _CUT_OFF else AccessDenied if response.status_code == 403 else CallFailed
    return kind(
        text,
        code=code,
        status=response.status_code,
        problem=body,
        retry_after=_retry_after(response.headers),
    )


def _retry_after(headers: Mapping[str, str]) -> int:
    value = headers.get("retry-after", "")
    return int(value) if value.isdecimal() else 0
