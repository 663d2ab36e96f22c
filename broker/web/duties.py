"""What is to be done about requests from time to time."""

from __future__ import annotations

from sqlalchemy import delete

from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Duty
from broker.web.tables import IdempotencyRow


def duties(db: Database, clock: Clock) -> tuple[Duty, ...]:
    """The edge's duties."""

    async def forget() -> None:
        async with db.write(EVERY_TENANT) as session:
            await session.execute(delete(IdempotencyRow).where(IdempotencyRow.expires_at < clock()))

    return (Duty("forget_answers", forget, final=True),)  # what is repeated later is done again
