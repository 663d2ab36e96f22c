"""What is to be done about the record from time to time."""

from __future__ import annotations

from sqlalchemy import delete

from broker.audit.tables import BatchRow
from broker.base.clock import DAY_MS, Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Duty


def duties(db: Database, clock: Clock) -> tuple[Duty, ...]:
    """The record's duties."""

    async def forget() -> None:
        async with db.write(EVERY_TENANT) as session:
            await session.execute(delete(BatchRow).where(BatchRow.time < clock() - DAY_MS))

    return (Duty("forget_batches", forget, final=True),)  # a batch that is tried again would be recorded twice
