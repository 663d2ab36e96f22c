"""The overview: what needs a person today, keys by state and age, uses and refusals by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.responses import Response
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Millis, later
from broker.credentials.lifecycle import State
from broker.credentials.tables import VersionRow
from broker.leases import days
from broker.web.callers import ByAnyRole
from broker.web.console import chart
from broker.web.console.page import page, routes
from broker.web.console.waiting import waiting

router = routes()

# Ages by the days since a key came into use.
AGES: Final = ("under 90 days", "90 to 180 days", "180 days to a year", "over a year")
_LIMITS: Final = (90, 180, 365)
_SHOWN: Final = (State.ACTIVE, State.RETIRING, State.VERIFIED, State.STAGED, State.REVOKED)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many keys are in a state, and of each age; those that never came into use are of none."""

    state: str
    health: str
    ages: Sequence[int]
    total: int


@router.get("")
async def overview(call: ByAnyRole) -> Response:
    """What needs a person today on top."""
    async with call.services.parts.db.read(call.scope) as session:
        todo, slugs = await waiting(session, call)
        counted = await keys_by_age(session, call.now)
        bars = chart.bars(await days.of(session, later(call.now, -chart.DAYS * DAY_MS)), call.now)
    return page(
        call,
        "overview.html",
        todo=todo,
        slugs=slugs,
        ages=AGES,
        counted=counted,
        bars=bars,
        width=chart.WIDTH,
        height=chart.HEIGHT,
        uses=sum(bar.uses for bar in bars),
        refusals=sum(bar.refusals for bar in bars),
    )


async def keys_by_age(session: AsyncSession, now: Millis) -> Sequence[Counted]:
    """How many keys there are by state, health and age, within the session's scope."""
    row = VersionRow
    whens = [(row.activated_at > now - limit * DAY_MS, at) for at, limit in enumerate(_LIMITS)]
    age = case((row.activated_at.is_(None), -1), *whens, else_=len(_LIMITS))
    query = (
        select(row.state, row.health, age, func.count())
        .where(row.state.in_(_SHOWN))
        .group_by(row.state, row.health, age)
    )
    found: dict[tuple[str, str], Counter[int]] = {}
    for state, health, at, number in await session.execute(query):
        health_shown = health if state == State.ACTIVE else ""
        found.setdefault((state, health_shown), Counter())[at] += number
    order = [state.value for state in _SHOWN]
    rows = sorted(found.items(), key=lambda item: (order.index(item[0][0]), -item[1].total()))
    return [
        Counted(state, health, [ages[at] for at in range(len(AGES))], ages.total()) for (state, health), ages in rows
    ]
