"""Is this candidate one of our keys?  Recognised by a keyed hash of its digest, whoever's it is.

A scanner sends SHA-256 of what it found: of a random key that tells nobody what it is, so a candidate that is not ours
stays where it was.  What is stored is a keyed hash of that digest, useless without the broker's own key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.audit.record import record
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.credentials.tables import VersionRow
from broker.credentials.versions import event
from broker.formats import ids
from broker.keystore.internal import InternalKeys
from broker.leaks.tables import FindingRow
from broker.notifications.notices import tell


class Candidate(NamedTuple):
    """What a scanner found: SHA-256 of its text in hexadecimal, and the place for people."""

    digest: str
    place: str


async def recognised(db: Database, keys: InternalKeys, digests: Sequence[str]) -> dict[str, VersionRow]:
    """The versions that these digests are of, of every tenant; what the caller may learn is the caller's question."""
    marks = {keys.leak_mark(digest): digest for digest in digests}
    async with db.read(EVERY_TENANT) as session:
        rows = await session.scalars(select(VersionRow).where(VersionRow.leak_mark.in_(sorted(marks))))
        return {marks[row.leak_mark]: row for row in rows if row.leak_mark is not None}


async def note(db: Database, actor: Actor, found: Sequence[tuple[VersionRow, str]], found_by: str, *, now: int) -> None:
    """Keep findings: each key at each place once, on the record, with operators told."""
    for version, place in found:
        async with db.write(Scope.of(version.organization_id)) as session:
            await _note(session, actor, version, place, found_by, now)


async def _note(session: AsyncSession, actor: Actor, version: VersionRow, place: str, found_by: str, now: int) -> None:
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert
    place_hash = hashlib.sha256(place.encode()).hexdigest()
    made = await session.execute(
        insert(FindingRow)
        .values(
            id=ids.new("fnd"),
            organization_id=version.organization_id,
            credential_id=version.credential_id,
            version=version.number,
            provider=version.provider,
            place=place,
            place_hash=place_hash,
            found_by=found_by,
            found_at=now,
        )
        .on_conflict_do_nothing()
        .returning(FindingRow.id)
    )
    if made.first() is None:
        return
    await tell(
        session,
        "leak_found",
        organization=version.organization_id,
        provider=version.provider,
        credential=version.credential_id,
        version=version.number,
        now=now,
        dedup=f"leak_found/{version.credential_id}/{version.number}/{place_hash[:32]}",
        facts={"last4": version.last4},
    )
    await record(session, event(version, "leak.found", actor, now, reason=found_by, note=place))
