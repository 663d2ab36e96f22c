"""What is reviewed: a grant, or an account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.errors import NotFound
from broker.formats.ids import GrantId, OperatorId, is_id
from broker.grants import shown as grants
from broker.grants.shown import GrantState
from broker.grants.tables import GrantRow
from broker.identity import operators
from broker.identity.tables import AccountRow
from broker.reviews.shown import ReviewState
from broker.reviews.tables import ReviewRow

Subject: TypeAlias = GrantRow | AccountRow


async def found(session: AsyncSession, ids: Iterable[str]) -> Mapping[str, Subject]:
    """Those of these grants and accounts that are there, by id."""
    grants_, accounts = [], []
    for each in set(ids):
        if is_id(each, GrantId):
            grants_.append(each)
        elif is_id(each, OperatorId):
            accounts.append(each)
    rows: dict[str, Subject] = {}
    if grants_:
        rows |= {row.id: row for row in await session.scalars(select(GrantRow).where(GrantRow.id.in_(grants_)))}
    if accounts:
        rows |= {row.id: row for row in await session.scalars(select(AccountRow).where(AccountRow.id.in_(accounts)))}
    return rows


async def one(session: AsyncSession, subject: str) -> Subject:
    """The grant or account of that id.

    Raises:
        NotFound: there is none for this caller.
    """
    rows = await found(session, [subject])
    if subject not in rows:
        raise NotFound("There is no such grant or account for you; `broker review list` shows what there is to review.")
    return rows[subject]


def stands(subject: Subject, now: Millis) -> bool:
    """Whether it gives something, or may soon: then there is something to review."""
    if isinstance(subject, GrantRow):
        return grants.state_of(subject, now) in {GrantState.ACTIVE, GrantState.WAITING}
    return operators.state_of(subject, now) in {"active", "waiting"}


def state_of(review: ReviewRow, subject: Subject | None, now: Millis) -> ReviewState:
    """The state that a review shows: an open one has ended once its subject doesn't stand."""
    if review.closed_at is None and (subject is None or not stands(subject, now)):
        return ReviewState.ENDED
    return ReviewState(review.state)
