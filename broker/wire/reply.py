"""Answers as bytes: heads, and problems in an application's place.  Pure."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Final

from broker.wire.framing import TOKEN, Field
from broker.wire.request import Refused

_LETTERS: Final = re.compile(b"(?:" + TOKEN.pattern + b")?")  # of names put together
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


def problem_of(refused: Refused, default: list[Field], *, head_only: bool) -> bytes:
    """The whole of a problem (RFC 9457), after which the connection ends."""
    body = json.dumps(
        {
            "type": f"urn:keybroker:problem:{refused.code}",
            "title": refused.title,
            "status": refused.status,
            "detail": refused.detail,
            "code": refused.code,
        }
    ).encode()
    fields = [
        *default,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    return head_of(refused.status, fields) + (b"" if head_only else body)


def head_of(status: int, fields: list[Field]) -> bytes:
    """An answer's head.

    Raises:
        RuntimeError: fields would not be read as they are meant.
    """
    names = [name for name, _ in fields]
    if not all(names) or _LETTERS.fullmatch(b"".join(names)) is None:
        raise RuntimeError("a field's name is not a token")
    first = b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))
    head = b"".join([first, *[b"%b: %b\r\n" % field for field in fields], b"\r\n"])
    lines = len(fields) + 2
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise RuntimeError("a field's value holds a line break or NUL")
    return head
