"""Until when not even the broker uses a key.

Its customer paused it, or its upstream asked everybody to wait.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.quota import cooldown_statement
from broker.audit.tables import QuotaRow
from broker.base.clock import Millis, later
from broker.credentials.tables import CredentialRow
from broker.credentials.versions import FIRST_CHECK_MS
from broker.formats.ids import CredentialId
from broker.providers.catalog import Catalog


def cooldown_id(credential: CredentialId) -> str:
    """The quota that holds an upstream's cooldown, for everything that uses the credential."""
    return f"{credential}/pause"


async def not_before(session: AsyncSession, credential: CredentialRow, catalog: Catalog, now: Millis) -> Millis | None:
    """When to look again (milliseconds); None if the credential's key may be used now."""
    if credential.paused_at is not None:
        return later(now, FIRST_CHECK_MS)
    cap = catalog.get(credential.provider).retry.cap_seconds * 1000
    cooling = await session.get(QuotaRow, cooldown_id(credential.id))
    return Millis(cooling.value) if cooling is not None and now < cooling.value <= now + cap else None


async def cool_down(session: AsyncSession, credential: CredentialId, seconds: float, now: Millis) -> None:
    """Note the wait that an upstream asked for: nobody uses the credential's key for so long."""
    if seconds:
        statement = cooldown_statement(session.get_bind().dialect.name)
        await session.execute(statement, {"quota": cooldown_id(credential), "number": now + int(seconds * 1000)})
