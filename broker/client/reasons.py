"""The broker's reason in what an HTTP client's ``raise_for_status()`` says.

That names the status and its phrase, so a refusal read ``403 Forbidden`` and no more.  A refusal of the broker's own is
known by a header that no upstream's answer can have.  Other answers are neither read nor changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import httpx2

from broker.client.errors import printable

_HEADER = "x-broker-problem"
_LONGEST = 400
_LARGEST = 65_536


class Reasoned(Protocol):
    """An answer of requests or aiohttp: what these have in common."""

    reason: Any

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in any case."""
        ...


def has_text(headers: Mapping[str, str]) -> bool:
    """Whether the answer is a refusal of the broker's own whose text is worth reading."""
    length = headers.get("content-length", "")
    small = length.isdecimal() and 0 < int(length) <= _LARGEST
    return _HEADER in headers and small and "content-encoding" not in headers


def tell_requests(response: Any, **_options: object) -> None:  # noqa: ANN401 - of a library that may not be here
    """A hook of requests: put the reason into the answer."""
    tell(response, response.content if has_text(response.headers) else b"")


def tell(response: Reasoned, content: bytes = b"") -> None:
    """Put the reason into an answer of requests or aiohttp.

    ``content`` is what was read of it.
    """
    if _HEADER in response.headers:
        response.reason = _phrase(str(response.reason or ""), response.headers[_HEADER], content)


def extensions(response: httpx2.Response, content: bytes = b"") -> dict[str, Any]:
    """The extensions of an answer of httpx2, with the reason among them.

    ``content`` is what was read of it.
    """
    if _HEADER not in response.headers:
        return response.extensions
    phrase = _phrase(response.reason_phrase, response.headers[_HEADER], content)
    return {**response.extensions, "reason_phrase": phrase.encode("ascii")}


def _phrase(usual: str, code: str, content: bytes) -> str:
    """A status's usual phrase with the refusal's code, and its text if that was read."""
    try:
        detail = str(json.loads(content)["detail"])
    except (ValueError, LookupError, TypeError):
        detail = ""
    reason = printable(f"{code}: {detail}" if detail else code, _LONGEST)
    return usual if reason in usual else f"{usual} ({reason})"
