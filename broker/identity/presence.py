"""How people with accounts are there, of many at once.

When they were seen last, where they are signed in, and what with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.formats.ids import OperatorId
from broker.identity import sessions
from broker.identity.tables import PasskeyRow, SessionRow


@dataclass(frozen=True, slots=True)
class Presence:
    """When a session of the account was in use last, as far as that is kept.

    And how many are open, and how many passkeys it has.
    """

    seen_at: Millis | None
    open_sessions: int
    own_passkeys: int


async def of(session: AsyncSession, accounts: Sequence[OperatorId], now: Millis) -> Mapping[OperatorId, Presence]:
    """The presence of each of these accounts."""
    row, key = SessionRow, PasskeyRow
    theirs = row.account_id.in_(accounts)
    last = select(row.account_id, func.max(row.seen_at)).where(theirs).group_by(row.account_id)
    seen = {each[0]: each[1] for each in await session.execute(last)}
    open_ = await session.scalars(select(row).where(theirs, row.ends_at > now, row.ended_at.is_(None)))
    in_force = [each.account_id for each in open_ if sessions.in_force(each, now)]
    owned = select(key.account_id, func.count()).where(key.account_id.in_(accounts)).group_by(key.account_id)
    keys = {each[0]: each[1] for each in await session.execute(owned)}
    return {each: Presence(seen.get(each), in_force.count(each), keys.get(each, 0)) for each in accounts}
