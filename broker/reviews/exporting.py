"""Decisions for export, each with its event's receipt, which is verified without the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import and_, or_, select

from broker.audit import receipts
from broker.base.clock import Millis, rfc3339
from broker.base.db import Database, Scope
from broker.base.errors import NotFound
from broker.reviews.shown import ReviewState
from broker.reviews.tables import ReviewRow

_PAGE = 200

Line = dict[str, Any]


async def decisions(db: Database, scope: Scope, since: Millis, until: Millis, *, personal: bool) -> AsyncIterator[Line]:
    """The decisions of a time inside ``scope``, oldest first, and then how many there were.

    The receipt of an event that is in no database any more, as it was archived or pruned, is None.

    Raises:
        NotYet: the log doesn't have the event of a decision yet; the export has no end then.
    """
    count, after = 0, (since, "")
    while True:
        page = await _page(db, scope, after, until)
        for row in page:
            yield await _line(db, scope, row, personal=personal)
        count += len(page)
        if len(page) < _PAGE:
            break
        after = (page[-1].closed_at or since, page[-1].id)
    yield {"type": "end", "since": rfc3339(since), "until": rfc3339(until), "decisions": count}


async def _page(db: Database, scope: Scope, after: tuple[Millis, str], until: Millis) -> Sequence[ReviewRow]:
    row, (time, ident) = ReviewRow, after
    behind = row.closed_at > time if ident else row.closed_at >= time
    if ident:
        behind = or_(behind, and_(row.closed_at == time, row.id > ident))
    query = select(row).where(row.state == ReviewState.DECIDED, row.closed_at >= time, row.closed_at < until, behind)
    async with db.read(scope) as session:
        return (await session.scalars(query.order_by(row.closed_at, row.id).limit(_PAGE))).all()


async def _line(db: Database, scope: Scope, row: ReviewRow, *, personal: bool) -> Line:
    assert row.event_id is not None, "what is decided has an event"
    try:
        receipt: str | None = (await receipts.of_event(db, scope, row.event_id, personal=personal)).decode()
    except NotFound:
        receipt = None
    return {
        "type": "decision",
        "review": row.id,
        "subject": row.subject,
        "organization": row.organization_id or None,
        "due_at": rfc3339(row.due_at),
        "decision": row.decision,
        "decided_by": row.decided_by,
        "decided_at": rfc3339(row.closed_at or 0),
        "event": row.event_id,
        "receipt": receipt,
    }
