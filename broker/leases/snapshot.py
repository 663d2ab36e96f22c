"""The snapshot that a workload's requests for one key are decided on, with its guards.

It is kept in memory and never trusted on its own.  Every decision is committed with its guards, the epochs that the
snapshot saw.  So a stale snapshot costs a second look-up and can't let anything through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.guards import epochs_of
from broker.base.clock import DAY_MS, Clock, Millis, later
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.recent import Recent
from broker.base.validity import Validity
from broker.credentials.lifecycle import USABLE, Health, State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.envelope import Binding
from broker.formats.ids import CredentialId, GrantId, OrganizationId, Reference
from broker.grants.commands import grant_of
from broker.grants.policy import AccessTarget, Grant, PolicyInput
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.keystore.genuine import GivesRights
from broker.leases.lease import Lease
from broker.notifications.altered import report
from broker.organizations.commands import referred
from broker.organizations.tables import OrganizationRow

REMEMBERED = 20_000
FRESH_MS = 60_000


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A usable version, still sealed."""

    organization: OrganizationId
    credential: CredentialId
    number: int
    sealed: bytes
    binding: Binding
    fingerprint: str
    last4: str
    variables: Mapping[str, str]
    failing: bool


@dataclass(frozen=True, slots=True)
class UsableKeys:
    """The versions of a credential as leases see them.

    New leases and proxied uses take ``current``: the active version, or the retiring one if the upstream refuses the
    active one.  ``fallback`` is the other of the two, if the upstream takes it.  Leases of ``usable`` versions stand.
    Leases of ``retired`` versions stand if nobody saw their key.
    """

    current: SealedKey | None = None
    fallback: SealedKey | None = None
    usable: frozenset[int] = frozenset()
    retired: frozenset[int] = frozenset()

    def same_as(self, key: SealedKey) -> SealedKey | None:
        """This version as it is now, if it is still usable."""
        wanted = (key.credential, key.number)
        usable = (known for known in (self.current, self.fallback) if known is not None)
        return next((known for known in usable if (known.credential, known.number) == wanted), None)


NO_KEYS = UsableKeys()


@dataclass(frozen=True, slots=True)
class AccessSnapshot:
    """One consistent snapshot.

    ``organization_id`` and ``slug`` are None if there is no such organization.
    """

    organization_id: OrganizationId | None
    slug: str | None
    workload_name: str
    policy_input: PolicyInput
    keys: UsableKeys
    epochs: Mapping[str, int]
    loaded_at: Millis
    altered: tuple[GivesRights, ...] = ()

    @property
    def key(self) -> SealedKey | None:
        """The key that new leases and uses take."""
        return self.keys.current

    def grant(self, grant_id: GrantId) -> Grant | None:
        """The grant of that id, if it is one of those that were read."""
        return next((found for found in self.policy_input.grants if found.id == grant_id), None)

    def guards(self, lease: Lease) -> dict[str, int]:
        """What a decision for ``lease``, to give it or on a use under it, relied on."""
        relied = [lease.workload_id, lease.organization_id, lease.grant_id]
        relied += [self.key.credential] if self.key else []
        return {guard: self.epochs[guard] for guard in relied}


class SnapshotCache:
    """Snapshots by target.

    The most recently used ones are ``kept``.  They are hints, which the guards of a write confirm.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self.kept = Recent[AccessTarget, AccessSnapshot](REMEMBERED)
        # The last epochs that other replicas told of: a snapshot with another one is read again.
        self._told = Recent[str, int](REMEMBERED)
        # One look-up at a time for each: a thousand calls that come at once must not all read the same.
        self._loading: dict[AccessTarget, asyncio.Task[AccessSnapshot]] = {}

    async def get(self, target: AccessTarget, *, fresh: bool = False) -> AccessSnapshot:
        """The snapshot for ``target``; ``fresh`` reads it again."""
        # lease (5) what is known of all that the request names, at one moment, with the epochs that guard it
        kept = None if fresh else self.kept.get(target)
        if kept is not None and 0 <= self._clock() - kept.loaded_at < FRESH_MS and not self.outdated(kept):
            return kept
        running = self._loading.get(target)
        if running is not None and fresh:
            # It may have read before the change that this caller knows of. The next one serves all who wait now.
            await asyncio.wait({running})
            later = self._loading.get(target)
            running = later if later is not running else None
        if running is None:
            running = self._loading[target] = asyncio.create_task(self._load_and_keep(target))
            running.add_done_callback(lambda done: self._loaded(target, done))
        return await asyncio.shield(running)

    def heard(self, message: str) -> None:
        """Note that a guard was raised (``ID EPOCH``)."""
        guard, _, epoch = message.partition(" ")
        self._told[guard] = int(epoch)

    def forget(self) -> None:
        """Read everything again: messages may have been missed."""
        self.kept.clear()
        self._told.clear()

    def outdated(self, kept: AccessSnapshot) -> bool:
        """Whether another replica told that something moved which it relies on."""
        return any(self._told.get(guard) not in {None, epoch} for guard, epoch in kept.epochs.items())

    def _loaded(self, target: AccessTarget, done: asyncio.Task[AccessSnapshot]) -> None:
        if self._loading.get(target) is done:
            del self._loading[target]
        if not done.cancelled():
            done.exception()  # whoever waited has it; if they all left, nobody needs it

    async def _load_and_keep(self, target: AccessTarget) -> AccessSnapshot:
        snapshot = await self.load(target)
        self.kept.pop(target)
        for row in snapshot.altered:
            await report(self._db, row, self._clock())
        if snapshot.key is not None:  # what was refused may be granted the next moment: never remembered
            self.kept[target] = snapshot
        return snapshot

    async def load(self, target: AccessTarget) -> AccessSnapshot:
        """The snapshot for ``target`` as the database has it; nothing is kept."""
        organization_id = await self.resolve(target.organization_reference)
        if organization_id is None:
            async with self._db.read(EVERY_TENANT) as session:
                workload = await session.get(WorkloadRow, target.workload_id)
            policy_input = PolicyInput(_active(workload) or False, None, None, None, ())
            name = workload.name if workload else ""
            return AccessSnapshot(None, None, name, policy_input, NO_KEYS, {}, self._clock())
        # One read transaction is one snapshot on both databases, so the epochs belong to the state beside them.
        async with self._db.read(Scope.of(organization_id)) as session:
            return await self._snapshot(session, target, organization_id)

    async def resolve(self, reference: Reference | OrganizationId) -> OrganizationId | None:
        """The id of the organization of that id or slug; None if there is none."""
        async with self._db.read(EVERY_TENANT) as session:
            return await session.scalar(select(OrganizationRow.id).where(referred(reference)))

    async def _snapshot(
        self, session: AsyncSession, target: AccessTarget, organization_id: OrganizationId
    ) -> AccessSnapshot:
        workload = await session.get(WorkloadRow, target.workload_id)
        organization = await session.get(OrganizationRow, organization_id)
        given = await _grants(session, target)
        credential = await _credential(session, target)
        relied_on: list[GivesRights | None] = [workload, organization, credential, *given]
        altered = [row for row in relied_on if row is not None and not row.genuine]
        grants = [grant_of(row) for row in given if row.genuine]
        rows = await _versions(session, credential)
        keys = _keys(credential, rows)
        key = keys.current
        relied = [target.workload_id, organization_id, *(grant.id for grant in grants)]
        relied += [credential.id] if credential else []
        policy_input = PolicyInput(
            _active(workload) or False,
            _active(organization),
            _active(credential),
            key.number if key else None,
            grants,
            bool(altered),
            key_failing=key is not None and key.failing,
            paused=credential is not None and credential.paused_at is not None,
            key_until=_until(credential, rows, key),
        )
        slug = organization.slug if organization else None
        name = workload.name if workload else ""
        return AccessSnapshot(
            organization_id,
            slug,
            name,
            policy_input,
            keys,
            await epochs_of(session, relied),
            self._clock(),
            tuple(altered),
        )


def _active(row: WorkloadRow | OrganizationRow | CredentialRow | None) -> bool | None:
    if row is None or (isinstance(row, GivesRights) and not row.genuine):
        return None
    return row.state == Validity.ACTIVE


async def _credential(session: AsyncSession, target: AccessTarget) -> CredentialRow | None:
    """The credential that is there; if it was revoked and none has taken its label, the last."""
    query = select(CredentialRow).where(CredentialRow.provider == target.provider, CredentialRow.label == target.label)
    latest = query.order_by(
        CredentialRow.state != Validity.ACTIVE, CredentialRow.created_at.desc(), CredentialRow.id.desc()
    )
    return await session.scalar(latest.limit(1))


async def _grants(session: AsyncSession, target: AccessTarget) -> Sequence[GrantRow]:
    rows = await session.scalars(
        select(GrantRow).where(GrantRow.workload_id == target.workload_id, GrantRow.provider == target.provider)
    )
    return rows.all()


async def _versions(session: AsyncSession, credential: CredentialRow | None) -> list[VersionRow]:
    """The versions whose leases may stand: in use, or retired in favour of a newer one."""
    if credential is None:
        return []
    found = await session.scalars(
        select(VersionRow).where(
            VersionRow.credential_id == credential.id,
            or_(VersionRow.state.in_(sorted(USABLE)), VersionRow.retired_at.is_not(None)),
        )
    )
    return list(found)


def _keys(credential: CredentialRow | None, rows: Sequence[VersionRow]) -> UsableKeys:
    if credential is None or not credential.genuine:
        return NO_KEYS
    usable = {State(row.state): row for row in rows if row.state in USABLE and row.sealed is not None}
    active, retiring = (_sealed(credential, usable.get(state)) for state in (State.ACTIVE, State.RETIRING))
    if active is None or (active.failing and retiring is not None and not retiring.failing):
        active, retiring = retiring, active
    return UsableKeys(
        current=active,
        fallback=retiring if retiring is not None and not retiring.failing else None,
        usable=frozenset(row.number for row in usable.values()),
        retired=frozenset(row.number for row in rows if row.state not in USABLE),
    )


def _sealed(credential: CredentialRow, row: VersionRow | None) -> SealedKey | None:
    if row is None or row.sealed is None:
        return None
    return SealedKey(
        credential.organization_id,
        credential.id,
        row.number,
        row.sealed,
        row.binding,
        row.fingerprint,
        row.last4,
        dict(credential.host_parts),
        row.health == Health.FAILING,
    )


def _until(credential: CredentialRow | None, rows: Sequence[VersionRow], key: SealedKey | None) -> Millis | None:
    """When the key is too old; None if its policy doesn't refuse such keys."""
    if credential is None or key is None or credential.on_max_age != "refuse" or credential.max_age_days is None:
        return None
    staged = next(row.staged_at for row in rows if row.number == key.number)
    return later(staged, credential.max_age_days * DAY_MS)
