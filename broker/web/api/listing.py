"""Lists: one page by id, the way every list of the API pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.web.api.fields import after

Row = TypeVar("Row")


async def rows_of(
    session: AsyncSession, query: Select[Row], key: InstrumentedAttribute[str], limit: int, cursor: str
) -> Sequence[Row]:
    """The rows of ``query`` after ``cursor``, in the order of ``key``.

    There is one more than ``limit`` if there is a next page.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    return (await session.scalars(query.where(key > after(cursor)).order_by(key).limit(limit + 1))).all()
