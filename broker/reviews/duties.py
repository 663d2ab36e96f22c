"""Reviews are opened in time, and people are told of those that are due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Clock, Millis, later
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Duty
from broker.formats.ids import GrantId, NoId
from broker.notifications.notices import Kind, notify
from broker.reviews import commands
from broker.reviews.shown import LEAD_MS, ReviewState
from broker.reviews.tables import ReviewRow

_HOUR_MS = 3_600_000
_TOLD: Final[Mapping[ReviewState, Kind]] = {ReviewState.OVERDUE: "reviews_overdue", ReviewState.DUE: "reviews_due"}


def duties(db: Database, clock: Clock, interval_days: int) -> tuple[Duty, ...]:
    """The duties about reviews."""

    async def review() -> None:
        after: GrantId | NoId | None = ""
        while after is not None:
            async with db.write(EVERY_TENANT) as session:
                after = await commands.open_of_grants(session, clock(), interval_days * DAY_MS, after)
        async with db.write(EVERY_TENANT) as session:
            await commands.open_of_accounts(session, clock(), interval_days * DAY_MS)
        # First those that are late: they aren't due any more.
        for state in (ReviewState.DUE, ReviewState.SCHEDULED):
            await _move(db, clock, state, ReviewState.OVERDUE)
        await _move(db, clock, ReviewState.SCHEDULED, ReviewState.DUE)
        for state in (ReviewState.DUE, ReviewState.OVERDUE):
            await _end(db, clock, state)

    return (Duty("review_rights", review, every=_HOUR_MS, final=True),)  # operators are told once


async def _move(db: Database, clock: Clock, before: ReviewState, after: ReviewState) -> None:
    """Move all reviews of a state on whose time has come, a page at a time."""
    more = True
    while more:
        async with db.write(EVERY_TENANT) as session:
            more = await _page(session, before, after, clock())


async def _page(session: AsyncSession, before: ReviewState, after: ReviewState, now: Millis) -> bool:
    """Move some on, and notify people in one notice a day; says whether there may be more."""
    kind = _TOLD[after]
    time = now if after is ReviewState.OVERDUE else later(now, LEAD_MS)
    query = select(ReviewRow).where(ReviewRow.state == before, ReviewRow.due_at <= time)
    query = query.order_by(ReviewRow.due_at, ReviewRow.id).limit(commands.PAGE).with_for_update(skip_locked=True)
    rows = (await session.scalars(query)).all()
    for row in rows:
        row.state = after
    if await commands.still_standing(session, rows, now):
        await notify(session, kind, organization="", provider="", now=now, dedup=f"{kind}/{now // DAY_MS}")
    return len(rows) == commands.PAGE


async def _end(db: Database, clock: Clock, state: ReviewState) -> None:
    """End all reviews of a state whose subjects give nothing any more, a page at a time."""
    row = ReviewRow
    query = select(row).where(row.state == state).order_by(row.due_at, row.id).limit(commands.PAGE)
    page = query
    while True:
        async with db.write(EVERY_TENANT) as session:
            rows = (await session.scalars(page.with_for_update(skip_locked=True))).all()
            await commands.still_standing(session, rows, clock())
        if len(rows) < commands.PAGE:
            return
        last = tuple_(literal(rows[-1].due_at, row.due_at.type), literal(rows[-1].id, row.id.type))
        page = query.where(tuple_(row.due_at, row.id) > last)
