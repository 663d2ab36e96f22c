"""The snapshot that a workload's requests for one key are decided on, with its guards.

It is kept in memory and never trusted on its own.  Every decision is committed with its guards, the epochs that the
snapshot saw.  So a stale snapshot costs a second look-up and can't let anything through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.base.clock import DAY_MS, Clock, Millis, later
from broker.base.db import Database
from broker.base.recent import Recent
from broker.base.shared import Shared
from broker.base.validity import Validity
from broker.credentials.lifecycle import USABLE, Health, State
from broker.credentials.tables import CredentialRow, binding_of
from broker.formats.envelope import Binding
from broker.formats.ids import CredentialId, GrantId, OrganizationId
from broker.grants.commands import grant_of
from broker.grants.policy import AccessTarget, Grant, PolicyInput
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.keystore.genuine import GivesRights, is_genuine
from broker.leases.lease import Lease
from broker.leases.lookup import Found, Values, look_up
from broker.notifications.altered import report
from broker.organizations.tables import OrganizationRow

REMEMBERED = 20_000
# So many targets share a query: what it finds is read in one go, for milliseconds, in which nobody else is served.
_TOGETHER = 32
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
        return {guard: self.epochs[guard] for guard in relied} | lease.stood_on


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
        self._looking = Shared(self._load, _TOGETHER, "look-up")

    async def get(self, target: AccessTarget, *, fresh: bool = False) -> AccessSnapshot:
        """The snapshot for ``target``; ``fresh`` reads it again."""
        # lease (5) what is known of all that the request names, at one moment, with the epochs that guard it
        kept = None if fresh else self.kept.get(target)
        if kept is not None and 0 <= self._clock() - kept.loaded_at < FRESH_MS and not self.outdated(kept):
            return kept
        return await self._looking.ask(target, again=fresh)

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
        told = self._told
        return len(told) > 0 and any(told.get(guard) not in {None, epoch} for guard, epoch in kept.epochs.items())

    async def _load(self, targets: Sequence[AccessTarget]) -> Mapping[AccessTarget, AccessSnapshot]:
        """The snapshots for ``targets`` as the database has them.

        Altered rows are reported.  Those that hold a key are kept.
        """
        now = self._clock()
        found = zip(targets, await look_up(self._db, targets), strict=True)
        snapshots = {target: _snapshot(target, each, self._db.row_key, now) for target, each in found}
        for target, snapshot in snapshots.items():
            self.kept.pop(target)
            for row in snapshot.altered:
                await report(self._db, row, now)
            if snapshot.key is not None:  # what was refused may be granted the next moment: never remembered
                self.kept[target] = snapshot
        return snapshots


def _snapshot(target: AccessTarget, found: Found, row_key: bytes | None, now: Millis) -> AccessSnapshot:
    """What was found, without what the broker didn't write."""
    judged = _Judged(row_key)
    workload = judged.genuine(WorkloadRow, found.workload)
    organization = judged.genuine(OrganizationRow, found.organization)
    credential = judged.genuine(CredentialRow, found.credential)
    grants = [grant_of(row) for row in found.grants if judged.genuine(GrantRow, row)]
    keys = _keys(credential, found.versions)
    key = keys.current
    relied = [target.workload_id, *(grant.id for grant in grants)]
    relied += [row["id"] for row in (found.organization, found.credential) if row]
    policy_input = PolicyInput(
        _active(workload) or False,
        _active(organization),
        _active(credential),
        key.number if key else None,
        grants,
        bool(judged.altered),
        key_failing=key is not None and key.failing,
        paused=found.credential is not None and found.credential["paused_at"] is not None,
        key_until=_until(credential, found.versions, key),
    )
    return AccessSnapshot(
        found.organization["id"] if found.organization else None,
        found.organization["slug"] if found.organization else None,
        found.workload["name"] if found.workload else "",
        policy_input,
        keys,
        {guard: found.epochs.get(guard, 0) for guard in relied},
        now,
        tuple(judged.altered),
    )


class _Judged:
    """Rows, and those of them that something else than the broker wrote."""

    def __init__(self, row_key: bytes | None) -> None:
        self._row_key = row_key
        self.altered: list[GivesRights] = []

    def genuine(self, table: type[GivesRights], row: Values | None) -> Values | None:
        """The row if the broker wrote it; None if it didn't, or there is none."""
        if row is None or is_genuine(self._row_key, table, row):
            return row
        self.altered.append(table(**row))
        return None


def _active(row: Values | None) -> bool | None:
    return None if row is None else row["state"] == Validity.ACTIVE


def _keys(credential: Values | None, rows: Sequence[Values]) -> UsableKeys:
    if credential is None:
        return NO_KEYS
    usable = {State(row["state"]): row for row in rows if row["state"] in USABLE and row["sealed"] is not None}
    active, retiring = (_sealed(credential, usable.get(state)) for state in (State.ACTIVE, State.RETIRING))
    if active is None or (active.failing and retiring is not None and not retiring.failing):
        active, retiring = retiring, active
    return UsableKeys(
        current=active,
        fallback=retiring if retiring is not None and not retiring.failing else None,
        usable=frozenset(row["number"] for row in usable.values()),
        retired=frozenset(row["number"] for row in rows if row["state"] not in USABLE),
    )


def _sealed(credential: Values, row: Values | None) -> SealedKey | None:
    if row is None:
        return None
    return SealedKey(
        credential["organization_id"],
        credential["id"],
        row["number"],
        row["sealed"],
        binding_of(row["organization_id"], row["credential_id"], row["number"], row["provider"]),
        row["fingerprint"],
        row["last4"],
        credential["variables"],
        row["health"] == Health.FAILING,
    )


def _until(credential: Values | None, rows: Sequence[Values], key: SealedKey | None) -> Millis | None:
    """When the key is too old; None if its policy doesn't refuse such keys."""
    if credential is None or key is None or credential["on_max_age"] != "refuse" or credential["max_age_days"] is None:
        return None
    staged = next(row["staged_at"] for row in rows if row["number"] == key.number)
    return later(staged, credential["max_age_days"] * DAY_MS)
