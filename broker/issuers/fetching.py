"""A document of an issuer, fetched within bounds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.base.outbound import Outbound, Unreachable
from broker.issuers import strict_json
from broker.issuers.declared import Declared
from broker.wire.client import Answer, Unreadable

_SECONDS: Final = 5
_BYTES_MAX: Final = 262_144
_DEPTH_MAX: Final = 32
_HEADERS: Final = (("Accept", "application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "keybroker"))
_MAX_AGE: Final = re.compile(r"(?:^|[ ,])max-age=([0-9]{1,9})(?:$|[ ,])")


class NotHad(Exception):
    """No usable answer came; the text says why, in words of ours."""


@dataclass(frozen=True, slots=True)
class Told:
    """An issuer's answer: its status, the object in it, and how many seconds that is good."""

    status: int
    document: Mapping[str, Any]
    max_age: int | None


async def get(outbound: Outbound, issuer: Declared, url: str, headers: Sequence[tuple[str, str]] = ()) -> Told:
    """What ``url`` answers, which has to be well.

    Raises:
        NotHad: it isn't one of the issuer's hosts, or nothing usable came in time.
    """
    told = await _ask(outbound, issuer, "GET", url, headers, None)
    if told.status != 200:
        raise NotHad(f"it answered {told.status}")
    return told


async def read(file: Path) -> Told:
    """What a file has that stands for an issuer's answer; raises NotHad."""
    try:
        data = await asyncio.to_thread(_start_of, file)
        return Told(200, strict_json.read(data, _DEPTH_MAX), None)
    except OSError as error:
        raise NotHad(f"{file}: {error.strerror}") from None
    except strict_json.NotPlain:
        raise NotHad(f"{file}: is no plain JSON object of at most {_BYTES_MAX} bytes") from None


def _start_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_BYTES_MAX + 1)[:_BYTES_MAX]


async def post(outbound: Outbound, issuer: Declared, url: str, headers: Sequence[tuple[str, str]], form: bytes) -> Told:
    """What ``url`` answers to a form, whatever its status; raises as :func:`get`."""
    fields = [("Content-Type", "application/x-www-form-urlencoded"), *headers]
    return await _ask(outbound, issuer, "POST", url, fields, form)


async def _ask(
    outbound: Outbound, issuer: Declared, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes | None
) -> Told:
    if not issuer.trusts(url):
        raise NotHad("it names a host that isn't its own; `hosts` would have to list that")
    try:
        asking = outbound.unlimited(
            method,
            url,
            headers=[*_HEADERS, *await _bearer(issuer, url), *headers],
            body=body,
            private=issuer.private,
            tls=issuer.tls,
        )
        async with asyncio.timeout(_SECONDS), asking as answer:
            document = strict_json.read(await _body(answer), _DEPTH_MAX)
    except TimeoutError:
        raise NotHad(f"no answer came within {_SECONDS} s") from None
    except Unreachable as error:
        raise NotHad(f"it can't be reached ({error})") from None
    except (Unreadable, strict_json.NotPlain):
        raise NotHad("its answer is no plain JSON object") from None
    return Told(answer.status, document, _max_age(answer))


async def _bearer(issuer: Declared, url: str) -> Sequence[tuple[str, str]]:
    """The issuer's own bearer token, as its file has it now.

    There is none for a host that nobody declared.
    """
    if issuer.bearer_file is None or not issuer.knows(url):
        return ()
    try:
        found = (await asyncio.to_thread(issuer.bearer_file.read_text, "ascii")).strip()
    except (OSError, ValueError):
        raise NotHad(f"{issuer.bearer_file}: can't be read") from None
    return [("Authorization", f"Bearer {found}")]


async def _body(answer: Answer) -> bytes:
    body = bytearray()
    async for part in answer.chunks():
        body += part
        if len(body) > _BYTES_MAX:
            raise NotHad(f"its answer is longer than {_BYTES_MAX} bytes")
    return bytes(body)


def _max_age(answer: Answer) -> int | None:
    found = _MAX_AGE.search(answer.headers.get("Cache-Control", "").lower())
    return int(found[1]) if found else None
