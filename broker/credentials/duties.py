"""What the worker does about keys, from time to time."""

from __future__ import annotations

from sqlalchemy import func, select

from broker.base.db import EVERY_TENANT
from broker.base.duty import Counts, Duty
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
        """Versions by state and health."""
        async with parts.db.read(EVERY_TENANT) as session:
            rows = await session.execute(
                select(VersionRow.state, VersionRow.health, func.count()).group_by(VersionRow.state, VersionRow.health)
            )
            return {(state, health): number for state, health, number in rows}

    return (
        Duty("cut_off_rest", cut_off, every=_REST_MS),  # what an operator cut off, whatever the time
        Duty("count", count, every=_COUNT_MS),
    )
