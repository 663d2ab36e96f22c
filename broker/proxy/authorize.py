"""Before a key is opened: whose call it is, whether it may be made, and that it will be is on the record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

from sqlalchemy import insert

from broker.audit import quota
from broker.audit.events import Actor, AuditTarget, Event
from broker.audit.log import GuardMoved
from broker.audit.quota import Exhausted, Quota
from broker.base.db import table
from broker.base.errors import BrokerError, Forbidden, InvalidToken, TooMany, Unavailable
from broker.base.parameters import QueryRefused, read
from broker.base.tracing import established
from broker.credentials.cooldown import cooldown_id
from broker.formats import ids
from broker.grants.policy import Call, Denied, Grant, Mode, refuse_call
from broker.leases.lease import Lease
from broker.leases.leasing import LeaseDenied, LeaseOver, Leasing, NoSuchLease
from broker.leases.snapshot import SealedKey, SnapshotCache
from broker.leases.tables import UseRow
from broker.parts import Parts
from broker.providers.catalog import UnknownProvider
from broker.providers.definition import Definition
from broker.proxy import retry
from broker.proxy.implicit import Implicit, WorkloadCaller
from broker.proxy.in_flight import InFlightCall
from broker.proxy.naming import names
from broker.proxy.path import PathRefused, judged
from broker.proxy.use import COMPLETE_USE, Request, Use, completed, given_back

_TRIES = 4


class LeaseTokenRefused(InvalidToken):
    """Not a token that this broker made, or its lease is none that it knows."""

    code = "unknown_lease"

    def __init__(self) -> None:
        super().__init__("This is no token of a lease here; take a lease (POST /v1/leases) and send its token.")


class WrongTarget(Forbidden):
    """The lease is for another organization or provider than the address names."""

    code = "lease_elsewhere"


class UpstreamRateLimited(TooMany):
    """The upstream asked to slow down; its limit is one for all jobs that use this key."""

    code = "upstream_rate_limited"


class GrantRateLimited(TooMany):
    """The grant allows fewer uses in that time."""

    code = "grant_rate_limited"


@dataclass(frozen=True, slots=True)
class ProxiedCall:
    """A judged request with its path, and who asks; ``lease`` is None where one is to be found for a job."""

    caller: str | WorkloadCaller
    lease: Lease | None
    actor: Actor
    request: Request
    path: str


_INSERT_USE = insert(table(UseRow))


class Authorizer:
    """Decides on calls and records the decisions."""

    def __init__(self, parts: Parts, leasing: Leasing, snapshots: SnapshotCache) -> None:
        self._audit, self._catalog, self._clock = parts.audit, parts.catalog, parts.clock
        self._leasing, self._snapshots = leasing, snapshots
        self._implicit = Implicit(leasing, parts.clock)

    async def call_of(self, caller: str | WorkloadCaller, actor: Actor, request: Request) -> ProxiedCall:
        """The request with its path and query judged; a refusal is recorded.

        Raises:
            LeaseTokenRefused: it isn't known whose call it is; not recorded.
            PathRefused, QueryRefused: it can be read in more than one way.
        """
        lease = await self._named(caller) if isinstance(caller, str) else None
        established()
        workload = lease.workload if lease else caller.workload if isinstance(caller, WorkloadCaller) else ""
        actor = Actor("workload", workload, "", actor.address, actor.agent)
        try:
            path = (
                judged(request.raw_path, self._encoded_slashes(request.provider)) if request.raw_path else ""
            )  # the base URL itself
            read(request.query)
        except (PathRefused, QueryRefused) as refusal:
            await self._deny(lease, actor, request, refusal)
            raise
        return ProxiedCall(caller, lease, actor, request, path)

    async def _named(self, unverified_token: str) -> Lease:
        try:
            return await self._leasing.known(self._leasing.id_of(unverified_token))
        except NoSuchLease:
            raise LeaseTokenRefused from None

    def _encoded_slashes(self, provider: str) -> tuple[str, ...]:
        try:
            return self._catalog.get(provider).encoded_slashes
        except UnknownProvider:  # refused as soon as its lease is looked at
            return ()

    async def lease(self, call: ProxiedCall, *, again: bool = False) -> Lease:
        """The lease of the call; ``again`` takes a new implicit one, as the kept one has ended."""
        if not isinstance(call.caller, WorkloadCaller):
            assert call.lease is not None
            return call.lease
        wanted = Call(call.request.method, call.path, call.request.query)
        target = (call.request.organization, call.request.provider)
        return await self._implicit.lease(call.caller, *target, wanted, again=again)

    async def expect(self, in_flight: InFlightCall, call: ProxiedCall) -> None:
        """Have a call that still comes end when its lease does; refused, and recorded, where that is over already."""
        since = time.monotonic()
        try:
            lease, snapshot = await self._leasing.snapshot_of(in_flight.lease)
        except LeaseOver as refusal:
            if isinstance(call.caller, WorkloadCaller):  # another one is found for it once it has come
                return
            await self._deny(in_flight.lease, call.actor, call.request, refusal)
            raise
        except BrokerError as refusal:
            if not isinstance(refusal, Unavailable):
                await self._deny(in_flight.lease, call.actor, call.request, refusal)
            raise
        in_flight.depends_on(lease, 0, self._leasing.guards_of(lease, snapshot), since)

    async def authorized(
        self, in_flight: InFlightCall, call: ProxiedCall, patience: float, *, fall_back: bool = False
    ) -> Use:
        """Decide, and make the use durable; a refusal is recorded.  The key is still sealed when this returns.

        ``fall_back`` takes the previous key, where a rotation still holds it.
        """
        until = time.monotonic() + patience
        implicit = isinstance(call.caller, WorkloadCaller)
        while True:
            try:
                return await self._authorize(in_flight, call, fall_back=fall_back)
            except LeaseOver as refusal:
                if not implicit:
                    await self._deny(in_flight.lease, call.actor, call.request, refusal)
                    raise
                in_flight.lease = await self.lease(call, again=True)
                implicit = False
            except UpstreamRateLimited as paused:
                wait = retry.backoff(0, float(paused.members["retry_after"]))
                if time.monotonic() + wait > until:
                    await self._deny(in_flight.lease, call.actor, call.request, paused)
                    raise
                await asyncio.sleep(wait)
            except BrokerError as refusal:
                if not isinstance(refusal, Unavailable):
                    await self._deny(in_flight.lease, call.actor, call.request, refusal)
                raise

    async def _authorize(self, in_flight: InFlightCall, call: ProxiedCall, *, fall_back: bool) -> Use:
        lease, request = in_flight.lease, call.request
        definition = self._catalog.get(lease.provider)
        for _ in range(_TRIES):
            since = time.monotonic()
            lease, snapshot = await self._leasing.snapshot_of(lease)
            if request.provider != lease.provider or request.organization not in {snapshot.slug, lease.organization}:
                raise WrongTarget("This lease is for another organization or provider than the address names.")
            grant, key = snapshot.grant(lease.grant), snapshot.key
            fallback = snapshot.keys.fallback
            if fall_back and fallback is not None:
                key, fallback = fallback, None
            assert grant is not None
            assert key is not None
            if denied := _refused(grant, Call(request.method, call.path, request.query)):
                raise LeaseDenied(denied)
            event = Event.about(
                lease,
                "use.authorized",
                Actor("workload", lease.workload, snapshot.workload_name, call.actor.address, call.actor.agent),
                self._clock(),
                use=ids.new("use"),
                version=key.number,
                mode=Mode.USE,
                request=request.id,
                target=self._target(definition, key, call),
            )
            guards = self._leasing.guards_of(lease, snapshot)
            in_flight.depends_on(lease, key.number, guards, since)
            quotas, taken = _quotas(grant, key, definition), _uses_of(grant)
            try:
                await self._audit.append(
                    event,
                    guards,
                    [(_INSERT_USE, _use_row(event))],
                    quotas=quotas,
                    abandoned=partial(self._not_forwarded, event, taken),
                )
            except GuardMoved:
                lease = await self._leasing.find(lease.id)
                await self._snapshots.get(lease.target, fresh=True)
                continue
            except Exhausted as exhausted:
                raise _used_up(exhausted, grant, definition) from None
            retries = grant.retries and definition.retry.retries
            return Use(event, definition, key, fallback, call.path, taken, retries)
        raise Unavailable("Access to this key is being changed just now; try again.", retry_after=1)

    def _target(self, definition: Definition, key: SealedKey, call: ProxiedCall) -> AuditTarget:
        base = urlsplit(definition.url(key.variables))
        plain, other = names(call.request.query, self._catalog.could_be_key)
        return AuditTarget(base.hostname or "", call.request.method, base.path + call.path or "/", plain, other)

    def _not_forwarded(self, authorized: Event, taken: str) -> None:
        """Close a use that became durable when its call was over already."""
        event = completed(authorized, self._clock(), reason="not_forwarded")
        complete = (COMPLETE_USE, {"use": authorized.use, "at": event.time, "answer": None})
        self._audit.post(event, [complete, *given_back(taken)])

    async def _deny(self, lease: Lease | None, actor: Actor, request: Request, refusal: BrokerError) -> None:
        event = Event(
            kind="use.denied",
            time=self._clock(),
            actor=actor,
            workload=actor.id,
            mode=Mode.USE,
            decision="denied",
            reason=refusal.code,
            request=request.id,
            target=AuditTarget("", request.method, request.raw_path.decode("ascii", "replace")),
            note=f"{request.organization}/{request.provider}",
        )
        if lease is not None:
            snapshot = await self._snapshots.get(lease.target)
            event = replace(
                event,
                actor=replace(actor, name=snapshot.workload_name),
                organization=lease.organization,
                credential=lease.credential,
                version=lease.version,
                provider=lease.provider,
                grant=lease.grant,
                lease=lease.id,
            )
        await self._audit.append(event)


def _refused(grant: Grant, call: Call) -> Denied | None:
    if Mode.USE not in grant.modes:
        return Denied("mode_not_granted", "The grant doesn't include use; ask an operator for that mode.")
    return refuse_call(grant, call)


def _use_row(event: Event) -> Mapping[str, object]:
    return {
        "id": event.use,
        "organization_id": event.organization,
        "lease_id": event.lease,
        "credential_id": event.credential,
        "version": event.version,
        "workload_id": event.workload,
        "grant_id": event.grant,
        "method": event.target.method if event.target else "",
        "authorized_at": event.time,
        "completed_at": None,
        "status": None,
    }


def _quotas(grant: Grant, key: SealedKey, definition: Definition) -> list[Quota]:
    """What a use takes from: upstream's patience, and the grant's rate and number of uses."""
    quotas: list[Quota] = [quota.Cooldown(cooldown_id(key.credential), definition.retry.cap_seconds * 1000)]
    if grant.rate is not None:
        quotas.append(quota.Rate(f"{grant.id}/rate", grant.rate.uses, grant.rate.seconds * 1000))
    if grant.max_uses is not None:
        quotas.append(quota.Total(_uses_of(grant), grant.max_uses))
    return quotas


def _uses_of(grant: Grant) -> str:
    """The id of the grant's number of uses; "" where it has none."""
    return f"{grant.id}/uses" if grant.max_uses is not None else ""


def _used_up(exhausted: Exhausted, grant: Grant, definition: Definition) -> BrokerError:
    if exhausted.wait is None:
        need = f"The {grant.max_uses} uses of grant {grant.id} are used up; ask an operator for a new grant."
        return LeaseDenied(Denied("uses_exhausted", need))
    seconds = -(-exhausted.wait // 1000)
    if exhausted.quota.endswith("/pause"):
        text = f"{definition.title} asked to slow down; its limit is shared by all jobs that use this key. Wait."
        return UpstreamRateLimited(text, retry_after=seconds)
    assert grant.rate is not None
    return GrantRateLimited(
        f"Grant {grant.id} allows {grant.rate.uses} uses in {grant.rate.seconds} seconds; wait, or ask an operator "
        "for more.",
        retry_after=seconds,
    )
