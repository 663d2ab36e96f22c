"""What is to be done about sign-ins by a provider, from time to time."""

from __future__ import annotations

from broker.base.clock import DAY_MS
from broker.base.duty import Duty
from broker.base.pruning import forget
from broker.identity.oidc.rechecks import Rechecks
from broker.identity.oidc.tables import LogoutTokenRow, PendingRow
from broker.parts import Parts

_MINUTE_MS = 60_000


def duties(parts: Parts, rechecks: Rechecks) -> tuple[Duty, ...]:
    """The duties about people whom a provider vouches for."""
    db, clock = parts.db, parts.clock

    async def forget_begun() -> None:
        await forget(db, PendingRow, PendingRow.expires_at < clock() - DAY_MS, PendingRow.expires_at)

    async def forget_used() -> None:
        """A day late, so that no clock makes a logout token fresh again."""
        await forget(db, LogoutTokenRow, LogoutTokenRow.expires_at < clock() - DAY_MS, LogoutTokenRow.expires_at)

    return (
        Duty("recheck_sign_ins", rechecks.work, every=_MINUTE_MS),
        Duty("forget_sign_ins", forget_begun, final=True),  # one that is wrongly over has to be begun again
        Duty("forget_logout_tokens", forget_used, final=True),  # what was used once could be used again
    )
