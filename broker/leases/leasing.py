"""Issue, renew and end leases.

A lease stands only while everything that it was decided on stands.  :meth:`Leasing.issue` tells the order of a lease's
steps, by their numbers in the map (``broker/__init__.py``).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event, word
from broker.audit.log import GuardMoved, RowRefused
from broker.audit.second_look import SecondLook
from broker.audit.series import unconfirmed
from broker.base.clock import Millis, later
from broker.base.db import EVERY_TENANT, Scope, table
from broker.base.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from broker.base.paging import Cut, Sheet
from broker.base.recent import Recent
from broker.base.secret import Secret
from broker.formats import ids, token
from broker.formats.ids import LeaseId, WorkloadId
from broker.grants.policy import (
    DEFAULT_TTL_S,
    AccessRequest,
    AccessTarget,
    Allowed,
    Denied,
    Mode,
    decide,
    refuse_key,
)
from broker.identity.jobs import TrustOver
from broker.leases.lease import Lease, lease_of
from broker.leases.listing import Sought, listed
from broker.leases.opening import Opening
from broker.leases.snapshot import AccessSnapshot, SealedKey, SnapshotCache
from broker.leases.tables import LeaseRow
from broker.notifications.altered import report
from broker.parts import Parts

_log = structlog.get_logger()

_TRIES = 4
REMEMBERED = 20_000


def key_revoked(snapshot: AccessSnapshot) -> Denied:
    """The refusal of a lease whose key was revoked; it names a new one only if there is a key."""
    known = snapshot.policy_input
    another = known.credential_active and known.version is not None
    fix = (
        "ask for a new lease, which has the key that is in use now."
        if another
        else "no other one is in use, so a new lease would be refused: an operator can request a key from the customer."
    )
    return Denied("key_revoked", f"The key behind this lease was revoked; {fix}")


ANOTHER_KEY = Denied(
    "bound_to_another_key",
    "This lease is bound to another key than your access token. Whoever holds that key can renew it; take a new lease.",
)
_TRUST_OVER = Denied(TrustOver.code, TrustOver().public)
REVEAL_SUSPENDED = Denied(
    "reveal_suspended",
    "The database was restored from a backup, and nobody has confirmed yet who may see keys; an operator has to look "
    "(`broker restored --confirm`, on the server). Leases to use keys are given.",
)


class LeaseDenied(Forbidden):
    """Policy said no; ``code`` is its reason."""

    def __init__(self, denied: Denied) -> None:
        super().__init__(denied.need, **({"allowed": denied.allowed} if denied.allowed else {}))
        self.denied = denied
        self.code = denied.reason  # type: ignore[misc]  # the reason is the stable code


class LeaseOver(Conflict):
    """The lease has ended or expired."""

    code = "lease_over"


class NoSuchLease(NotFound):
    """No such lease for this caller."""

    code = "unknown_lease"

    def __init__(self) -> None:
        super().__init__("There is no such lease for you; ask for a new one.")


class Issued(NamedTuple):
    """A lease with its organization's slug, its token, and for ``reveal`` the key."""

    lease: Lease
    slug: str
    token: str
    key: SealedKey
    revealed: Secret | None


_INSERT = insert(table(LeaseRow))
_RENEW = update(table(LeaseRow)).where(LeaseRow.id == bindparam("lease")).values(expires_at=bindparam("to"))
_END = (
    update(table(LeaseRow))
    .where(LeaseRow.id == bindparam("lease"), LeaseRow.ended_at.is_(None))
    .values(ended_at=bindparam("at"), end_reason=bindparam("why"))
)


class Leasing:
    """Leases of one process over the shared database."""

    def __init__(self, parts: Parts, snapshots: SnapshotCache, opening: Opening) -> None:
        self._db, self._audit, self._clock = parts.db, parts.audit, parts.clock
        self._token_key, self._id_key, self._row_key = parts.keys.lease_token, parts.keys.lease_id, parts.keys.rows
        self._snapshots, self._opening, self._second_look = snapshots, opening, SecondLook(parts.db)
        # Hints as well: what a lease lets through is confirmed by its guards.
        self.remembered = Recent[LeaseId, Lease](REMEMBERED)
        self.digests = Recent[bytes, LeaseId](REMEMBERED)  # of tokens
        self._confirmed = False

    async def issue(self, actor: Actor, request: AccessRequest, *, idempotency_key: str = "") -> Issued:
        """Lease a key.  The lease and its event are durable before the key is opened.

        Args:
            actor: the workload, as the record names it.
            request: what it asks for.
            idempotency_key: a repeat with the same one answers with the same lease.

        Raises:
            LeaseDenied: policy said no; that is recorded.
            LeaseDenied, LeaseOver: access was cut off while the key to reveal was opened.
            AuditUnavailable, KeystoreUnavailable: nothing was revealed.
        """
        # lease (4) a repeat is answered with the lease that the first one got
        lease_id = _id_for(self._id_key, actor, idempotency_key) if idempotency_key else ids.new(ids.LeaseId)
        if idempotency_key and (earlier := await self._given_for(actor, idempotency_key)):
            return await self._replay(actor, request, earlier)
        for attempt in range(_TRIES):
            # (5) what is known, and its epochs; (6) the decision
            snapshot = await self._snapshots.get(request.target, fresh=attempt > 0)
            now = self._clock()
            decision = decide(request, snapshot.policy_input, now)
            if isinstance(decision, Allowed) and request.mode is Mode.REVEAL and await self._reveal_is_suspended():
                decision = REVEAL_SUSPENDED
            if isinstance(decision, Denied):
                if attempt == 0:  # memory may be behind: a grant or a key may have come since
                    continue
                await self._deny(actor, request, snapshot, decision)  # (7)
            # (8) the lease and its row; (9) durable if all that it was decided on stands, else again from (5)
            assert snapshot.key is not None
            lease = _new(lease_id, request, snapshot, snapshot.key, decision, now)
            try:
                await self._audit.append(
                    Event.about(
                        lease, "lease.issued", actor, now, reason="bound" if lease.jkt else "", note=request.purpose
                    ),
                    snapshot.guards(lease),
                    [(_INSERT, lease.row(self._row_key))],
                )
            except GuardMoved:
                if await self._trust_is_over(lease):
                    await self._deny(actor, request, snapshot, _TRUST_OVER)
                continue
            except RowRefused:  # the same idempotency key, at the same moment
                if earlier := await self._stored(lease_id):
                    return await self._replay(actor, request, earlier)
                continue
            self.remembered[lease.id] = lease
            return await self._issued(lease, snapshot, request.target)  # (10), (11), (12)
        raise Unavailable("Access to this key is being changed just now; try again.", retry_after=1)

    async def _reveal_is_suspended(self) -> bool:
        """Whether a restore waits to be confirmed.

        Once none does, none can until the process starts again.
        """
        if not self._confirmed:
            async with self._db.read(EVERY_TENANT) as session:
                self._confirmed = not await unconfirmed(session)
        return not self._confirmed

    async def _deny(self, actor: Actor, request: AccessRequest, snapshot: AccessSnapshot, denied: Denied) -> NoReturn:
        """Put a refusal on the record, then raise it.

        Raises:
            LeaseDenied: always.
        """
        # lease (7) a refusal is on the record before it is told
        target = request.target
        await self._audit.append(
            Event(
                kind="lease.denied",
                time=self._clock(),
                actor=actor,
                organization=snapshot.organization_id or "",
                workload=target.workload_id,
                provider=word(target.provider),
                mode=request.mode,
                decision="denied",
                reason=denied.reason,
                note=f"{target.organization_reference}/{target.provider}: {request.purpose}",
            )
        )
        raise LeaseDenied(denied)

    async def _issued(self, lease: Lease, snapshot: AccessSnapshot, target: AccessTarget) -> Issued:
        assert snapshot.key is not None
        assert snapshot.slug is not None
        revealed = None
        if lease.mode is Mode.REVEAL:
            revealed = await self._opening.open(snapshot.key, target)  # (10)
            # lease (11) a keystore may have taken seconds: what was cut off meanwhile was answered as cut off
            if not lease.stands(self._clock()) or await self._moved(self.guards_of(lease, snapshot)):
                await self.snapshot_of(await self.looked_again(lease))
        return Issued(lease, snapshot.slug, token.lease_token(self._token_key, lease.id), snapshot.key, revealed)

    async def _moved(self, guards: Mapping[str, int]) -> bool:
        """Whether one of these epochs is another by now."""
        return await self._second_look.epochs(guards) != guards

    async def _replay(self, actor: Actor, request: AccessRequest, lease: Lease) -> Issued:
        lease, snapshot = await self.snapshot_of(lease)
        target = request.target
        asked = (target.provider, target.label, request.mode, request.purpose, _stood_on(request))
        if lease.jkt is not None and lease.jkt != request.jkt:
            raise Invalid("Idempotency-Key: was used by the holder of another key; use a new one.")
        same_organization = target.organization_reference in {snapshot.organization_id, snapshot.slug}
        same = asked == (lease.provider, lease.label, lease.mode, lease.purpose, lease.via)
        if not (same_organization and same) or (request.bound and lease.jkt is None):
            raise Invalid("Idempotency-Key: was used for another request; use a new one.")
        assert snapshot.key is not None
        _refuse_old_copy(lease, snapshot)
        event = Event.about(lease, "lease.replayed", actor, self._clock())
        try:
            await self._audit.append(event, self.guards_of(lease, snapshot))
        except GuardMoved:
            raise LeaseOver("That lease was cut off; ask for a new one with a new Idempotency-Key.") from None
        return await self._issued(lease, snapshot, lease.target)

    def id_of(self, unverified_token: str) -> LeaseId:
        """The lease that a token speaks for; raises NoSuchLease.

        Tokens that were found to be the broker's are known again by their digest.
        """
        digest = hashlib.sha256(unverified_token.encode("utf-8", "surrogatepass")).digest()
        lease_id = self.digests.get(digest)
        if lease_id is None:
            lease_id = token.lease_id_of(self._token_key, unverified_token)
            if lease_id is None:
                raise NoSuchLease
            self.digests[digest] = lease_id
        return lease_id

    async def find(
        self, lease_id: LeaseId, *, scope: Scope = EVERY_TENANT, workload_id: WorkloadId | None = None
    ) -> Lease:
        """The lease of that id; ``workload_id`` limits it to that workload's own.

        Raises:
            NoSuchLease: there is none for this caller.
        """
        lease = await self._stored(lease_id)
        if lease is None or not scope.holds(lease.organization_id) or workload_id not in {None, lease.workload_id}:
            raise NoSuchLease
        return lease

    async def snapshot_of(self, lease: Lease, *, fresh: bool = False) -> tuple[Lease, AccessSnapshot]:
        """A lease that still stands, and the snapshot that it is judged on.

        Args:
            lease: the lease as it was known.
            fresh: whether the snapshot must be of this moment.

        Raises:
            LeaseOver: the lease has ended or expired. LeaseDenied: something that it relies on is gone.
        """
        now = self._clock()
        lease = self.counted(lease, now)
        if not lease.stands(now):
            raise LeaseOver(f"The lease is over ({lease.end_reason or 'expired'}); ask for a new one.")
        # call (7) the snapshot that it stands on
        target = lease.target
        snapshot = await self._snapshots.get(target, fresh=fresh)
        if not fresh and _no_longer(lease, snapshot, now) is not None:
            snapshot = await self._snapshots.get(target, fresh=True)
        if denied := _no_longer(lease, snapshot, now):
            raise LeaseDenied(denied)
        return lease, snapshot

    def counted(self, lease: Lease, now: Millis | None = None) -> Lease:
        """The lease, ended if the clock was set back since it was issued.

        It had expired by then, or would last too long.  ``now`` is the time if that is known.
        """
        if lease.ended_at is not None or self._clock.counts(lease.issued_at, now):
            return lease
        return lease._replace(ended_at=lease.issued_at, end_reason="clock_set")

    def guards_of(self, lease: Lease, snapshot: AccessSnapshot) -> dict[str, int]:
        """What a use of this lease relies on; a lease's own epoch is 0 until it is ended."""
        return snapshot.guards(lease) | {lease.id: 0}

    async def known(self, lease_id: LeaseId) -> Lease:
        """The lease, from memory if possible, for uses, which are guarded; raises NoSuchLease."""
        lease, now = self.remembered.get(lease_id), self._clock()
        if lease is None or not self.counted(lease, now).stands(now):
            lease = await self.find(lease_id)
            self.remembered[lease.id] = lease
        return lease

    async def looked_again(self, lease: Lease) -> Lease:
        """The lease as it is, after something moved that it stands on, whose snapshot is read again.

        Raises:
            LeaseDenied: what its access token stood on has ended. NoSuchLease.
        """
        found = await self.find(lease.id)
        await self._snapshots.get(found.target, fresh=True)
        if await self._trust_is_over(found):
            raise LeaseDenied(_TRUST_OVER)
        return found

    async def _trust_is_over(self, lease: Lease) -> bool:
        return lease.via is not None and await self._moved(lease.stood_on)

    async def renew(self, actor: Actor, lease: Lease, ttl: int | None) -> Lease:
        """Extend a lease to ``ttl`` seconds from now, never beyond what its grant allowed in all.

        Raises:
            LeaseOver, LeaseDenied: it can't be renewed any more, also because the key that it revealed is retiring.
        """
        for _ in range(_TRIES):
            lease, snapshot = await self.snapshot_of(lease)
            _refuse_old_copy(lease, snapshot)
            to = min(later(self._clock(), (ttl or DEFAULT_TTL_S) * 1000), lease.until)
            if to <= lease.expires_at:
                return lease
            renewed = lease._replace(expires_at=to)
            try:
                await self._audit.append(
                    Event.about(renewed, "lease.renewed", actor, self._clock()),
                    self.guards_of(lease, snapshot),
                    [(_RENEW, {"lease": lease.id, "to": to})],
                )
            except GuardMoved:
                lease = await self.looked_again(lease)
                continue
            self.remembered[renewed.id] = renewed
            return renewed
        raise Unavailable("Access to this key is being changed just now; try again.", retry_after=1)

    async def end(self, actor: Actor, lease: Lease, *, kind: str, reason: str) -> Lease:
        """End a lease now.  Idempotent.

        ``kind`` is ``lease.ended`` by its workload, ``lease.revoked`` by an operator.
        """
        if lease.ended_at is not None or lease.expires_at <= self._clock():
            return lease
        now = self._clock()
        try:
            await self._audit.append(
                Event.about(lease, kind, actor, now, note=reason),
                {lease.id: 0},
                [(_END, {"lease": lease.id, "at": now, "why": kind})],
                raises=[lease.id],
            )
        except GuardMoved:  # somebody else ended it
            return await self.find(lease.id)
        ended = lease._replace(ended_at=now, end_reason=kind)
        self.remembered.pop(lease.id)
        return ended

    async def page(self, session: AsyncSession, wanted: Sought, cut: Cut, *, now: Millis) -> Sheet[Lease]:
        """The leases that are wanted at ``now``, of those that the session may see.

        Raises:
            Invalid: the cursor is not one of this list.
        """
        found = await listed(session, wanted, self._clock, now, cut)
        return Sheet([self.counted(lease_of(row)) for row in found.rows], found.next)

    async def _stored(self, lease_id: LeaseId) -> Lease | None:
        async with self._db.read(EVERY_TENANT) as session:
            row = await session.get(LeaseRow, lease_id)
        return await self._read(row)

    async def _given_for(self, actor: Actor, idempotency_key: str) -> Lease | None:
        """The lease that this idempotency key was used for.

        In the previous release the lease's id was made with the key of tokens.
        """
        named = [_id_for(key, actor, idempotency_key) for key in (self._id_key, self._token_key)]
        async with self._db.read(EVERY_TENANT) as session:
            row = await session.scalar(select(LeaseRow).where(LeaseRow.id.in_(named)))
        return await self._read(row)

    async def _read(self, row: LeaseRow | None) -> Lease | None:
        if row is not None and not row.genuine:
            await report(self._db, row, self._clock())
            return None
        return None if row is None else self.counted(lease_of(row))


def _id_for(key: bytes, actor: Actor, idempotency_key: str) -> LeaseId:
    text = f"lease-id\0{actor.id}\0{idempotency_key}".encode()
    return ids.of(ids.LeaseId, hmac.digest(key, text, hashlib.sha256)[:16])


def _stood_on(request: AccessRequest) -> str | None:
    """The ids that the request's token stands on, as a lease's row has them."""
    return " ".join(request.via) or None


def _no_longer(lease: Lease, snapshot: AccessSnapshot, now: Millis) -> Denied | None:
    """Why a standing lease may no longer be used; None if it may."""
    known = snapshot.policy_input
    grant = snapshot.grant(lease.grant_id)
    if not known.workload_active:
        return Denied("workload_revoked", "This workload was revoked; ask an operator to register it again.")
    if not known.organization_active:
        return Denied("organization_revoked", "This organization was cut off.")
    if grant is None or not grant.active or (grant.expires_at is not None and grant.expires_at <= now):
        return Denied("grant_revoked", "The grant behind this lease was revoked or has expired.")
    if not known.credential_active or not _carries(lease, snapshot):
        return key_revoked(snapshot)
    return refuse_key(known, now)


def _carries(lease: Lease, snapshot: AccessSnapshot) -> bool:
    """Whether a lease stands although its key was replaced.

    It does if it is for use, because a proxied use takes the new key.  A copy is of the old key.  If a new credential
    has taken the label of a revoked one, the lease doesn't stand: revoked is for good.
    """
    keys = snapshot.keys
    if keys.current is None or keys.current.credential != lease.credential_id:
        return False
    return lease.version in keys.usable or (lease.mode is Mode.USE and lease.version in keys.retired)


def _refuse_old_copy(lease: Lease, snapshot: AccessSnapshot) -> None:
    """Refuse a lease that revealed a key which was replaced since; raises LeaseDenied.

    After a rotation such a lease runs to its end, and no further.
    """
    if lease.mode is Mode.REVEAL and snapshot.key is not None and lease.version != snapshot.key.number:
        raise LeaseDenied(Denied("key_rotated", "The key was rotated; ask for a new lease, which has the new key."))


def _new(
    lease_id: LeaseId, request: AccessRequest, snapshot: AccessSnapshot, key: SealedKey, allowed: Allowed, now: Millis
) -> Lease:
    grant = snapshot.grant(allowed.grant)
    assert grant is not None
    assert snapshot.organization_id is not None
    until = later(now, grant.max_ttl * 1000)
    if allowed.until is not None:
        until = min(until, allowed.until)
    return Lease(
        id=lease_id,
        organization_id=snapshot.organization_id,
        workload_id=request.target.workload_id,
        grant_id=allowed.grant,
        credential_id=key.credential,
        version=key.number,
        provider=request.target.provider,
        label=request.target.label,
        mode=request.mode,
        purpose=request.purpose,
        issued_at=now,
        expires_at=min(later(now, allowed.ttl * 1000), until),
        until=until,
        via=_stood_on(request),
        # What comes without a lease has shown the key itself, and will for each call.
        jkt=request.jkt if request.jkt and (grant.bound or request.bound or request.call is not None) else None,
    )
