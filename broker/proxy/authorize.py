"""What happens before a key is opened.

It is found out whose call it is, decided whether it may be made, and put on the record that it will be.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from broker.audit.events import AuditTarget, Event, Fields
from broker.audit.log import GuardMoved
from broker.audit.quota import Exhausted
from broker.base.errors import BrokerError, Forbidden, InvalidToken, TooMany, Unavailable
from broker.base.parameters import QueryRefused, read
from broker.base.tracing import established
from broker.formats import dpop, ids
from broker.grants.policy import Call, Denied, Grant, Mode, refuse_call
from broker.identity.dpop.proof import NonceNeeded, Proof, ProofRefused, Proofs, ProofUsed, Sent
from broker.identity.dpop.spent import once
from broker.identity.principal import Workload
from broker.leases.lease import Lease
from broker.leases.leasing import LeaseDenied, LeaseOver, Leasing, NoSuchLease
from broker.leases.snapshot import SnapshotCache
from broker.parts import Parts
from broker.providers.catalog import Catalog, UnknownProvider
from broker.providers.definition import Definition
from broker.proxy.implicit import Implicit
from broker.proxy.in_flight import InFlightCall
from broker.proxy.naming import names
from broker.proxy.path import PathRefused, judged
from broker.proxy.plan import Plans, Way
from broker.proxy.retry import Attempt, backoff
from broker.proxy.use import (
    AUTHORIZE_USE,
    COMPLETE_USE,
    LeaseToken,
    ProxiedCall,
    Use,
    WorkloadCaller,
    completed,
    given_back,
    use_row,
)

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


class Authorizer:
    """Decides on calls and records the decisions."""

    def __init__(self, parts: Parts, leasing: Leasing, snapshots: SnapshotCache, proofs: Proofs) -> None:
        self._audit, self._catalog, self._clock = parts.audit, parts.catalog, parts.clock
        self._leasing, self._snapshots, self._proofs = leasing, snapshots, proofs
        self._implicit = Implicit(leasing, parts.clock)
        self.plans = Plans(parts.catalog, leasing)

    async def admitted(self, call: ProxiedCall) -> Lease:
        """The lease under which a call is made, once its path and query are judged.

        A refusal is recorded.

        Raises:
            LeaseTokenRefused, NonceNeeded: it isn't known whose call it is; not recorded.
            ProofRefused: its lease is of use only to the holder of a key, and nothing shows that this is they.
            PathRefused, QueryRefused: it can be read in more than one way.
            LeaseDenied: it came without a lease, and no grant lets the job call like that.
        """
        # call (3) whose call it is
        caller = call.caller
        if isinstance(caller, LeaseToken):
            lease = await self._named(caller)
            proof = None if lease.jkt is None else await self._proved(call, caller, lease, lease.jkt)
            established()
            await self._judge(call, lease)
        else:
            proof = caller.proof
            established()
            await self._judge(call, caller.workload)
            lease = await self._implicit.lease(caller, call)
        call.tries.proof = proof
        return lease

    async def _named(self, token: LeaseToken) -> Lease:
        try:
            return await self._leasing.known(self._leasing.id_of(token.unverified))
        except NoSuchLease:
            raise LeaseTokenRefused from None

    async def _proved(self, call: ProxiedCall, token: LeaseToken, lease: Lease, jkt: str) -> Proof:
        """The proof that whoever sent the lease's token holds its key.

        Who has only the token found or stole it, so that goes on the record.
        """
        proofs = [value for name, value in call.headers if name.lower() == dpop.HEADER.lower()]
        sent = Sent(proofs, call.method, call.proxy_url + call.path)
        try:
            return self._proofs.of_token(sent, token.unverified, jkt)
        except ProofRefused as refusal:
            if not isinstance(refusal, NonceNeeded):
                await self._deny(call, lease, refusal)
            raise

    async def _judge(self, call: ProxiedCall, whose: Lease | Workload) -> None:
        """Refuse a path or query that can be read in more than one way."""
        try:
            refuse_two_readings(call, call.provider, self._catalog)
        except (PathRefused, QueryRefused) as refusal:
            await self._deny(call, whose, refusal)
            raise

    async def expect(self, in_flight: InFlightCall, call: ProxiedCall) -> None:
        """Have a call that still comes end when its lease does.

        If the lease has ended already, the call is refused, which is recorded.
        """
        since = time.monotonic()
        try:
            lease, snapshot = await self._leasing.snapshot_of(in_flight.lease)
        except LeaseOver as refusal:
            if isinstance(call.caller, WorkloadCaller):  # another one is found for it once it has come
                return
            await self._deny(call, in_flight.lease, refusal)
            raise
        except BrokerError as refusal:
            if not isinstance(refusal, Unavailable):
                await self._deny(call, in_flight.lease, refusal)
            raise
        in_flight.depends_on(lease, 0, self._leasing.guards_of(lease, snapshot), since)

    async def authorized(self, in_flight: InFlightCall, call: ProxiedCall, attempt: Attempt) -> Use:
        """Decide, and make the use durable; a refusal is recorded.

        The key is still sealed when this returns.
        """
        until = time.monotonic() + attempt.patience
        lease, renewed = in_flight.lease, False
        while True:
            try:
                return await self._authorize(in_flight, call, lease, fall_back=attempt.fall_back)
            except LeaseOver as refusal:
                if renewed or isinstance(call.caller, LeaseToken):
                    await self._deny(call, lease, refusal)
                    raise
                lease, renewed = await self._implicit.lease(call.caller, call, again=True), True
            except UpstreamRateLimited as paused:
                wait = backoff(0, float(paused.members["retry_after"]))
                if time.monotonic() + wait > until:
                    await self._deny(call, lease, paused)
                    raise
                await asyncio.sleep(wait)
                lease = in_flight.lease  # it may have been renewed meanwhile
            except BrokerError as refusal:
                if not isinstance(refusal, Unavailable):
                    await self._deny(call, lease, refusal)
                raise

    async def _authorize(self, in_flight: InFlightCall, call: ProxiedCall, lease: Lease, *, fall_back: bool) -> Use:
        for _ in range(_TRIES):
            since = time.monotonic()
            lease, snapshot = await self._leasing.snapshot_of(lease)
            if call.provider != lease.provider or call.organization not in {snapshot.slug, lease.organization_id}:
                raise WrongTarget("This lease is for another organization or provider than the address names.")
            plan = self.plans.of(lease, snapshot)
            if denied := refused(plan.grant, call):
                raise LeaseDenied(denied)
            way, fallback = plan.usual, plan.fallback
            if fall_back and fallback is not None:
                way, fallback = fallback, None
            fields: Fields = {
                **plan.fields,
                "use": ids.new(ids.UseId),
                "version": way.key.number,
                "request": call.id,
                "target": self._target(way, call),
            }
            actor = call.actor(lease.workload_id, snapshot.workload_name)
            event = Event(kind="use.authorized", time=self._clock(), actor=actor, **fields)
            takes = () if call.tries.proof is None else (once(call.tries.proof, event.time),)
            in_flight.depends_on(lease, way.key.number, plan.guards, since)
            try:
                await self._audit.append(
                    event,
                    plan.guards,
                    [(AUTHORIZE_USE, use_row(event))],
                    quotas=plan.quotas + takes,
                    abandoned=partial(self._not_forwarded, event, plan.taken),
                )
            except GuardMoved:
                lease = await self._leasing.looked_again(lease)
                continue
            except Exhausted as exhausted:
                if any(exhausted.quota == one.id for one in takes):
                    raise ProofUsed from None
                raise used_up(exhausted, plan.grant, plan.definition) from None
            call.tries.proof = None
            return Use(event, plan, way, fallback is not None)
        raise Unavailable("Access to this key is being changed just now; try again.", retry_after=1)

    def _target(self, way: Way, call: ProxiedCall) -> AuditTarget:
        plain, other = names(call.query, self._catalog.could_be_key)
        return AuditTarget(way.host, call.method, way.path + call.path or "/", plain, other)

    def _not_forwarded(self, authorized: Event, taken: str) -> None:
        """Close a use that became durable when its call was over already."""
        event = completed(authorized, self._clock(), reason="not_forwarded")
        complete = (COMPLETE_USE, {"use": authorized.use})
        self._audit.post(event, [complete, *given_back(taken)])

    async def _deny(self, call: ProxiedCall, whose: Lease | Workload, refusal: BrokerError) -> None:
        """Put a refusal on the record: under a lease, or of a job for which none was found yet."""
        asked: Fields = {
            "mode": Mode.USE,
            "decision": "denied",
            "reason": refusal.code,
            "request": call.id,
            "target": AuditTarget("", call.method, call.path),
            "note": f"{call.organization}/{call.provider}",
        }
        if isinstance(whose, Lease):
            name = (await self._snapshots.get(whose.target)).workload_name
            event = Event.about(whose, "use.denied", call.actor(whose.workload_id, name), self._clock(), **asked)
        else:
            actor = call.actor(whose.id, whose.name)
            asked["workload"] = whose.id
            event = Event(kind="use.denied", time=self._clock(), actor=actor, **asked)
        await self._audit.append(event)


def refuse_two_readings(call: Call, provider: str, catalog: Catalog) -> None:
    """Refuse a path or query that can be read in more than one way.

    Raises:
        PathRefused, QueryRefused: it can.
    """
    try:
        encoded_slashes = catalog.get(provider).encoded_slashes
    except UnknownProvider:  # refused as soon as its lease is looked at
        encoded_slashes = ()
    if call.path:  # empty: the base URL itself
        judged(call.path.encode("latin-1"), encoded_slashes)
    read(call.query)


def refused(grant: Grant, call: Call) -> Denied | None:
    """Why the grant of a lease refuses a call under it; None if it allows it."""
    if Mode.USE not in grant.modes:
        return Denied("mode_not_granted", "The grant doesn't include use; ask an operator for that mode.")
    return refuse_call(grant, call)


def used_up(exhausted: Exhausted, grant: Grant, definition: Definition) -> BrokerError:
    """What a job is told whose call found a quota used up."""
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
