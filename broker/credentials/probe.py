"""Ask an upstream whether a key works: its provider's verification request."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import structlog

from broker.audit.events import AuditTarget, Fields, Outcome
from broker.base.clock import Millis
from broker.base.outbound import Outbound, Unreachable, Untrusted
from broker.base.secret import Secret
from broker.providers.definition import Definition
from broker.providers.identity import evidence
from broker.providers.retry_after import OUTAGES, asked_of, pause_of
from broker.wire.client import Answer as Received
from broker.wire.client import Unreadable

_log = structlog.get_logger()
_BODY_MAX = 1_048_576


class Answer(StrEnum):
    """What the upstream said about the key."""

    GOOD = "good"
    BAD_KEY = "bad_key"
    UNREACHABLE = "unreachable"  # an outage, a limit or nonsense, which says nothing about the key


@dataclass(frozen=True, slots=True)
class Probed:
    """One verification request and what came of it; ``ids`` are those the upstream returned.

    ``whole`` is False if there were more ids than were read.  ``cooldown`` is for how many seconds the upstream wants
    no calls with this key.  ``too_fast`` says that it refused for its rate.  ``distrust`` is why its certificate isn't
    trusted.  ``leak_fingerprint`` is what the key is recognised by where it should not be: it is for keys that were
    received before there were such fingerprints.  ``commitment`` is to the key (:mod:`broker.formats.certificate`), if
    that was asked for and the upstream refuses the key.
    """

    answer: Answer
    outcome: Outcome
    ids: frozenset[str] = frozenset()
    cooldown: float = 0.0
    too_fast: bool = False
    distrust: str = ""
    leak_fingerprint: str = ""
    commitment: bytes = b""
    whole: bool = True

    def event_fields(self) -> Fields:
        """What the event that closes the probe says of it."""
        return {"reason": self.answer, "outcome": self.outcome, "note": self.distrust}


class Request(NamedTuple):
    """One small request to an upstream, without the key.

    ``path`` is below the provider's base.  ``body`` is sent as JSON.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None


def verifying(definition: Definition) -> Request:
    """The declared request that verifies a key."""
    return Request(definition.verify.method, definition.verify.path)


def target(definition: Definition, variables: Mapping[str, str], request: Request) -> AuditTarget:
    """What will be asked, for the record, without the key."""
    url = urlsplit(definition.url(variables) + request.path)
    return AuditTarget(url.hostname or "", request.method, url.path)


class Exchange(NamedTuple):
    """One request with a key and what came of it; ``status`` is None if no answer came.

    ``cooldown`` is for how many seconds the upstream wants no more calls.  ``too_fast`` says that it refused for its
    rate.  ``distrust`` is why its certificate isn't trusted, and "" if it is or nobody knows.  ``whole`` is False if
    the answer was longer than what is read of one; ``body`` then is its beginning.
    """

    status: int | None
    body: bytes
    outcome: Outcome
    cooldown: float = 0.0
    too_fast: bool = False
    distrust: str = ""
    whole: bool = True


async def exchange(
    outbound: Outbound,
    definition: Definition,
    variables: Mapping[str, str],
    key: Secret,
    request: Request,
    *,
    now: Millis,
) -> Exchange:
    """One small request with ``key``.  Its event must be durable before this is called."""
    placement = definition.place(key)
    url = definition.url(variables) + request.path
    if placement.query:
        url += ("&" if "?" in url else "?") + urlencode(placement.query)
    headers = [("Accept-Encoding", "identity"), *definition.required_headers.items(), *placement.headers]
    if request.body is not None:
        headers.append(("Content-Type", "application/json"))
    sent = None if request.body is None else json.dumps(request.body).encode()
    started = time.monotonic()
    try:
        host = definition.host
        async with outbound.call(
            request.method, url, headers=headers, body=sent, private=host.private, tls=host.tls
        ) as response:
            answer, whole = await _bounded(response)
            said = (definition.retry, response.status, response.headers, now)
            too_fast = asked_of(*said) is not None and response.status not in OUTAGES
            outcome = Outcome(response.status, _ms_since(started), bytes_in=len(answer), bytes_out=len(sent or b""))
            return Exchange(response.status, answer, outcome, pause_of(*said), too_fast, whole=whole)
    except Untrusted as error:
        _log.warning("upstream.not_trusted", provider=definition.id, why=str(error))
        return Exchange(None, b"", Outcome(None, _ms_since(started)), distrust=f"certificate not trusted: {error}")
    except (Unreachable, Unreadable):
        return Exchange(None, b"", Outcome(None, _ms_since(started)))


async def probe(
    outbound: Outbound, definition: Definition, variables: Mapping[str, str], key: Secret, now: Millis
) -> Probed:
    """Send the verification request with ``key``; its event must be durable before."""
    # submission (12) the upstream is asked
    verify = definition.verify
    done = await exchange(outbound, definition, variables, key, verifying(definition), now=now)
    if done.status in verify.good:
        ids, whole = evidence(definition, done.body)
        return Probed(Answer.GOOD, done.outcome, ids, whole=whole and (done.whole or definition.identity is None))
    bad_key = done.status in verify.bad_key and not done.too_fast
    answer = Answer.BAD_KEY if bad_key else Answer.UNREACHABLE
    return Probed(answer, done.outcome, cooldown=done.cooldown, too_fast=done.too_fast, distrust=done.distrust)


async def _bounded(response: Received) -> tuple[bytes, bool]:
    """The answer, and whether that is all of it."""
    body = bytearray()
    async for chunk in response.chunks():
        body += chunk
        if len(body) > _BODY_MAX:
            return bytes(body[:_BODY_MAX]), False
    return bytes(body), True


def _ms_since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
