"""Deleting rows that matter no more: by index, in pages.

Each page is a transaction of its own.  So nobody waits for it for long, and a crash loses nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, delete, inspect, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import ReturningDelete

from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database, Table

# Rows that one transaction looks at or deletes, and transactions of one turn.
PAGE = 500
TURN = 40
_BETWEEN_MS = 6 * 3_600_000

# Where a page ended, in the order of its index.
Key: TypeAlias = tuple[Any, ...]
# Deletes what is over among the rows after a key, at ``now``.  Returns where it ended, None if there are no more.
Page: TypeAlias = Callable[[AsyncSession, Key | None, Millis], Awaitable[Key | None]]


async def forget(db: Database, row: type[Table], over: ColumnElement[bool], by: InstrumentedAttribute[Any]) -> None:
    """Delete rows of which all that are ``over`` may go.

    ``by`` is the column of the index that finds them.  What a turn leaves is deleted by the next one.
    """
    for _ in range(TURN):
        async with db.write(EVERY_TENANT) as session:
            gone = len((await session.execute(oldest(row, over, by))).all())
        if gone < PAGE:
            return


def oldest(row: type[Table], over: ColumnElement[bool], by: InstrumentedAttribute[Any]) -> ReturningDelete[Any]:
    """Deletes one page of what is ``over``, the oldest first."""
    key = [inspect(row).get_property_by_column(column).class_attribute for column in inspect(row).primary_key]
    page = select(*key).where(over).order_by(by).limit(PAGE)
    return delete(row).where(tuple_(*key).in_(page)).returning(*key)


class Walk:
    """Looks through rows of which some stay: page by page, a few pages a turn.

    Once through, it rests for hours, then begins again.
    """

    def __init__(self, db: Database, clock: Clock, page: Page) -> None:
        self._db = db
        self._clock = clock
        self._page = page
        self._after: Key | None = None
        self._through_at: int | None = None

    async def go_on(self) -> None:
        """Look at some pages more."""
        now = self._clock()
        if self._through_at is not None and abs(now - self._through_at) < _BETWEEN_MS:
            return
        for _ in range(TURN):
            async with self._db.write(EVERY_TENANT) as session:
                after = await self._page(session, self._after, now)
            self._after = after
            if after is None:
                self._through_at = now
                return
        self._through_at = None
