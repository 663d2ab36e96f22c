"""Tell operators, in the transaction of what happened: so neither twice nor not at all."""

from __future__ import annotations

from typing import Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from broker.formats import ids
from broker.notifications.tables import NoticeRow

_log = structlog.get_logger()

Kind = Literal["key_failing", "key_recovered"]

WORDS: dict[str, str] = {
    "key_failing": "The upstream refuses this key: jobs are refused too. Ask the customer for a new one "
    "(`broker key revoke`, then `broker key request`). The broker keeps asking, in case it comes back.",
    "key_recovered": "The upstream accepts this key again: jobs may use it.",
}


def tell(
    session: AsyncSession, kind: Kind, *, organization: str, credential: str, version: int, provider: str, now: int
) -> None:
    """Add a notice for the operators who see this organization."""
    row = NoticeRow(
        id=ids.new("ntc"),
        organization_id=organization,
        kind=kind,
        credential_id=credential,
        version=version,
        provider=provider,
        created_at=now,
    )
    session.add(row)
    _log.warning("operators.told", kind=kind, organization=organization, credential=credential, version=version)
