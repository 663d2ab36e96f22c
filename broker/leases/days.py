"""How many calls there were, and were refused, by day: of all customers, and of each.

It is counted with the uses (:mod:`broker.leases.use_days`), in the same transaction, so each event counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import EventRow
from broker.base.clock import DAY_MS, Millis
from broker.base.db import Scope, upsert
from broker.formats.ids import OrganizationId
from broker.leases.tables import DayRow, OrganizationDayRow

_USE: Final = "use.authorized"
_REFUSALS: Final = ("use.denied", "lease.denied")


class Did(NamedTuple):
    """Calls that were made, and calls and leases that were refused."""

    uses: int = 0
    refusals: int = 0


async def of(session: AsyncSession, since: Millis) -> Mapping[int, Did]:
    """What there was on each day, from that of ``since`` on, that the session may see.

    Days are those of UTC since the epoch.
    """
    scope: Scope = session.info["scope"]
    first = since // DAY_MS
    if scope.organizations is None:
        query = select(DayRow.day, DayRow.uses, DayRow.refusals).where(DayRow.day >= first)
    else:
        row = OrganizationDayRow
        query = select(row.day, func.sum(row.uses), func.sum(row.refusals)).where(row.day >= first).group_by(row.day)
    return {day: Did(int(uses), int(refusals)) for day, uses, refusals in await session.execute(query)}


async def of_organization(session: AsyncSession, organization_id: OrganizationId, since: Millis) -> Mapping[int, Did]:
    """The same of one customer, whoever asks."""
    row = OrganizationDayRow
    query = select(row.day, row.uses, row.refusals).where(
        row.organization_id == organization_id, row.day >= since // DAY_MS
    )
    return {day: Did(uses, refusals) for day, uses, refusals in await session.execute(query)}


async def count(session: AsyncSession, first: int, end: int) -> None:
    """Count the events from index ``first`` to before ``end``."""
    row = EventRow
    query = select(row.organization_id, row.time, row.kind).where(
        row.idx >= first, row.idx < end, row.kind.in_((_USE, *_REFUSALS))
    )
    uses, refusals = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for organization, time, kind in await session.execute(query):
        (uses if kind == _USE else refusals)[organization, time // DAY_MS] += 1
    each = {key: Did(uses[key], refusals[key]) for key in uses | refusals}
    whole: dict[int, Did] = {}
    for (_, day), did in each.items():
        before = whole.get(day, Did())
        whole[day] = Did(before.uses + did.uses, before.refusals + did.refusals)
    await _add(session, DayRow, [{"day": day, **did._asdict()} for day, did in whole.items()])
    # What was refused to an organization that there is not is nobody's.
    rows = [{"organization_id": whose, "day": day, **did._asdict()} for (whose, day), did in each.items() if whose]
    await _add(session, OrganizationDayRow, rows)


async def _add(
    session: AsyncSession, row: type[DayRow] | type[OrganizationDayRow], rows: list[dict[str, int | str]]
) -> None:
    if not rows:
        return
    key = [name for name in rows[0] if name not in Did._fields]
    statement = upsert(session, row).values(rows)
    sums = {name: getattr(row, name) + statement.excluded[name] for name in Did._fields}
    await session.execute(statement.on_conflict_do_update(index_elements=key, set_=sums))
