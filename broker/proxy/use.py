"""What a job asks to be forwarded, and the use that comes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import bindparam, update

from broker.audit.events import Event, Outcome
from broker.audit.log import Write
from broker.audit.quota import GIVE_BACK
from broker.base.db import table
from broker.formats import ids
from broker.leases.snapshot import SealedKey
from broker.leases.tables import UseRow
from broker.providers.definition import Definition
from broker.proxy.payload import Body


@dataclass(slots=True)
class Tries:
    """How often a request was sent."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a job asks to be forwarded.

    ``raw_path`` and ``raw_query`` are as received, still encoded: the path empty where the base URL itself is called
    without a slash, the query None where there is no ``?``.  ``proxy_url`` is the proxy's base URL for this
    organization and provider, and ``id`` ties the tries of one request together on the record.  With ``once`` the job
    wants it sent once at most.
    """

    organization: str
    provider: str
    method: str
    raw_path: bytes
    raw_query: str | None
    headers: Sequence[tuple[str, str]]
    body: Body
    proxy_url: str
    id: str
    once: bool = False
    tries: Tries = field(default_factory=Tries)

    @property
    def query(self) -> str:
        """The query; empty also where there is none."""
        return self.raw_query or ""


@dataclass(slots=True)
class Use:
    """A use that is on the record, and what comes of it.

    ``fallback`` is the previous key, where a rotation's grace window still holds it.  ``taken`` is the number of
    uses that this one was taken from, "" where the grant has none; ``opened`` says that it can't be given back.
    ``retries`` says whether grant and provider let a call be tried again.
    ``asked`` is for how many seconds upstream wants no more calls, None where its answer isn't about its rate; nobody
    calls it for ``pause`` of them.
    """

    authorized: Event
    definition: Definition
    key: SealedKey
    fallback: SealedKey | None
    path: str
    taken: str = ""
    retries: bool = True
    opened: bool = False
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    upstream_id: str = ""
    sent: int = 0
    received: int = 0
    asked: float | None = None
    pause: float = 0.0
    reason: str = ""

    @property
    def refused(self) -> bool:
        """Whether upstream refused the key; an answer about its rate says nothing of the key."""
        return self.asked is None and self.status in self.definition.verify.bad_key

    def outcome(self) -> Outcome:
        """For the record, as far as it has come."""
        elapsed = int((time.monotonic() - self.started) * 1000)
        return Outcome(self.status, elapsed, self.received, self.sent, self.upstream_id)


COMPLETE_USE = (
    update(table(UseRow))
    .where(UseRow.id == bindparam("use"), UseRow.completed_at.is_(None))
    .values(completed_at=bindparam("at"), status=bindparam("answer"))
)


def given_back(taken: str) -> list[Write]:
    """The write that gives a use back for which no key was opened."""
    return [(GIVE_BACK, {"taken": taken})] if taken else []


def completed(authorized: Event, time: int, *, reason: str, outcome: Outcome | None = None) -> Event:
    """The event that closes a use, after the one that authorized it; ``time`` in milliseconds."""
    return replace(
        authorized, id=ids.new("evt"), kind="use.completed", time=time, outcome=outcome, reason=reason, target=None
    )
