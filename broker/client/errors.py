"""What a call to the broker can come to."""

from __future__ import annotations

from typing import Any

import httpx2


class CallFailed(Exception):
    """The broker said no, or gave no answer; the text says what to do.  ``code`` is stable."""

    def __init__(
        self, text: str, *, code: str, status: int | None = None, problem: dict[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.problem = problem or {}


def answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON of a good answer.

    Raises:
        CallFailed: carries the problem (RFC 9457) or OAuth error that came instead.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = f"The answer ({response.status_code}) is not the broker's; check the address."
        raise CallFailed(text, code="not_a_broker", status=response.status_code)
    if response.is_success:
        return body
    code = str(body.get("code") or body.get("error") or "unknown")
    text = str(body.get("detail") or body.get("error_description") or body.get("title") or "The broker said no.")
    raise CallFailed(text, code=code, status=response.status_code, problem=body)


def unreachable(url: str, error: httpx2.HTTPError) -> CallFailed:
    """No answer at all from ``url``."""
    return CallFailed(
        f"No answer from {url} ({type(error).__name__}); does it run there? BROKER_URL names another place.",
        code="unreachable",
    )
