"""What the worker does about keys, from time to time."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import ColumnElement, and_, func, select, true

from broker.base.db import EVERY_TENANT
from broker.base.duty import Counts, Duty
from broker.base.pruning import PAGE
from broker.credentials.revocation import revoke_rest
from broker.credentials.tables import VersionRow
from broker.parts import Parts

_REST_MS = 600_000
_COUNT_MS = 60_000


def duties(parts: Parts) -> tuple[Duty, ...]:
    """The duties about keys."""

    async def cut_off() -> None:
        await revoke_rest(parts.db, parts.clock)

    async def count() -> Counts:
        """Versions by state and health, of one snapshot, a page at a time."""
        counted = Counter[tuple[str, ...]]()
        rest: ColumnElement[bool] | None = true()
        place = VersionRow.credential_id
        kinds = VersionRow.state, VersionRow.health
        async with parts.db.read(EVERY_TENANT) as session:
            while rest is not None:
                last = await session.scalar(select(place).where(rest).order_by(place).offset(PAGE).limit(1))
                page = rest if last is None else and_(rest, place <= last)
                for *kind, number in await session.execute(select(*kinds, func.count()).where(page).group_by(*kinds)):
                    counted[tuple(kind)] += number
                rest = None if last is None else place > last
        return counted

    return (
        Duty("cut_off_rest", cut_off, every=_REST_MS),  # what an operator cut off, whatever the time
        Duty("count", count, every=_COUNT_MS),
    )
