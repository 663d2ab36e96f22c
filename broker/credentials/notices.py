"""Notify operators, and its customer, about a credential."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.credentials.tables import CredentialRow
from broker.notifications.notices import Kind, notify


async def notify_of(
    session: AsyncSession,
    kind: Kind,
    credential: CredentialRow,
    *,
    version: int = 0,
    now: Millis,
    dedup: str = "",
    facts: Mapping[str, str | int] | None = None,
) -> None:
    """Notify operators of a credential, and its customer if the kind concerns them."""
    await notify(
        session,
        kind,
        organization=credential.organization_id,
        provider=credential.provider,
        credential=credential.id,
        version=version,
        now=now,
        contact=credential.contact,
        dedup=dedup,
        facts={"label": credential.label, **(facts or {})},
    )
