"""Heads of organizations: how many events each has, and the tree hash over them.

They are events of the record.  A head is made once a day of each organization that something happened to, and whenever
one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.integrating import locked
from broker.audit.record import record
from broker.audit.tables import HeadRow, OrganizationHeadRow, OrganizationTreeRow
from broker.audit.trees import tree
from broker.base.clock import DAY_MS, Clock, Millis
from broker.base.db import EVERY_TENANT, Database
from broker.formats.export import OrganizationHead
from broker.formats.ids import OrganizationId

# Heads of one transaction, which holds the record's head.
_AT_ONCE: Final = 100


async def head_all(db: Database, clock: Clock) -> None:
    """Make the heads that are due."""
    row, now = OrganizationTreeRow, clock()
    due = select(row).where(row.size > row.headed, row.headed_at <= now - DAY_MS).limit(_AT_ONCE)
    while True:
        async with db.write(EVERY_TENANT) as session:
            extent = (await locked(session)).size
            rows = (await session.scalars(due.order_by(row.headed_at))).all()
            await _head(session, rows, extent, now)
        if len(rows) < _AT_ONCE:
            return


async def head_now(db: Database, organization: OrganizationId, now: Millis) -> OrganizationHeadRow | None:
    """Make a head of one organization, as far as the log has come.

    None if nothing ever happened to it.
    """
    async with db.write(EVERY_TENANT) as session:
        extent = (await locked(session)).size
        row = await session.get(OrganizationTreeRow, organization)
        if row is None:
            return None
        (made,) = await _head(session, [row], extent, now)
    return made


async def _head(
    session: AsyncSession, rows: Sequence[OrganizationTreeRow], extent: int, now: Millis
) -> Sequence[OrganizationHeadRow]:
    """Put heads on the record: of trees that are all as they were at ``extent``."""
    if not rows:
        return []
    # No event that a head has is later than it is, whatever clock this process has.
    latest = await session.scalar(select(HeadRow.latest))
    time = Millis(max(now, latest or 0))
    events = []
    for row in rows:
        head = OrganizationHead(row.size, tree(row.size, row.edge).root(), extent)
        events.append(Event.about(row, "audit.head", BROKER, time, reason=head.reason()))
        row.headed, row.headed_at = row.size, now
    await record(session, *events)
    end = await session.scalar(select(HeadRow.size)) or 0
    made = [
        OrganizationHeadRow(
            organization_id=row.organization_id,
            idx=end - len(rows) + offset,
            time=time,
            extent=extent,
            size=row.size,
            edge=row.edge,
        )
        for offset, row in enumerate(rows)
    ]
    session.add_all(made)
    await session.flush()
    return made


async def before(session: AsyncSession, organization: OrganizationId, time: Millis) -> OrganizationHeadRow | None:
    """The last head that was made until then; None if none was."""
    row = OrganizationHeadRow
    query = select(row).where(row.organization_id == organization, row.time <= time)
    found: OrganizationHeadRow | None = await session.scalar(query.order_by(row.idx.desc()).limit(1))
    return found


async def behind(session: AsyncSession, organization: OrganizationId, time: Millis) -> OrganizationHeadRow | None:
    """The first head that was made then or later; None if none was."""
    row = OrganizationHeadRow
    query = select(row).where(row.organization_id == organization, row.time >= time)
    found: OrganizationHeadRow | None = await session.scalar(query.order_by(row.idx).limit(1))
    return found
