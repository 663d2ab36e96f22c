"""Tell people of a row that gives rights and is not as the broker wrote it."""

from __future__ import annotations

from sqlalchemy import select

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.db import EVERY_TENANT, Database
from broker.keystore.genuine import GivesRights
from broker.notifications.notices import tell
from broker.notifications.tables import NoticeRow

_DAY_MS = 86_400_000


async def report(db: Database, row: GivesRights, now: int) -> None:
    """Put it on the record and tell operators, once a day for as long as somebody meets the row."""
    organization, table, name = getattr(row, "organization_id", ""), row.table_name, row.id
    dedup = f"altered/{table}/{name}/{now // _DAY_MS}"
    same = select(NoticeRow.id).where(NoticeRow.organization_id == organization, NoticeRow.dedup == dedup)
    async with db.read(EVERY_TENANT) as session:
        if await session.scalar(same):
            return
    async with db.write(EVERY_TENANT) as session:
        if await session.scalar(same):
            return
        await tell(
            session,
            "right_altered",
            organization=organization,
            provider=getattr(row, "provider", ""),
            now=now,
            dedup=dedup,
            facts={"table": table, "row": name},
        )
        event = Event(kind="right.altered", time=now, actor=BROKER, organization=organization, subject=name)
        await record(session, event)
