"""Notify people, in the transaction of what happened: so neither twice nor not at all."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.db import upsert
from broker.formats import ids
from broker.formats.ids import CredentialId, NoId, OrganizationId
from broker.notifications.tables import NoticeRow
from broker.notifications.words import Kind, check

_log = structlog.get_logger()

__all__ = ["Kind", "notify"]


async def notify(
    session: AsyncSession,
    kind: Kind,
    *,
    organization: OrganizationId | NoId,
    provider: str,
    credential: CredentialId | NoId = "",
    version: int = 0,
    now: Millis,
    contact: str = "",
    dedup: str = "",
    facts: Mapping[str, str | int] | None = None,
) -> bool:
    """Add a notice for the operators who see this organization.

    It is for the customer, too, if it concerns them.

    Args:
        session: of what happened: the notice is durable with it, or not at all.
        kind: what happened.
        organization: whose key; ``provider``, ``credential`` and ``version`` say which.
        now: milliseconds since the epoch.
        contact: the customer's e-mail address; empty notifies operators only.
        dedup: a second notice of the organization with the same one is not made.
        facts: what its words are filled with (:data:`~broker.notifications.words.FACTS`); never a secret.

    Returns:
        Whether it was made: it isn't if there is one with the same ``dedup`` already.

    Raises:
        ValueError: a fact that no notice may hold.
    """
    check(facts or {})
    await session.flush()
    notice = ids.new(ids.NoticeId)
    made = await session.execute(
        upsert(session, NoticeRow)
        .values(
            id=notice,
            organization_id=organization,
            kind=kind,
            credential_id=credential,
            version=version,
            provider=provider,
            contact=contact,
            dedup=dedup or notice,
            facts=dict(facts or {}),
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["organization_id", "dedup"])
        .returning(NoticeRow.id)
    )
    if made.first() is None:
        return False
    _log.warning("operators.told", kind=kind, organization=organization, credential=credential, version=version)
    return True
