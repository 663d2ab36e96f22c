"""Notices that everybody was told of long ago, and their deliveries."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, and_, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.id_column import IdText
from broker.base.pruning import Key
from broker.credentials.lifecycle import State
from broker.credentials.tables import VersionRow
from broker.formats import ids
from broker.formats.ids import DeliveryId, NoticeId
from broker.notifications.lifecycle import DeliveryState
from broker.notifications.tables import DeliveryRow, NoticeRow
from broker.pruning.keeping import before, end_of, page_of, rest_of


@dataclass(frozen=True, slots=True)
class Notices:
    """Deletes what is ``days`` old."""

    days: int

    async def deliveries(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Deliveries that were sent or given up."""
        first = ids.first_at(DeliveryId, before(now, self.days))
        rows = (await session.execute(page_of((DeliveryRow.id,), after, DeliveryRow.id < first))).all()
        settled = DeliveryRow.state != DeliveryState.PENDING, DeliveryRow.settled_at < before(now, self.days)
        await session.execute(delete(DeliveryRow).where(DeliveryRow.id.in_([row[0] for row in rows]), *settled))
        return end_of(rows)

    async def notices(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Notices without deliveries.

        One that is made once of a key stays while the key is in use, else it would be made again.
        """
        first = ids.first_at(NoticeId, before(now, self.days))
        rows = (await session.execute(page_of((NoticeRow.id,), after, NoticeRow.id < first))).all()
        page = [row[0] for row in rows]
        gone = await rest_of(session, page, with_delivery(page), once_of_key_in_use(page))
        told = NoticeRow.fanned_out_at.is_not(None)
        await session.execute(delete(NoticeRow).where(NoticeRow.id.in_(gone), told))
        return end_of(rows)


def with_delivery(page: list[NoticeId]) -> Select[NoticeId]:
    """Notices that have deliveries."""
    return select(DeliveryRow.notice_id).where(DeliveryRow.notice_id.in_(page))


def once_of_key_in_use(page: list[NoticeId]) -> Select[NoticeId]:
    """Notices that are made once, of keys that are not over."""
    its = and_(VersionRow.credential_id == NoticeRow.credential_id, VersionRow.number == NoticeRow.version)
    going_on = VersionRow.state.not_in((State.REVOKED, State.DESTROYED))
    query = select(NoticeRow.id).join(VersionRow, its)
    return query.where(NoticeRow.id.in_(page), NoticeRow.dedup != IdText(NoticeRow.id), going_on)
