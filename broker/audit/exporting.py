"""Exports that show that nothing is left out.

They have all of an organization's events in a time, or all of the log.  The format is :mod:`broker.formats.export`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import archives, integrating, organization_heads, pruned, receipts
from broker.audit.integrating import Altered
from broker.audit.search import Filter, rows
from broker.audit.tables import EventRow, HeadRow, OrganizationHeadRow
from broker.audit.trees import cut
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Conflict, NotFound
from broker.formats import export
from broker.formats.ids import OrganizationId
from broker.formats.receipt import ShownEvent
from broker.formats.tile import WIDTH

# An event may come on the record so long after its time, so heads are taken from so much outside of a time.
_MARGIN_MS: Final = 60_000
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Between:
    """An organization's events between two of its heads.

    ``first`` is None if they are all from the beginning.
    """

    organization: OrganizationId
    first: OrganizationHeadRow | None
    last: OrganizationHeadRow


async def between(
    db: Database, organization: OrganizationId, since: Millis | None, until: Millis | None, now: Millis
) -> Between:
    """The heads around a time, of which a new one is made if there is none behind it.

    Raises:
        NotFound: nothing ever happened to the organization.  Conflict: some of the events are archived.
        NotYet: the log hasn't come so far yet.
    """
    scope = Scope.of(organization)
    first = last = None
    async with db.read(scope) as session:
        if since is not None:
            first = await organization_heads.before(session, organization, Millis(since - _MARGIN_MS))
        if until is not None:
            last = await organization_heads.behind(session, organization, Millis(until + _MARGIN_MS))
        size = await session.scalar(select(HeadRow.size)) or 0
    if last is None:
        await receipts.taken_in(db, scope, size)
        last = await organization_heads.head_now(db, organization, now)
    if last is None:
        raise NotFound("Nothing is on the record of this organization.")
    await receipts.taken_in(db, scope, last.idx + 1)
    wanted = Between(organization, first, last)
    async with db.read(scope) as session:
        await _refuse_archived(session, first)
        await _refuse_pruned(session, scope, wanted)
    return wanted


async def _refuse_pruned(session: AsyncSession, scope: Scope, wanted: Between) -> None:
    """Refuse a time of which events of the organization were pruned.

    Their entries don't say whose they were.
    """
    begun, extent = (wanted.first.extent, wanted.first.size) if wanted.first else (0, 0), wanted.last.extent
    if await pruned.between(session, after=begun[0] - 1) is None:
        return
    index, count = begun[0] - 1, begun[1]
    while found := await rows(session, scope, Filter(organization=wanted.organization, after=index), _PAGE):
        index = found[-1].idx
        count += sum(row.idx < extent for row in found)
        if index >= extent:
            break
    if count < wanted.last.size:
        raise Conflict(
            "Events of this time were pruned by policy (BROKER_KEEP_…_DAYS), so nobody can show any more that none is "
            "left out. Ask for a later time; the receipts of what is still here hold (`broker audit receipt`)."
        )


async def _refuse_archived(session: AsyncSession, first: OrganizationHeadRow | None) -> None:
    here = await archives.first_here(session)
    if here > (0 if first is None else first.extent):
        elsewhere = await archives.elsewhere(session)
        months = elsewhere.months if elsewhere else []
        raise Conflict(
            f"Events of this time were archived ({', '.join(months)}), and an export reads no archives. Ask for a "
            "later time, or give out those months' archives, which `broker record verify` proves."
        )


async def of_organization(db: Database, wanted: Between, *, personal: bool) -> AsyncIterator[bytes]:
    """The lines of an export of one organization, with personal parts or without.

    Raises:
        Altered: an event that the organization's tree has is no more on the record; the file has no end then.
    """
    first, last, scope = wanted.first, wanted.last, Scope.of(wanted.organization)
    yield export.header(wanted.organization)
    if first is None:
        yield export.begin()
    else:
        yield export.begin(await _receipt(db, first), cut(first.edge))
    index, count = first.extent - 1 if first else -1, first.size if first else 0
    while count < last.size:
        found = await _some(db, scope, wanted, index, personal=personal)
        for at, event in found:
            yield export.event(at, event)
        if not found:
            raise Altered(f"an event of {wanted.organization} behind {index} is not on the record")
        index, count = found[-1][0], count + len(found)
    yield export.end(await _receipt(db, last))


async def _some(
    db: Database, scope: Scope, wanted: Between, after: int, *, personal: bool
) -> Sequence[tuple[int, ShownEvent]]:
    async with db.read(scope) as session:
        found = await rows(session, scope, Filter(organization=wanted.organization, after=after), _PAGE)
        here = [row for row in found if row.idx < wanted.last.extent]
        events = await receipts.events_of(session, here, personal=personal)
    return [(row.idx, event) for row, event in zip(here, events, strict=True)]


async def _receipt(db: Database, head: OrganizationHeadRow) -> bytes:
    """The receipt of a head, whose event is no tenant's."""
    async with db.read(EVERY_TENANT) as session:
        row = await session.scalar(select(EventRow).where(EventRow.idx == head.idx))
        if row is None:
            raise Altered(f"the head at {head.idx} is not on the record")
        return await receipts.of_row(session, row, personal=False)


async def of_log(db: Database, *, personal: bool) -> AsyncIterator[bytes]:
    """The lines of an export of all of the log, with personal parts or without.

    Events of archived months, and those that were pruned by policy, have their entries alone.

    Raises:
        NotYet: there is no checkpoint yet.  Altered: an event is no more on the record; the file has no end then.
    """
    await receipts.taken_in(db, EVERY_TENANT, 1)
    async with db.read(EVERY_TENANT) as session:
        newest = await integrating.newest(session)
        here = await archives.first_here(session)
    assert newest is not None, "the log has an event"
    size, note = newest.size, newest.note
    yield export.header(None)
    yield export.begin()
    for at in range(0, size, WIDTH):
        end = min(at + WIDTH, size)
        async with db.read(EVERY_TENANT) as session:
            found = await _of_log(session, max(at, here), end)
            events = await receipts.events_of(session, found, personal=personal)
            kept = {row.idx: event for row, event in zip(found, events, strict=True)}
            gone = await pruned.within(session, at, end)
            entries = await integrating.entries(session, at, end)
        for index in range(at, end):
            if index in kept:
                yield export.event(index, kept[index])
            elif index < here or index in gone:
                yield export.kept_no_more(index, entries[index - at])
            else:
                raise Altered(f"event {index} is not on the record")
    yield export.end_of_log(note)


async def _of_log(session: AsyncSession, first: int, end: int) -> Sequence[EventRow]:
    return (await session.scalars(select(EventRow).where(EventRow.idx >= first, EventRow.idx < end))).all()
