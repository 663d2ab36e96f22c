"""Change the log's signing key: for a while both sign, then the new one alone.

Keys of one epoch of the log are numbered from 0, which has no row before the first change.  Whoever knows the old key
alone can verify until it stops, and has so long to get the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import CheckpointRow, LogKeyRow
from broker.base.clock import DAY_MS, Millis
from broker.base.errors import Conflict

BOTH_MS: Final = 30 * DAY_MS


async def keys(session: AsyncSession, origin: str) -> Sequence[LogKeyRow]:
    """The keys of a log, oldest first."""
    rows = select(LogKeyRow).where(LogKeyRow.origin == origin).order_by(LogKeyRow.number)
    found = (await session.scalars(rows)).all()
    return found or [LogKeyRow(origin=origin, number=0, begun_at=Millis(0), good_to=None)]


async def signing(session: AsyncSession, origin: str) -> Sequence[int]:
    """The numbers of the keys that sign, oldest first."""
    return [row.number for row in await keys(session, origin) if row.good_to is None]


async def begin(session: AsyncSession, origin: str, now: Millis) -> tuple[int, int]:
    """Let a new key sign from the next checkpoint on; returns the old one's number and its own.

    Raises:
        Conflict: a change goes on.
    """
    await _lock(session)
    found = await keys(session, origin)
    if len([row for row in found if row.good_to is None]) > 1:
        raise Conflict("The log's key is being changed: the old one signs for 30 days. `/v1/audit/log/key` has both.")
    old = found[-1]
    session.add(old)
    session.add(LogKeyRow(origin=origin, number=old.number + 1, begun_at=now, good_to=None))
    return old.number, old.number + 1


async def retire(session: AsyncSession, now: Millis) -> LogKeyRow | None:
    """Let the old key sign no more, if both signed for long enough; returns it."""
    newest = await _lock(session)
    if newest is None:
        return None
    found = [row for row in await keys(session, newest.origin) if row.good_to is None]
    if len(found) < 2 or now - found[-1].begun_at < BOTH_MS:
        return None
    found[0].good_to = newest.size
    return found[0]


async def _lock(session: AsyncSession) -> CheckpointRow | None:
    """The newest checkpoint, which nobody signs meanwhile."""
    return (await session.scalars(select(CheckpointRow).with_for_update())).one_or_none()
