"""Whether a candidate is one of our keys, told by a keyed hash of its digest.

A scanner sends only the SHA-256 of what it found.  The digest of a random key tells nobody what the key is, so a
candidate that isn't ours stays where it was.  The broker stores a keyed hash of that digest, which is useless without
the broker's own key.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Database, Scope, upsert
from broker.credentials.lifecycle import State
from broker.credentials.masking import Masking
from broker.credentials.tables import VersionRow
from broker.formats import ids
from broker.formats.ids import CredentialId
from broker.keystore.internal import InternalKeys
from broker.leaks.tables import FindingRow
from broker.notifications.notices import Kind, notify

# A statement takes only so many values. Between two statements others get their turn.
_AT_ONCE = 500
_OVER = frozenset({State.REVOKED, State.DESTROYED})


class Seen(NamedTuple):
    """One of our keys at one location, and how often it is there."""

    version: VersionRow
    location: str
    times: int = 1


async def recognised(db: Database, keys: InternalKeys, digests: Sequence[str]) -> dict[str, VersionRow]:
    """The versions, of every tenant, that have these digests.

    The caller decides who may learn of them.  A key that was refused once may have been given again.  Then the version
    that hasn't ended counts, or else the newest.
    """
    wanted, found = list(dict.fromkeys(digests)), dict[str, VersionRow]()
    async with db.read(EVERY_TENANT) as session:
        for start in range(0, len(wanted), _AT_ONCE):
            fingerprints = {keys.leak_fingerprint(digest): digest for digest in wanted[start : start + _AT_ONCE]}
            rows = await session.scalars(
                select(VersionRow)
                .where(VersionRow.leak_fingerprint.in_(sorted(fingerprints)))
                .order_by(
                    VersionRow.state.not_in(_OVER), VersionRow.staged_at, VersionRow.credential_id, VersionRow.number
                )
            )
            found |= {fingerprints[row.leak_fingerprint]: row for row in rows if row.leak_fingerprint is not None}
    return found


async def note(
    db: Database, masking: Masking, actor: Actor, seen: Sequence[Seen], found_by: str, *, now: Millis
) -> None:
    """Keep findings: each key at each location once.

    They go on the record, and operators are notified.  A key in the text of a location is masked.
    """
    versions = {(one.version.credential_id, one.version.number): one.version for one in seen}
    locations: dict[tuple[CredentialId, int], Counter[str]] = {which: Counter() for which in versions}
    for one in seen:
        clean = masking.masked(one.location, versions.values())
        locations[one.version.credential_id, one.version.number][clean] += one.times
    for which, version in versions.items():
        counts = locations[which]
        async with db.write(Scope.of(version.organization_id)) as session:
            new = [location for location in counts if await _keep(session, version, location, found_by, now)]
            if new:
                await _notify(session, version, new, now)
                await record(
                    session,
                    *(
                        Event.about(
                            version, "leak.found", actor, now, reason=found_by, note=_often(location, counts[location])
                        )
                        for location in new
                    ),
                )


def _often(location: str, count: int) -> str:
    return location if count == 1 else f"{location} ({count} times)"


async def _keep(session: AsyncSession, version: VersionRow, location: str, found_by: str, now: Millis) -> bool:
    """Keep one finding; False if it was known that the key is there."""
    made = await session.execute(
        upsert(session, FindingRow)
        .values(
            id=ids.new(ids.FindingId),
            organization_id=version.organization_id,
            credential_id=version.credential_id,
            version=version.number,
            provider=version.provider,
            location=location,
            location_hash=hashlib.sha256(location.encode()).hexdigest(),
            found_by=found_by,
            found_at=now,
        )
        .on_conflict_do_nothing()
        .returning(FindingRow.id)
    )
    return made.first() is not None


async def _notify(session: AsyncSession, version: VersionRow, locations: Sequence[str], now: Millis) -> None:
    """Notify operators, once a day for each key.

    So a scan that finds a key everywhere, or again in every checkout, is one alarm.
    """
    kind: Kind = "leak_found" if version.confirmed_at is None else "dead_key_found"
    facts: Mapping[str, str | int] = {"last4": version.last4, "place": locations[0], "places": len(locations)}
    await notify(
        session,
        kind,
        organization=version.organization_id,
        provider=version.provider,
        credential=version.credential_id,
        version=version.number,
        now=now,
        dedup=f"{kind}/{version.credential_id}/{version.number}/{now // DAY_MS}",
        facts=facts,
    )
