"""The whole path of one proxied call: lease, standing, path, record, open, inject, forward, record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import structlog
from sqlalchemy import bindparam, insert, update

from broker.audit.events import Actor, Event, Outcome, Target
from broker.audit.log import AuditLog, AuditUnavailable, GuardMoved
from broker.base.clock import Clock
from broker.base.errors import BrokerError, Forbidden, Unavailable
from broker.base.outbound import Outbound, Unreachable
from broker.formats import ids
from broker.leases.leasing import Lease, Leasing, subject_of
from broker.leases.standing import Standing
from broker.leases.tables import UseRow
from broker.providers.catalog import Catalog
from broker.providers.definition import Definition
from broker.proxy.inject import Headers, query, query_names, request_headers, response_headers
from broker.proxy.path import judged

_log = structlog.get_logger()
_TRIES = 4
UPSTREAM_REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")


class WrongTarget(Forbidden):
    """The lease is for another organization or provider than the address names."""

    code = "lease_elsewhere"


class UpstreamUnreachable(Unavailable):
    """No answer came from upstream."""

    status = 502
    code = "upstream_unreachable"
    title = "The upstream gave no answer"


@dataclass(frozen=True, slots=True)
class Request:
    """What a job asks to be forwarded.  ``raw_path`` and ``raw_query`` are as received, still encoded."""

    organization: str
    provider: str
    method: str
    raw_path: bytes
    raw_query: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Upstream's answer on its way back."""

    status: int
    headers: Headers
    body: AsyncIterator[bytes]


_INSERT_USE = insert(UseRow.__table__)  # type: ignore[arg-type]  # declared as FromClause, is a Table
COMPLETE_USE = (
    update(UseRow.__table__)  # type: ignore[arg-type]  # declared as FromClause, is a Table
    .where(UseRow.id == bindparam("use"), UseRow.completed_at.is_(None))
    .values(completed_at=bindparam("at"), status=bindparam("answer"))
)


class Proxy:
    """Forwards calls under a lease."""

    def __init__(self, leasing: Leasing, audit: AuditLog, catalog: Catalog, outbound: Outbound, clock: Clock) -> None:
        self._leasing = leasing
        self._audit = audit
        self._catalog = catalog
        self._outbound = outbound
        self._clock = clock

    @asynccontextmanager
    async def call(self, unverified_token: str, actor: Actor, request: Request) -> AsyncIterator[Answer]:
        """Forward one request; the answer streams while the context is open.

        Raises:
            NoSuchLease, LeaseOver, LeaseDenied, WrongTarget, PathRefused: refused before the key was opened; recorded
                where the lease is known.
            UpstreamUnreachable: the key was used and no answer came.
        """
        lease = await self._leasing.known(self._leasing.id_of(unverified_token))
        actor = replace(actor, type="workload", id=lease.workload)
        try:
            use, standing, definition, path = await self._authorize(lease, actor, request)
        except BrokerError as refusal:
            if not isinstance(refusal, Unavailable):
                await self._deny(lease, actor, request, refusal)
            raise
        assert standing.key is not None
        slot = definition.place(await self._leasing.open(standing.key, subject_of(lease)))
        base = definition.url(standing.key.variables)
        sent = query(request.raw_query, slot)
        headers = request_headers(request.headers, definition.required_headers.items(), slot)
        meter = _Meter(len(request.body))
        try:
            async with self._outbound.call(
                request.method,
                f"{base}{path}" + (f"?{sent}" if sent else ""),
                headers=headers,
                body=request.body or None,
                private=definition.host.private,
            ) as response:
                meter.status = response.status
                meter.upstream_id = next(
                    (response.headers[name] for name in UPSTREAM_REQUEST_IDS if name in response.headers), ""
                )
                yield Answer(
                    response.status,
                    response_headers(response.headers.items()),
                    meter.count(response.content.iter_any()),
                )
        except Unreachable as error:
            raise UpstreamUnreachable(f"{definition.title} gave no answer ({error}); try again.") from None
        finally:
            await asyncio.shield(self._complete(use, meter))

    async def _authorize(self, lease: Lease, actor: Actor, request: Request) -> tuple[Event, Standing, Definition, str]:
        """Decide, and make the use durable.  The key is still sealed when this returns."""
        path = judged(request.raw_path)
        definition = self._catalog.get(lease.provider)
        for _ in range(_TRIES):
            lease, standing = await self._leasing.standing_of(lease)
            if request.provider != lease.provider or request.organization not in {standing.slug, lease.organization}:
                raise WrongTarget("This lease is for another organization or provider than the address names.")
            assert standing.key is not None
            named = replace(actor, name=standing.workload_name)
            use = self._event("use.authorized", lease, named, self._target(definition, standing, request, path))
            row = {
                "id": use.use,
                "organization_id": lease.organization,
                "lease_id": lease.id,
                "credential_id": lease.credential,
                "version": lease.version,
                "workload_id": lease.workload,
                "method": request.method,
                "authorized_at": use.time,
                "completed_at": None,
                "status": None,
            }
            try:
                await self._audit.append(use, self._leasing.guards_of(lease, standing), [(_INSERT_USE, row)])
            except GuardMoved:
                lease = await self._leasing.find(lease.id)
                await self._leasing.standings.get(subject_of(lease), fresh=True)
                continue
            return use, standing, definition, path
        raise Unavailable("Access to this key is being changed just now; try again.", retry_after=1)

    def _target(self, definition: Definition, standing: Standing, request: Request, path: str) -> Target:
        assert standing.key is not None
        base = urlsplit(definition.url(standing.key.variables))
        return Target(base.hostname or "", request.method, base.path + path, query_names(request.raw_query))

    def _event(self, kind: str, lease: Lease, actor: Actor, target: Target | None) -> Event:
        return Event(
            kind=kind,
            time=self._clock(),
            actor=actor,
            organization=lease.organization,
            credential=lease.credential,
            version=lease.version,
            provider=lease.provider,
            workload=lease.workload,
            grant=lease.grant,
            lease=lease.id,
            use=ids.new("use"),
            mode="use",
            target=target,
        )

    async def _deny(self, lease: Lease, actor: Actor, request: Request, refusal: BrokerError) -> None:
        standing = await self._leasing.standings.get(subject_of(lease))
        actor = replace(actor, name=standing.workload_name)
        asked = Target("", request.method, request.raw_path.decode("ascii", "replace"))
        event = replace(
            self._event("use.denied", lease, actor, asked),
            decision="denied",
            reason=refusal.code,
            note=f"{request.organization}/{request.provider}",
        )
        await self._audit.append(event)

    async def _complete(self, use: Event, meter: _Meter) -> None:
        event = replace(
            use, id=ids.new("evt"), kind="use.completed", time=self._clock(), outcome=meter.outcome(), target=None
        )
        row = {"use": use.use, "at": event.time, "answer": meter.status}
        try:
            await self._audit.append(event, writes=[(COMPLETE_USE, row)])
        except AuditUnavailable:
            # The use itself is on the record; the worker closes it as unknown.
            _log.warning("use.outcome_not_recorded", use=use.use)


class _Meter:
    """Counts what passes, for the record."""

    def __init__(self, sent: int) -> None:
        self.status: int | None = None
        self.upstream_id = ""
        self._sent = sent
        self._received = 0
        self._started = time.monotonic()

    async def count(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._received += len(chunk)
            yield chunk

    def outcome(self) -> Outcome:
        elapsed = int((time.monotonic() - self._started) * 1000)
        return Outcome(self.status, elapsed, self._received, self._sent, self.upstream_id)
