"""How often keys were used, by day.

That is counted from the record, and read with what isn't counted yet.

What a call costs doesn't grow by it, and what is asked about a key costs as much as it has days and jobs, not calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import CursorRow, EventRow, HeadRow
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Database, upsert
from broker.base.duty import Duty
from broker.credentials.tables import CredentialRow
from broker.formats.ids import CredentialId, OrganizationId, WorkloadId
from broker.grants.policy import Mode
from broker.leases import days
from broker.leases.tables import UseDayRow

CURSOR: Final = "use_days"
_KINDS: Final = ("use.authorized", "lease.issued")
_KEY: Final = ("credential_id", "version", "workload_id", "day")
_SUMS: Final = ("uses", "reveals")
_LASTS: Final = ("last_use", "last_reveal", "last_lease")
_COLUMNS: Final = (*_KEY, *_SUMS, *_LASTS)
_PAGE: Final = 2_000
# So many pages in one turn; the next goes on.
_PAGES: Final = 50


class Did(NamedTuple):
    """What a job did with a key.

    That is: its uses, how often it was shown the key, and when it last used it, was last shown it, and last got a lease
    (milliseconds, 0 if it did not).
    """

    uses: int = 0
    reveals: int = 0
    last_use: Millis | int = 0
    last_reveal: Millis | int = 0
    last_lease: Millis | int = 0


class UseDay(NamedTuple):
    """What one job did with one version in one day (UTC, days since the epoch)."""

    credential: CredentialId
    version: int
    workload: WorkloadId
    day: int
    did: Did


class _Counted(msgspec.Struct, frozen=True):
    """What counts of an event's core (:mod:`broker.formats.audit_event`)."""

    kind: str
    time: Millis
    credential: CredentialId
    version: int
    workload: WorkloadId
    organization: OrganizationId
    mode: str = ""


_decode = msgspec.json.Decoder(_Counted).decode


async def days_of(session: AsyncSession, credential_id: CredentialId, since: Millis) -> Sequence[UseDay]:
    """The uses of every version of a credential, from the day of ``since`` (milliseconds) on."""
    # Read first: a number that isn't known when the query is planned would have it read the whole record.
    next_ = await counted_to(session)
    columns = [getattr(UseDayRow, name) for name in _COLUMNS]
    counted = await session.execute(
        select(*columns).where(UseDayRow.credential_id == credential_id, UseDayRow.day >= since // DAY_MS)
    )
    newer = await session.scalars(
        select(EventRow.core).where(
            EventRow.credential_id == credential_id,
            EventRow.kind.in_(_KINDS),
            EventRow.idx >= next_,
        )
    )
    fresh = [_day(event) for event in map(_decode, newer) if event.time >= since // DAY_MS * DAY_MS]
    before = [UseDay(key, version, job, day, Did(*did)) for key, version, job, day, *did in counted]
    return _summed([*before, *fresh])


def by_workload(days: Iterable[UseDay]) -> Mapping[WorkloadId, Did]:
    """What each job did in all these days."""
    found: dict[WorkloadId, Did] = {}
    for day in days:
        found[day.workload] = _added(found.get(day.workload, Did()), day.did)
    return found


async def counted_to(session: AsyncSession) -> int:
    """The index of the first event that isn't counted yet."""
    return await session.scalar(select(CursorRow.next).where(CursorRow.name == CURSOR)) or 0


def duty(db: Database) -> Duty:
    """Counts what is on the record since the last time."""

    async def count_uses() -> None:
        for _ in range(_PAGES):
            if not await _page(db):
                return

    return Duty("count_uses", count_uses)


async def _page(db: Database) -> bool:
    """Count the next events; says whether there are more."""
    async with db.write(EVERY_TENANT) as session:
        cursor = await session.get(CursorRow, CURSOR, with_for_update=True)
        if cursor is None:
            cursor = CursorRow(name=CURSOR, next=0)
            session.add(cursor)
        size = await session.scalar(select(HeadRow.size)) or 0
        until = min(cursor.next + _PAGE, size)
        if until <= cursor.next:
            return False
        cores = await session.scalars(
            select(EventRow.core).where(EventRow.idx >= cursor.next, EventRow.idx < until, EventRow.kind.in_(_KINDS))
        )
        await _count(session, [_decode(core) for core in cores])
        await days.count(session, cursor.next, until)
        cursor.next = until
        return until < size


async def _count(session: AsyncSession, events: Sequence[_Counted]) -> None:
    organizations = {event.credential: event.organization for event in events}
    days = _summed(map(_day, events))
    if days:
        rows = [
            dict(zip(_COLUMNS, (*day[:-1], *day.did), strict=True), organization_id=organizations[day.credential])
            for day in days
        ]
        statement = upsert(session, UseDayRow).values(rows)
        there, added = UseDayRow, statement.excluded
        sums = {name: getattr(there, name) + added[name] for name in _SUMS}
        lasts = {
            name: case((added[name] > getattr(there, name), added[name]), else_=getattr(there, name)) for name in _LASTS
        }
        key = [getattr(there, name) for name in _KEY]
        await session.execute(statement.on_conflict_do_update(index_elements=key, set_=sums | lasts))
    await _first(session, events)


async def _first(session: AsyncSession, events: Sequence[_Counted]) -> None:
    """Note of credentials when they were first leased or used."""
    times = {event.credential: event.time for event in reversed(events)}
    never = select(CredentialRow.id).where(CredentialRow.id.in_(times), CredentialRow.used_at.is_(None))
    for found in await session.scalars(never):
        await session.execute(update(CredentialRow).where(CredentialRow.id == found).values(used_at=times[found]))


def _day(event: _Counted) -> UseDay:
    lease, shown = event.kind == "lease.issued", event.mode == Mode.REVEAL
    return UseDay(
        event.credential,
        event.version,
        event.workload,
        event.time // DAY_MS,
        Did(
            uses=int(not lease),
            reveals=int(lease and shown),
            last_use=0 if lease else event.time,
            last_reveal=event.time if lease and shown else 0,
            last_lease=event.time if lease else 0,
        ),
    )


def _summed(days: Iterable[UseDay]) -> list[UseDay]:
    """One for each version, job and day."""
    found: dict[tuple[CredentialId, int, WorkloadId, int], Did] = {}
    for credential, version, workload, day, did in days:
        key = credential, version, workload, day
        found[key] = _added(found.get(key, Did()), did)
    return [UseDay(*key, did) for key, did in found.items()]


def _added(one: Did, other: Did) -> Did:
    return Did(
        one.uses + other.uses,
        one.reveals + other.reveals,
        max(one.last_use, other.last_use),
        max(one.last_reveal, other.last_reveal),
        max(one.last_lease, other.last_lease),
    )
