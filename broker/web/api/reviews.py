"""/v1/reviews: whether grants and accounts are still needed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import receipts
from broker.audit.events import Event
from broker.audit.tables import HeadRow
from broker.base.clock import DAY_MS, Millis
from broker.base.errors import Forbidden, Invalid
from broker.base.paging import by
from broker.formats.ids import ReviewId
from broker.grants import commands as grants
from broker.grants import uses
from broker.grants.tables import GrantRow
from broker.grants.uses import Tightened
from broker.identity.principal import Role
from broker.organizations import commands as organizations
from broker.reviews import commands, subjects
from broker.reviews.commands import Decision
from broker.reviews.exporting import decisions
from broker.reviews.shown import ReviewState
from broker.reviews.subjects import Subject
from broker.reviews.tables import ReviewRow
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Limit,
    Moment,
    Note,
    Page,
    View,
    milliseconds,
    when,
)
from broker.web.api.forms import Form
from broker.web.api.listing import Order, OrganizationSought, rows_of, shown
from broker.web.api.names import JobName, Names, Slug, job_names, slugs_of
from broker.web.api.proofs import Personal
from broker.web.callers import ByOperatorOrSecurityRole, BySecurityRole, Call

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])


class ReviewView(View):
    """A review of a grant or of an account; `subject` is the id of either."""

    id: str
    subject: str
    organization: Annotated[str, Field(description="Of a grant; empty for an account.")]
    organization_slug: Slug
    workload_name: JobName
    provider: str
    account_name: Annotated[str, Field(description="Of an account; empty for a grant.")]
    created_by: Annotated[str, Field(description="Who made the grant or account.")]
    state: str
    due_at: str | None
    started_by: str | None
    decision: str | None
    decided_by: str | None
    decided_at: str | None
    event: Annotated[str | None, Field(description="The event of the decision; its receipt proves it.")]


class StartReview(Body):
    """What is to be reviewed before its time."""

    subject: Annotated[
        str,
        Field(description="A grant's id, or an account's."),
        Form(r"^(grt|opr)_[0-9a-f]{32}$", "write the id of a grant or account, such as grt_…"),
    ]


class Decided(Body):
    """What comes of a review, and why."""

    decision: Annotated[Decision, Field(description="To narrow what is reviewed, it has to be a grant.")]
    reason: Annotated[Note, Field(min_length=1, description="Why; it is on the record.")]
    days: Annotated[
        int, Field(ge=1, le=3_650, description="To tighten: what the grant was used for in so many days stays allowed.")
    ] = uses.DAYS


def _show(row: ReviewRow, subject: Subject | None, slugs: Names, jobs: Names, now: Millis) -> ReviewView:
    grant = subject if isinstance(subject, GrantRow) else None
    return ReviewView(
        id=row.id,
        subject=row.subject,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        workload_name=jobs[grant.workload_id] if grant else "",
        provider=grant.provider if grant else "",
        account_name=subject.name if subject is not None and not isinstance(subject, GrantRow) else "",
        created_by=subject.created_by if subject is not None else "",
        state=subjects.state_of(row, subject, now),
        due_at=when(row.due_at),
        started_by=row.started_by,
        decision=row.decision,
        decided_by=row.decided_by,
        decided_at=when(row.closed_at) if row.decision else None,
        event=row.event_id,
    )


async def _views(session: AsyncSession, rows: Sequence[ReviewRow], now: Millis) -> Mapping[str, ReviewView]:
    about = await subjects.found(session, (row.subject for row in rows))
    slugs = await slugs_of(session, rows)
    jobs = await job_names(session, (each.workload_id for each in about.values() if isinstance(each, GrantRow)))
    return {row.id: _show(row, about.get(row.subject), slugs, jobs, now) for row in rows}


async def _view(session: AsyncSession, row: ReviewRow, now: Millis) -> ReviewView:
    return (await _views(session, [row], now))[row.id]


@router.get("", summary="List reviews")
async def listed(
    call: ByOperatorOrSecurityRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    state: Annotated[ReviewState | None, Query()] = None,
    order: Order = "oldest",
) -> Page[ReviewView]:
    """Reviews by the time that they are due; those of accounts are seen by who sees every organization."""
    row = ReviewRow
    async with call.services.parts.db.read(call.scope) as session:
        filters = (
            by(row.organization_id, await organizations.sought(session, organization)),
            by(row.state, state),
        )
        found = await rows_of(session, row, filters, limit, cursor, order, row.due_at, row.id)
        views = await _views(session, found.rows, call.now)
    listed = shown(found, lambda row: views[row.id])
    # What has ended since the worker looked last shows it.
    return Page(items=[one for one in listed.items if state in {None, one.state}], next=listed.next)


@router.post("", summary="Start a review", response_model=ReviewView)
async def start(body: StartReview, call: BySecurityRole) -> Response:
    """Have a grant or an account reviewed within 30 days, before its time."""

    async def work(session: AsyncSession) -> ReviewView:
        row = await commands.start(session, call.actor, body.subject, now=call.now)
        return await _view(session, row, call.now)

    return await call.change(body, work)


@router.get("/export", summary="Export decisions", response_class=StreamingResponse)
async def export(
    call: BySecurityRole,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    personal: Personal = False,
) -> StreamingResponse:
    """The decisions of a time, one JSON value a line, each with the receipt of its event.

    The last line says how many there are.  The export is itself on the record.
    """
    parts, now = call.services.parts, call.now
    begin, end = milliseconds(since) or Millis(0), milliseconds(until) or now
    if end < begin:
        raise Invalid("until: lies before since; swap them.")
    async with parts.db.read(call.scope) as session:
        head = await session.get(HeadRow, 1)
    reason = f"reviews,{'personal' if personal else 'core'}"
    await parts.audit.append(Event(kind="audit.exported", time=now, actor=call.actor, reason=reason))
    await receipts.taken_in(parts.db, call.scope, head.size if head else 0)

    async def lines() -> AsyncIterator[bytes]:
        async for line in decisions(parts.db, call.scope, begin, end, personal=personal):
            yield json.dumps(line).encode() + b"\n"

    named = {"Content-Disposition": 'attachment; filename="reviews.ndjson"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=named)


@router.get("/{review_id}", summary="Show a review")
async def one(review_id: IdPath[ReviewId], call: ByOperatorOrSecurityRole) -> ReviewView:
    """One review: of what, by when, and what was decided."""
    async with call.services.parts.db.read(call.scope) as session:
        return await _view(session, await commands.find(session, review_id), call.now)


async def several(call: Call, review_ids: Sequence[ReviewId]) -> list[ReviewView]:
    """Those of these reviews that the caller sees, by the time that they are due."""
    row = ReviewRow
    async with call.services.parts.db.read(call.scope) as session:
        query = select(row).where(row.id.in_(review_ids)).order_by(row.due_at, row.id)
        return list((await _views(session, (await session.scalars(query)).all(), call.now)).values())


@router.post("/{review_id}/decide", summary="Decide a review", response_model=ReviewView)
async def decide(review_id: IdPath[ReviewId], body: Decided, call: BySecurityRole) -> Response:
    """Keep, revoke or narrow what is reviewed; nobody keeps what they made or hold themselves.

    What is kept is reviewed again when its time has come.
    """
    parts, interval_ms = call.services.parts, call.services.options.review_days * DAY_MS
    async with parts.db.read(call.scope) as session:
        row = await commands.find(session, review_id)
    if body.decision is Decision.REVOKE and row.account and not call.account.may(Role.ADMIN):
        raise Forbidden("Only an admin ends accounts; ask one to decide this.")
    narrowed = await _narrowed(call, row, body)

    async def work(session: AsyncSession) -> ReviewView:
        decided = await commands.decide(
            session,
            call.actor,
            review_id,
            body.decision,
            reason=body.reason,
            narrowed=narrowed,
            days=body.days,
            interval_ms=interval_ms,
            now=call.now,
        )
        return await _view(session, decided, call.now)

    if body.decision is Decision.REVOKE:
        return await call.cut(body, work, row.subject)
    return await call.change(body, work)


async def _narrowed(call: Call, row: ReviewRow, body: Decided) -> Tightened | None:
    """What a grant is narrowed to, tried on all of its uses; None for another decision."""
    if body.decision is not Decision.TIGHTEN or row.grant is None or row.decision is not None:
        return None
    parts = call.services.parts
    async with parts.db.read(call.scope) as session:
        subject = await subjects.one(session, row.subject)
    assert isinstance(subject, GrantRow)
    subject.vouched_for()
    grants.refuse_to_tighten(subject, call.now)
    told = f"kind=use.,days={body.days}"
    await parts.audit.append(Event.about(subject, "audit.read", call.actor, call.now, reason=told))
    found = await uses.tightened(parts, subject, body.days)
    found.insist_on_uses()
    return found
