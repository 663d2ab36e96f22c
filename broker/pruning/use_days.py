"""Days of use that nobody looks at any more."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Millis
from broker.base.pruning import Key
from broker.credentials.tables import VersionRow
from broker.leases.tables import OrganizationDayRow, UseDayRow
from broker.pruning.keeping import before, end_of, page_of

_KEY = (UseDayRow.day, UseDayRow.credential_id, UseDayRow.version, UseDayRow.workload_id)
_OF_ORGANIZATION = (OrganizationDayRow.day, OrganizationDayRow.organization_id)


@dataclass(frozen=True, slots=True)
class UseDays:
    """Deletes what jobs did in a day more than ``days`` ago.

    Days on which a job was shown a key stay until that is destroyed: they tell who may have a copy.
    """

    days: int

    async def page(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        rows = (await session.execute(page_of(_KEY, after, UseDayRow.day < before(now, self.days) // DAY_MS))).all()
        page = {tuple(row) for row in rows}
        version = and_(VersionRow.credential_id == UseDayRow.credential_id, VersionRow.number == UseDayRow.version)
        shown = (
            select(*_KEY)
            .join(VersionRow, version)
            .where(tuple_(*_KEY).in_(page), UseDayRow.reveals > 0, VersionRow.destroyed_at.is_(None))
        )
        gone = page - {tuple(row) for row in await session.execute(shown)}
        if gone:
            await session.execute(delete(UseDayRow).where(tuple_(*_KEY).in_(gone)))
        return end_of(rows)


@dataclass(frozen=True, slots=True)
class OrganizationDays:
    """Deletes how often a customer's keys were used or refused more than ``days`` ago."""

    days: int

    async def page(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        over = OrganizationDayRow.day < before(now, self.days) // DAY_MS
        rows = (await session.execute(page_of(_OF_ORGANIZATION, after, over))).all()
        if gone := [tuple(row) for row in rows]:
            await session.execute(delete(OrganizationDayRow).where(tuple_(*_OF_ORGANIZATION).in_(gone)))
        return end_of(rows)
