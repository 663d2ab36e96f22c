"""Reviews: which grants and accounts somebody has to look at again.

One or many are decided at once, and exported as evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Final, Literal

from fastapi import Query
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.errors import BrokerError, Invalid, Unauthenticated, Unavailable
from broker.formats.ids import GrantId, Reference, ReviewId, is_id
from broker.reviews.commands import Decision
from broker.reviews.shown import ReviewState
from broker.reviews.tables import ReviewRow
from broker.web.api import dependents
from broker.web.api import reviews as api
from broker.web.api.fields import Body, Cursor, IdPath, Line
from broker.web.api.reviews import Decided, ReviewView, StartReview
from broker.web.callers import ByOperatorOrSecurityRole, BySecurityRole, Call
from broker.web.console.forms import Blank, Form, Sent
from broker.web.console.page import Refusal, answered, listing, page, routes
from broker.web.console.people import named
from broker.web.console.times import end_of, start_of
from broker.web.idempotency import told

router = routes()

LISTED: Final = 50
# Of a state so many are counted: beyond that nobody asks how many there are.
COUNTED: Final = 1_000
OPEN: Final = (ReviewState.OVERDUE, ReviewState.DUE, ReviewState.SCHEDULED)


class Chosen(Body):
    """Which reviews are decided, and how."""

    reviews: Annotated[list[IdPath[ReviewId]], Field(min_length=1, max_length=LISTED)]
    decision: Decision


@router.get("/reviews")
async def listed(
    call: ByOperatorOrSecurityRole,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Blank, Query()] = None,
    state: Annotated[ReviewState | None, Blank, Query()] = None,
) -> Response:
    """Reviews of a state, by the time that they are due; if none is named, those that are overdue, or else due."""
    async with call.services.parts.db.read(call.scope) as session:
        counts = await _counts(session)
    shown = state or (ReviewState.OVERDUE if counts[ReviewState.OVERDUE] else ReviewState.DUE)
    order: Literal["newest", "oldest"] = "newest" if shown is ReviewState.DECIDED else "oldest"
    found = await api.listed(call, LISTED, cursor, organization, shown, order)
    sought = {"organization": organization, "state": shown}
    return listing(call, "reviews.html", found, cursor, sought, counts=counts, most=COUNTED, undecided=OPEN)


async def _counts(session: AsyncSession) -> dict[ReviewState, int]:
    """How many reviews are in each state, as the worker saw them last."""
    row = ReviewRow
    some = [select(row.id).where(row.state == state).limit(COUNTED + 1).subquery() for state in ReviewState]
    each = [select(func.count()).select_from(these).scalar_subquery() for these in some]
    return dict(zip(ReviewState, (await session.execute(select(*each))).one(), strict=True))


@router.get("/reviews/new")
async def new(call: BySecurityRole, subject: Annotated[Line | None, Blank, Query()] = None) -> Response:
    """The form that starts a review before its time."""
    return _new(call, subject or "")


def _new(call: Call, subject: str, refusal: Refusal | None = None) -> Response:
    return page(call, "review_new.html", subject=subject, refusal=refusal)


@router.post("/reviews/new")
async def start(call: BySecurityRole, form: Sent) -> Response:
    """Have a grant or an account reviewed within 30 days."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, form.one("subject"), refusal)

    async def work() -> Response:
        return await api.start(form.read(StartReview), call)

    async def show(response: Response) -> Response:
        return RedirectResponse(f"/console/reviews/{told(response)['id']}", 303)

    return await answered(work, show, again)


@router.get("/reviews/export")
async def export(
    call: BySecurityRole,
    since: Annotated[date | None, Blank, Query()] = None,
    until: Annotated[date | None, Blank, Query()] = None,
    personal: Annotated[bool | None, Blank, Query()] = None,
) -> Response:
    """The decisions of a time with their proofs, as a file; ``until`` is the last day that counts."""
    return await api.export(call, start_of(since), end_of(until), bool(personal))


@router.post("/reviews/decide")
async def decide(call: BySecurityRole, form: Sent) -> Response:
    """Decide the reviews that were chosen.

    The list sends what was chosen, the page that asks sends that it is ``sure``.  What is refused stays on that page,
    with the first reason, and the others are decided.
    """
    if not form.one("sure"):
        return await _deciding(call, form)
    refused: list[str] = []

    async def again(refusal: Refusal) -> Response:
        return await _deciding(call, form, refusal, refused)

    async def work() -> Sequence[ReviewId]:
        decided = form.read(Decided)
        chosen = _chosen(form).reviews
        first: BrokerError | None = None
        for each in chosen:
            try:
                await api.decide(each, decided, call)
            except (Unauthenticated, Unavailable):  # so would the others be
                raise
            except BrokerError as error:
                refused.append(each)
                first = first or error
        if first is not None:
            raise first
        return chosen

    async def lead(chosen: Sequence[ReviewId]) -> Response:
        return RedirectResponse(f"/console/reviews{'/' + chosen[0] if len(chosen) == 1 else ''}", 303)

    return await answered(work, lead, again)


@router.get("/reviews/{review_id}")
async def one(review_id: IdPath[ReviewId], call: ByOperatorOrSecurityRole) -> Response:
    """One review."""
    view = await api.one(review_id, call)
    names = await named(call, [view.created_by, view.started_by, view.decided_by])
    return page(call, "review.html", view=view, undecided=OPEN, names=names)


@router.get("/reviews/{review_id}/decide")
async def ask_to_decide(review_id: IdPath[ReviewId], decision: Decision, call: BySecurityRole) -> Response:
    """What comes of a decision, before it is made."""
    return await _deciding(call, Form({"review": [review_id], "decision": [decision]}))


async def _deciding(call: Call, given: Form, refusal: Refusal | None = None, refused: Sequence[str] = ()) -> Response:
    """The page that asks.

    It has those that are still undecided, and says which of them were ``refused``.
    """
    chosen = _chosen(given)
    found = await api.several(call, chosen.reviews)
    views = [view for view in found if not refused or view.state in OPEN or view.id in refused]
    return page(
        call,
        "reviews_decide.html",
        views=views,
        decision=chosen.decision,
        cut=await _cut(call, chosen.decision, views),
        given=given,
        refusal=refusal,
        refused=refused,
        again_in=call.services.options.review_days,
    )


async def _cut(call: Call, decision: Decision, views: Sequence[ReviewView]) -> dependents.DependentsView | None:
    """What stops with the grants among these; None if nothing does."""
    grants = [view.subject for view in views if is_id(view.subject, GrantId)]
    return await dependents.of_grants(grants, call) if decision is Decision.REVOKE and grants else None


def _chosen(given: Form) -> Chosen:
    if not given.every("review"):
        raise Invalid("review: no review was chosen; choose one or more in the list of reviews.")
    return given.read(Chosen, reviews=list(given.every("review")))
