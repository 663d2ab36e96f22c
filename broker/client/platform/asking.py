"""A question to the platform: bounded, straight, and answered by the one that is asked.

No redirect is followed and no proxy is used, as what goes out opens something and what comes back does, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx2

from broker.client.errors import CallFailed, printable
from broker.client.platform.source import no_token

_TIMEOUT_S: Final = 5.0
_WHOLE_S: Final = 10.0
_ANSWER_MAX: Final = 64 * 1024
# A busy platform asks for another try; what is over after a second is none of the job's trouble.
_PAUSES_S: Final = (0.25, 0.75)


@dataclass(frozen=True, slots=True)
class Place:
    """Who is asked, and what to do if they say no: ``name`` begins a sentence, ``fix`` is one."""

    name: str
    fix: str

    def refused(self, status: int) -> CallFailed:
        """The error if the answer is none."""
        return no_token(f"{self.name} answered {status} and gave no token. {self.fix}")


def text(url: str, headers: Mapping[str, str], place: Place) -> str:
    """The body of a good answer.

    Raises:
        CallFailed: ``no_platform_token`` if the answer is no, ``platform_unreachable`` if none came.
    """
    for pause in (*_PAUSES_S, None):
        try:
            status, body = _once(url, headers, place)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            trouble = f"no answer came ({printable(str(error)) or type(error).__name__})"
        else:
            if status == HTTPStatus.OK:
                return body.decode("utf-8", "replace")
            if status != HTTPStatus.TOO_MANY_REQUESTS and status < 500:
                raise place.refused(status)
            trouble = f"it answered {status}"
        if pause is not None:
            time.sleep(pause)
    raise CallFailed(
        f"{place.name} was asked for a token three times, and {trouble}. {place.fix}", code="platform_unreachable"
    )


def member(url: str, headers: Mapping[str, str], place: Place, name: str) -> str:
    """The member of that name of an answer in JSON; raises CallFailed as :func:`text`."""
    try:
        found: Any = json.loads(text(url, headers, place))
    except (ValueError, RecursionError):
        found = None
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, str):
        raise no_token(f"{place.name} answered without a token. {place.fix}")
    return value


def _once(url: str, headers: Mapping[str, str], place: Place) -> tuple[int, bytes]:
    until = time.monotonic() + _WHOLE_S
    # A client with a transport of its own doesn't take a proxy from the environment.
    with (
        httpx2.Client(transport=httpx2.HTTPTransport(), timeout=_TIMEOUT_S) as client,
        client.stream("GET", url, headers={**headers, "Accept-Encoding": "identity"}) as answer,
    ):
        body = b""
        for piece in answer.iter_raw():
            body += piece
            if len(body) > _ANSWER_MAX:
                raise no_token(f"{place.name} answered with more than {_ANSWER_MAX // 1024} KiB, which is no token.")
            if time.monotonic() > until:
                raise TimeoutError(f"it was not whole after {_WHOLE_S:.0f} s")
        return answer.status_code, body
