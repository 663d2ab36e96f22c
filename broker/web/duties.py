"""What is to be done about requests from time to time."""

from __future__ import annotations

from broker.base.clock import Clock
from broker.base.db import Database
from broker.base.duty import Duty
from broker.base.pruning import forget as forget_rows
from broker.web.tables import IdempotencyRow


def duties(db: Database, clock: Clock) -> tuple[Duty, ...]:
    """The edge's duties."""

    async def forget() -> None:
        await forget_rows(db, IdempotencyRow, IdempotencyRow.expires_at < clock(), IdempotencyRow.expires_at)

    return (Duty("forget_answers", forget, final=True),)  # what is repeated later is done again
