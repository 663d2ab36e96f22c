"""Whose turn it is: each destination has a queue of what is urgent and one of all else.

A queue is served when its time has come, then goes to the end.  So a destination with much to catch up on takes no
other's turn, and a turn reads as many rows as it takes, however many wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis, later
from broker.base.db import upsert
from broker.notifications.lifecycle import DeliveryState
from broker.notifications.tables import DeliveryRow, QueueRow

_URGENT: Final = (True, False)
# What others were at when its turn came is looked at again so soon.
_AGAIN_MS: Final = 1_000


def queue_of(channel: str, destination: str, *, urgent: bool) -> str:
    """The queue's id; it doesn't tell the destination."""
    digest = hashlib.sha256(f"{channel} {destination}".encode()).hexdigest()[:32]
    return f"{'urgent' if urgent else 'other'}-{digest}"


async def line_up(session: AsyncSession, queues: Iterable[str], at: Millis) -> None:
    """Have these queues served at ``at`` (milliseconds) if not before.

    While a destination rests its queue waits on.
    """
    # In one order, as others do so at the same time.
    rows = [_row(queue, due_at=at) for queue in sorted(set(queues))]
    if not rows:
        return
    statement = upsert(session, QueueRow).values(rows)
    there, added = QueueRow, statement.excluded
    sooner = case((added.due_at < there.due_at, added.due_at), else_=there.due_at)
    due_at = case((sooner < there.rests_until, there.rests_until), else_=sooner)
    await session.execute(statement.on_conflict_do_update(index_elements=[there.id], set_={"due_at": due_at}))


async def rest(session: AsyncSession, channel: str, destination: str, until: Millis) -> None:
    """Send nothing to a destination before ``until`` (milliseconds)."""
    queues = sorted(queue_of(channel, destination, urgent=urgent) for urgent in _URGENT)
    statement = upsert(session, QueueRow).values([_row(queue, due_at=until, rests_until=until) for queue in queues])
    changed = {"rests_until": until, "due_at": until}
    await session.execute(statement.on_conflict_do_update(index_elements=[QueueRow.id], set_=changed))


def _row(queue: str, *, due_at: Millis, rests_until: int = 0) -> dict[str, object]:
    return {"id": queue, "urgent": queue.startswith("urgent"), "due_at": due_at, "rests_until": rests_until}


async def resting(session: AsyncSession, queues: Iterable[str]) -> dict[str, Millis]:
    """Until when (milliseconds) those of these queues rest that ever had to."""
    asked = select(QueueRow.id, QueueRow.rests_until).where(QueueRow.id.in_(set(queues)), QueueRow.rests_until > 0)
    return {row[0]: row[1] for row in await session.execute(asked)}


async def due(session: AsyncSession, now: Millis, limit: int) -> list[QueueRow]:
    """Queues whose turn it is, urgent ones first, locked; none that another process has."""
    found: list[QueueRow] = []
    for urgent in _URGENT:
        query = (
            select(QueueRow)
            .where(QueueRow.urgent.is_(urgent), QueueRow.due_at <= now)
            .order_by(QueueRow.due_at, QueueRow.id)
            .limit(limit - len(found))
            .with_for_update(skip_locked=True)
        )
        found += await session.scalars(query)
    return found


async def first(session: AsyncSession, queue: QueueRow, now: Millis, limit: int) -> Sequence[DeliveryRow]:
    """The deliveries of a queue that are due longest, locked."""
    query = (
        select(DeliveryRow)
        .where(*_waiting(queue), DeliveryRow.next_try_at <= now)
        .order_by(DeliveryRow.next_try_at, DeliveryRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(query)).all()


async def to_the_end(session: AsyncSession, queue: QueueRow, now: Millis, *, served: bool) -> None:
    """Have a queue wait for its next turn; one in which nothing waits goes."""
    await session.flush()
    next_ = await session.scalar(select(func.min(DeliveryRow.next_try_at)).where(*_waiting(queue)))
    soonest = now if served else later(now, _AGAIN_MS)
    if next_ is not None:
        queue.due_at = max(next_, soonest)
    elif queue.rests_until > now:
        queue.due_at = queue.rests_until
    else:
        await session.delete(queue)


def _waiting(queue: QueueRow) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return DeliveryRow.queue == queue.id, DeliveryRow.state == DeliveryState.PENDING
