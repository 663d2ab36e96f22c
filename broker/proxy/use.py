"""The call that a job asks for, from the edge to the record, and the use that comes of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec.structs import replace
from sqlalchemy import bindparam, delete, insert

from broker.audit.events import Actor, Event, Outcome
from broker.audit.log import Write
from broker.audit.quota import GIVE_BACK
from broker.base.clock import Millis
from broker.base.db import table
from broker.formats import ids
from broker.formats.ids import Reference, RequestId
from broker.identity.dpop.proof import Proof
from broker.identity.principal import Workload
from broker.leases.tables import UseRow
from broker.providers.definition import Definition
from broker.proxy import retry
from broker.proxy.plan import Plan, Way

# Those that go further; TRACE, CONNECT and invented ones don't.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# One that is read whole goes out in one piece, and lets an idempotent call be tried again.
READ_WHOLE_MAX = 65_536


@dataclass(frozen=True, slots=True)
class LeaseToken:
    """What a caller sent for a lease's token; nobody has looked yet whether it is one."""

    unverified: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WorkloadCaller:
    """A job that proved itself with its access token, and what it says the call is for.

    ``proof`` is that it holds the key that this token is bound to, None if it is to none.
    """

    workload: Workload
    label: str
    purpose: str
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it comes.

    ``length`` is what its framing declares: None if it doesn't, 0 if there is no body.
    """

    length: int | None
    chunks: AsyncIterator[bytes]

    @property
    def is_small(self) -> bool:
        """Whether it is read whole before the call is made."""
        return self.length is not None and self.length <= READ_WHOLE_MAX

    async def whole(self, came: Callable[[], None]) -> bytes:
        """All of it; ``came`` is called as each part comes."""
        parts = []
        if self.length != 0:
            async for chunk in self.chunks:
                came()
                parts.append(chunk)
        return b"".join(parts)


@dataclass(slots=True)
class Tries:
    """How often a call was sent.

    ``proof`` is what its first try uses up, None if nothing is left of that.
    """

    count: int = 0
    proof: Proof | None = None


class ProxiedCall(NamedTuple):
    """The call that a job asks for, and who asks.

    ``path`` and ``raw_query`` are as received, still encoded, and are sent as they are: the path empty if the base URL
    itself is called without a slash, the query None if there is no ``?``.  ``address`` and ``agent`` say from where
    the call came.  ``proxy_url`` is the proxy's base URL for this organization and provider, and ``id`` ties the tries
    of one call together on the record.  With ``once`` the job wants it sent once at most.
    """

    caller: LeaseToken | WorkloadCaller
    address: str
    agent: str
    organization: Reference
    provider: str
    method: str
    path: str
    raw_query: str | None
    headers: Sequence[tuple[str, str]]
    body: Body
    proxy_url: str
    id: RequestId
    once: bool
    tries: Tries

    @property
    def query(self) -> str:
        """The query; empty also if there is none."""
        return self.raw_query or ""

    def actor(self, workload: str, name: str = "") -> Actor:
        """The job as the record names it; ``name`` is its own, if that is known."""
        return Actor("workload", workload, name, self.address, self.agent)

    def is_repeatable(self) -> bool:
        """Whether it may be sent again if its answer is lost or says "not now".

        It costs a look at every header.
        """
        if not self.body.is_small or self.once:
            return False
        return retry.is_repeatable(self.method, (name for name, _ in self.headers))


class Job(Protocol):
    """Who asked for a call, and is handed the answer."""

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""
        ...

    async def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Begin the answer."""
        ...

    async def write(self, part: bytes) -> None:
        """Hand over the next part of its body; this waits while the job takes it slowly."""
        ...


@dataclass(slots=True)
class Use:
    """A use that is on the record, and what comes of it.

    It goes the ``way``; ``falls_back`` says that there is another one, of the previous key.  ``opened`` says that the
    use can't be given back.  ``asked`` is for how many seconds the upstream wants no more calls, None if its answer
    isn't about its rate.  Nobody calls it for ``pause`` of them.
    """

    authorized: Event
    plan: Plan
    way: Way
    falls_back: bool
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
    def definition(self) -> Definition:
        """The upstream's."""
        return self.plan.definition

    @property
    def refused(self) -> bool:
        """Whether the upstream refused the key; an answer about its rate says nothing of the key."""
        return self.asked is None and self.status in self.definition.verify.bad_key

    def outcome(self) -> Outcome:
        """For the record, as far as it has come."""
        elapsed = int((time.monotonic() - self.started) * 1000)
        return Outcome(self.status, elapsed, self.received, self.sent, self.upstream_id)


AUTHORIZE_USE = insert(table(UseRow))
COMPLETE_USE = delete(table(UseRow)).where(UseRow.id == bindparam("use"))


def use_row(authorized: Event) -> Mapping[str, object]:
    """The values of the use's row, for :data:`AUTHORIZE_USE`."""
    return {
        "id": authorized.use,
        "organization_id": authorized.organization,
        "lease_id": authorized.lease,
        "credential_id": authorized.credential,
        "version": authorized.version,
        "workload_id": authorized.workload,
        "grant_id": authorized.grant,
        "method": authorized.target.method if authorized.target else "",
        "authorized_at": authorized.time,
    }


def given_back(taken: str) -> list[Write]:
    """The write that gives a use back for which no key was opened."""
    return [(GIVE_BACK, {"taken": taken})] if taken else []


def completed(authorized: Event, time: Millis, *, reason: str, outcome: Outcome | None = None) -> Event:
    """The event that closes a use, after the one that authorized it; ``time`` in milliseconds."""
    fresh = ids.new(ids.AuditEventId)
    return replace(authorized, id=fresh, kind="use.completed", time=time, outcome=outcome, reason=reason, target=None)
