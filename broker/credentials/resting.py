"""Until when not even the broker uses a key: its customer paused it, or its upstream asked everybody to wait."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.allowance import pause_statement
from broker.audit.tables import AllowanceRow
from broker.credentials.tables import CredentialRow
from broker.credentials.versions import FIRST_CHECK_MS
from broker.providers.catalog import Catalog


def pause_id(credential: str) -> str:
    """The allowance that holds an upstream's pause: one for everything that uses the credential."""
    return f"{credential}/pause"


async def rests_until(session: AsyncSession, credential: CredentialRow, catalog: Catalog, now: int) -> int | None:
    """When to look again (milliseconds); None where the credential's key may be used now."""
    if credential.paused_at is not None:
        return now + FIRST_CHECK_MS
    cap = catalog.get(credential.provider).retry.cap_seconds * 1000
    paused = await session.get(AllowanceRow, pause_id(credential.id))
    return paused.value if paused is not None and now < paused.value <= now + cap else None


async def rest(session: AsyncSession, credential: str, seconds: float, now: int) -> None:
    """Keep what an upstream asked for: nobody uses the credential's key for so long."""
    if seconds:
        statement = pause_statement(session.get_bind().dialect.name)
        await session.execute(statement, {"allowance": pause_id(credential), "number": now + int(seconds * 1000)})
