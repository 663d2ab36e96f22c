"""Open reviews as their subjects become old, start them by hand, decide them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis, later, rfc3339
from broker.base.db import Scope, upsert
from broker.base.errors import Conflict, Forbidden, Invalid, NotFound
from broker.base.validity import Validity
from broker.formats import ids
from broker.formats.ids import GrantId, NoId, OrganizationId, ReviewId
from broker.grants import commands as grants
from broker.grants.tables import GrantRow
from broker.grants.uses import Tightened
from broker.identity import operators
from broker.identity.tables import AccountRow
from broker.reviews.shown import LEAD_MS, ReviewState
from broker.reviews.subjects import Subject, found, one, stands
from broker.reviews.tables import ReviewRow

PAGE = 500


class Decision(StrEnum):
    """What comes of a review."""

    KEEP = "keep"
    REVOKE = "revoke"
    TIGHTEN = "tighten"  # a grant, to what it was used for


class OwnReview(Forbidden):
    """Whoever decides is who made the grant, or the account itself."""

    code = "own_review"
    title = "Somebody else has to review this"

    def __init__(self) -> None:
        super().__init__(
            "Nobody keeps what they made or hold themselves: another account with the role security or admin has to "
            "decide. To revoke it is yours, too."
        )


async def find(session: AsyncSession, review_id: ReviewId) -> ReviewRow:
    """The review of that id.

    Raises:
        NotFound: there is none inside the session's scope.
    """
    row = await session.scalar(select(ReviewRow).where(ReviewRow.id == review_id))
    if row is None:
        raise NotFound("There is no such review for you; `broker review list` shows those that are.")
    return row


async def open_of_grants(session: AsyncSession, now: Millis, interval_ms: int, after: GrantId | NoId) -> GrantId | None:
    """Open the first reviews of a page of grants that become due.

    Their ids are behind ``after``.  Ids are as old as their grants, so a page begins where the reviews that were opened
    by age end.

    Returns:
        The last grant of the page; None if there is none behind it.
    """
    if not after:
        last = await session.scalar(select(func.max(ReviewRow.subject)).where(ReviewRow.by_age.is_(True))) or ""
        after = last if ids.is_id(last, GrantId) else ""
    old = ids.first_at(GrantId, max(0, now - interval_ms + LEAD_MS))
    page = select(GrantRow).where(GrantRow.id > after, GrantRow.id < old).order_by(GrantRow.id).limit(PAGE)
    rows = (await session.scalars(page)).all()
    await _open(session, rows, now, interval_ms, by_age=True)
    return rows[-1].id if len(rows) == PAGE else None


async def open_of_accounts(session: AsyncSession, now: Millis, interval_ms: int) -> None:
    """Open the first reviews of accounts that become due.

    Accounts are people, a few hundred at most.
    """
    old = now - interval_ms + LEAD_MS
    query = select(AccountRow).where(AccountRow.state == Validity.ACTIVE, AccountRow.created_at < old)
    await _open(session, (await session.scalars(query)).all(), now, interval_ms)


async def _open(
    session: AsyncSession, subjects: Sequence[Subject], now: Millis, interval_ms: int, *, by_age: bool = False
) -> None:
    standing = [subject for subject in subjects if stands(subject, now)]
    pending = select(ReviewRow.subject).where(
        ReviewRow.subject.in_([subject.id for subject in standing]), ReviewRow.closed_at.is_(None)
    )
    known = set(await session.scalars(pending)) if standing else set()
    rows = [
        _values(subject, later(subject.created_at, interval_ms), now, by_age=by_age)
        for subject in standing
        if subject.id not in known
    ]
    if rows:
        await session.execute(upsert(session, ReviewRow).values(rows).on_conflict_do_nothing())


def _values(subject: Subject, due_at: Millis, now: Millis, *, by_age: bool = False) -> dict[str, Any]:
    organization: OrganizationId | NoId = subject.organization_id if isinstance(subject, GrantRow) else ""
    return {
        "id": ids.new(ids.ReviewId),
        "organization_id": organization,
        "subject": str(subject.id),
        "by_age": by_age,
        "due_at": due_at,
        "state": ReviewState.SCHEDULED,
        "created_at": now,
    }


async def start(session: AsyncSession, actor: Actor, subject_id: str, *, now: Millis) -> ReviewRow:
    """Have a grant or account reviewed within 30 days, before its time.  Idempotent.

    Raises:
        NotFound: there is none inside the session's scope. Conflict: it gives nothing, so there is nothing to review.
    """
    subject = await one(session, subject_id)
    if not stands(subject, now):
        raise Conflict("It gives nothing any more, so there is nothing to review.")
    soon = later(now, LEAD_MS)
    await session.execute(upsert(session, ReviewRow).values(_values(subject, soon, now)).on_conflict_do_nothing())
    pending = ReviewRow.subject == subject_id, ReviewRow.closed_at.is_(None)
    row = (await session.scalars(select(ReviewRow).where(*pending).with_for_update())).one()
    if row.started_by is None:
        row.started_by, row.due_at = actor.id, min(row.due_at, soon)
        if row.state == ReviewState.SCHEDULED:
            row.state = ReviewState.DUE
        await record(session, Event.about(row, "review.started", actor, now))
    return row


async def decide(
    session: AsyncSession,
    actor: Actor,
    review_id: ReviewId,
    decision: Decision,
    *,
    reason: str,
    narrowed: Tightened | None,
    days: int,
    interval_ms: int,
    now: Millis,
) -> ReviewRow:
    """Decide a review, and do what was decided.  Idempotent.

    Args:
        reason: for the record.
        narrowed: with ``tighten``, what the grant is narrowed to; it was tried on its uses of so many ``days``.
        interval_ms: until the next review.

    Raises:
        NotFound: there is none inside the session's scope. OwnReview. Invalid: no account can be narrowed.
        Conflict: it was decided otherwise, or what it is about gives nothing any more, or can't be revoked.
    """
    row = await find(session, review_id)
    await session.refresh(row, with_for_update=True)
    if row.closed_at is not None:
        if row.decision == decision and row.decided_by == actor.id:
            return row
        raise Conflict("This review is over already; `broker review list` shows those that aren't.")
    subject = await one(session, row.subject)
    if decision is not Decision.REVOKE:
        _refuse_own(subject, actor)
        if not stands(subject, now):
            raise Conflict("It gives nothing any more, so there is nothing to keep.")
    await _do(session, actor, subject, decision, reason=reason, narrowed=narrowed, days=days, now=now)
    row.state, row.decision, row.decided_by, row.closed_at = ReviewState.DECIDED, decision, actor.id, now
    told = f"{decision},review={row.id},due={rfc3339(row.due_at)}"
    event = Event.about(row, "review.decided", actor, now, reason=told, note=reason)
    row.event_id = event.id
    await session.flush()
    if decision is not Decision.REVOKE:
        session.add(ReviewRow(**_values(subject, later(now, interval_ms), now)))
    await record(session, event)
    return row


def _refuse_own(subject: Subject, actor: Actor) -> None:
    """Refuse to let somebody keep what they made or hold themselves; raises OwnReview."""
    if actor.id == (subject.created_by if isinstance(subject, GrantRow) else subject.id):
        raise OwnReview


async def _do(
    session: AsyncSession,
    actor: Actor,
    subject: Subject,
    decision: Decision,
    *,
    reason: str,
    narrowed: Tightened | None,
    days: int,
    now: Millis,
) -> None:
    if decision is Decision.REVOKE:
        if isinstance(subject, GrantRow):
            await grants.revoke(session, actor, subject.id, note=reason, now=now)
        else:
            scope: Scope = session.info["scope"]
            await operators.revoke(session, actor, scope, subject.id, now=now)
    elif decision is Decision.TIGHTEN:
        if not isinstance(subject, GrantRow) or narrowed is None:
            raise Invalid("decision: an account can't be narrowed; revoke it, and make one with fewer roles.")
        await grants.tighten(
            session,
            actor,
            subject.id,
            present=narrowed.present,
            rules=narrowed.rules,
            days=days,
            now=now,
        )


async def still_standing(session: AsyncSession, rows: Iterable[ReviewRow], now: Millis) -> list[ReviewRow]:
    """Those of the reviews whose subjects stand; the others are ended."""
    reviews = list(rows)
    subjects = await found(session, (row.subject for row in reviews))
    for row in reviews:
        if row.subject not in subjects or not stands(subjects[row.subject], now):
            row.state, row.closed_at = ReviewState.ENDED, now
    return [row for row in reviews if row.closed_at is None]
