"""What is to be done about platforms' tokens, from time to time."""

from __future__ import annotations

from broker.base.clock import DAY_MS
from broker.base.db import EVERY_TENANT
from broker.base.duty import Duty
from broker.base.pruning import forget
from broker.identity.federation import trusts
from broker.identity.federation.exchange import Federation
from broker.identity.federation.tables import UsedTokenRow
from broker.identity.federation.watching import Watching
from broker.parts import Parts

_MINUTE_MS = 60_000


def duties(parts: Parts, federation: Federation) -> tuple[Duty, ...]:
    """The duties about issuers, trusts and tokens that were used."""
    db, clock = parts.db, parts.clock

    async def expire() -> None:
        more = True
        while more:
            async with db.write(EVERY_TENANT) as session:
                more = await trusts.expire(session, clock())

    async def forget_used() -> None:
        """A day late, so that no clock makes a token fresh again."""
        await forget(db, UsedTokenRow, UsedTokenRow.expires_at < clock() - DAY_MS, UsedTokenRow.expires_at)

    return (
        Duty("watch_issuers", Watching(parts, federation).work, every=_MINUTE_MS),
        Duty("expire_trusts", expire, final=True),  # a trust that is wrongly over has to be made again
        Duty("forget_platform_tokens", forget_used, final=True),  # what was used once could be used again
    )
