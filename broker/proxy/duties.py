"""What is to be done about proxied calls from time to time."""

from __future__ import annotations

from sqlalchemy import select

from broker.audit.events import BROKER, Event
from broker.base.db import EVERY_TENANT
from broker.base.duty import Duty, together
from broker.formats import ids
from broker.leases.tables import UseRow
from broker.parts import Parts
from broker.proxy.in_flight import CallLimits
from broker.proxy.use import COMPLETE_USE


def lost_after_ms(limits: CallLimits) -> int:
    """Longer than any proxied call may take: an open use that is older has lost its process."""
    return int(limits.seconds * 1000) + 60_000


def duties(parts: Parts, limits: CallLimits) -> tuple[Duty, ...]:
    """The duties about uses."""

    async def close(row: UseRow) -> None:
        unknown = Event.about(row, "use.outcome_unknown", BROKER, parts.clock())
        await parts.audit.append(unknown, writes=[(COMPLETE_USE, {"use": row.id})])

    async def close_lost_uses() -> None:
        """Close uses whose outcome never came: the process that made them died."""
        past = parts.clock() - lost_after_ms(limits)
        # An id is of the same time, and its index says which are the oldest.
        lost = UseRow.id < ids.first_at(ids.UseId, past), UseRow.authorized_at < past
        async with parts.db.read(EVERY_TENANT) as session:
            rows = list(await session.scalars(select(UseRow).where(*lost).order_by(UseRow.id).limit(500)))
        # Those that are appended together are committed together, as far as one batch of the record has room.
        await together(*map(close, rows))

    return (Duty("close_lost_uses", close_lost_uses, final=True),)  # an outcome that comes later is not taken
