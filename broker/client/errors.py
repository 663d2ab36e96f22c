"""How a call to the broker can end: with its answer, its refusal, another's answer, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx2

_CUT_OFF = frozenset(
    {
        "grant_revoked",
        "key_revoked",
        "lease_over",
        "organization_revoked",
        "trust_over",
        "unknown_lease",
        "workload_revoked",
    }
)
_OURS = "urn:keybroker:problem:"
_NOT_THE_BROKERS = frozenset({"unreachable", "not_a_broker", "another_answer", "platform_unreachable"})
# The broker's text tells its own time, so the reader can compare.
_BY_THE_CLOCK = frozenset({"invalid_client", "token_over", "token_not_yet"})


class CallFailed(Exception):
    """The broker said no, or gave no answer; the text says what to do.

    ``code`` is stable.  ``status`` is None if no answer came.  ``problem`` is the whole answer (RFC 9457).
    ``retry_after`` is for how many seconds the broker asked to be left alone.
    """

    def __init__(
        self,
        text: str,
        *,
        code: str = "unknown",  # copy and pickle make an error without a code
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
        """Whether the same call may do better shortly.

        It may if the broker couldn't answer just then, or if this isn't the broker's answer.  Only the broker ends
        access: whatever stands between says nothing about that, whatever its status.
        """
        return self.code in _NOT_THE_BROKERS or self.status == 429 or (self.status or 0) >= 500


class AccessDenied(CallFailed):
    """Policy doesn't allow this (403); the text says what would."""


class AccessEnded(CallFailed):
    """The lease, or something that it relied on, was cut off or has ended."""


class OutsideUpstream(Exception):
    """A request for another place than the upstream.

    Neither the request nor the lease's token was sent.
    """


class Answer(Protocol):
    """An answer of requests, httpx or httpx2: what these have in common."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in any case."""
        ...

    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body, read as JSON."""
        ...


def raise_for_problem(response: Answer) -> None:
    """Raise the broker's own refusal of a proxied call; what the upstream answered passes.

    Args:
        response: an answer of requests, httpx or httpx2; a streamed one must have been read.

    Raises:
        AccessDenied: policy refused this call. AccessEnded: the access was cut off or has ended.
        CallFailed: another refusal or trouble of the broker.
    """
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/problem+json":
        return
    body = _object(response)
    if body is not None and str(body.get("type")).startswith(_OURS):  # an upstream may answer with problems of its own
        raise _failure(response, body)


def answer(response: Answer) -> dict[str, Any]:
    """The JSON of a good answer.

    Raises:
        CallFailed: carries the problem (RFC 9457) that came instead, or says who answered in the broker's place.
    """
    body = _object(response)
    if body is not None and 200 <= response.status_code < 300:
        return body
    if body is not None and str(body.get("type")).startswith(_OURS):
        raise _failure(response, body)
    raise _somebody_else(response)


def token_answer(response: Answer) -> dict[str, Any]:
    """The same as :func:`answer`, for the token endpoint.

    That refuses as OAuth does (RFC 6749 §5.2).
    """
    body = _object(response)
    if body is not None and response.status_code in {400, 401} and isinstance(body.get("error"), str):
        raise _failure(response, body)
    return answer(response)


def another_answer(what: str) -> CallFailed:
    """The error for a good answer to another question; ``what`` names the field that shows it."""
    return CallFailed(
        f"The answer is not the one to this call: its {what} is missing or another's, so it was not used. "
        "Look for a cache or gateway on the way that mixes answers up, and keep the broker as new as its client.",
        code="another_answer",
    )


def unreachable(url: str, error: httpx2.HTTPError, proxy: str | None = None, *, named_by: str) -> CallFailed:
    """The error if no answer came from ``url``, asked by way of ``proxy``.

    ``named_by`` is a sentence that says who named that address.
    """
    cause = printable(str(error)) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        text = f"The certificate of {url} is not trusted ({cause}); SSL_CERT_FILE names a private authority's."
    elif "[SSL" in cause:
        text = (
            f"What answers at {url} does not speak TLS as https:// needs it ({cause}); check the address, and its port."
        )
    elif url.startswith("http:") and type(error).__name__ in {"ReadError", "RemoteProtocolError"}:
        text = f"{url} ended the connection without an answer ({cause}); if it speaks TLS, write https:// before it."
    elif proxy is None:
        text = f"No answer from {url} ({cause}); does it run there? {named_by}"
    else:
        text = f"No answer from {url} by way of the proxy {_place(proxy)} ({cause}); does the proxy let this pass?"
    return CallFailed(text, code="unreachable")


def outside(url: str, base: str) -> OutsideUpstream:
    """The refusal of a request for ``url``, which isn't below ``base``.

    Its text tells only the origin.
    """
    return OutsideUpstream(
        f"The request is for {_place(url)}, not below {base}: it was not sent, and neither was the lease's token. "
        "Call other places with a client of their own."
    )


def _object(response: Answer) -> dict[str, Any] | None:
    """The body; None if it isn't a JSON object."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _somebody_else(response: Answer) -> CallFailed:
    """The error for an answer that isn't the broker's: its text says whose it may be."""
    shows = [response.headers.get("content-type", "").partition(";")[0]]
    shows += [f"{name}: {value}" for name in ("server", "via") if (value := response.headers.get(name))]
    if location := response.headers.get("location"):
        shows.append(f"leads to {_place(location)}")
    seen = ", ".join([str(response.status_code), *(printable(shown) for shown in shows if shown)])
    need = "It wants a sign-in of its own (407). " if response.status_code == 407 else ""
    return CallFailed(
        f"The answer ({seen}) is not the broker's: that is no Keybroker, or a proxy, gateway or sign-in page answered "
        f"in its place. {need}Check the address with its scheme, and what stands on the way to it.",
        code="not_a_broker",
        status=response.status_code,
        retry_after=_retry_after(response.headers),
    )


def printable(text: str, longest: int = 100) -> str:
    """A stranger's text, fit for a terminal."""
    return re.sub(r"[^ -~]", "?", text)[:longest]


def _place(url: str) -> str:
    """The origin of a URL: no path, no query, no password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that can't be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "a path of its own"


def _failure(response: Answer, body: Mapping[str, Any]) -> CallFailed:
    code = str(body.get("code") or body.get("error") or "unknown")
    text = str(body.get("detail") or body.get("error_description") or body.get("title") or "The broker said no.")
    if code in _BY_THE_CLOCK:
        text += f" This machine's clock reads {datetime.now(UTC).isoformat(timespec='milliseconds')[:-6]}Z."
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
