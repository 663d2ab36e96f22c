"""Erase an organization.

Nobody reads the personal parts of its events any more, and no row names it or its people.
What stays are ids, times, numbers and keyed hashes.  The keys themselves are the revocation's concern.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import holds, subjects
from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.errors import Conflict
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.formats.ids import OrganizationId, Reference
from broker.incidents.tables import ExposureRow
from broker.intake.tables import IntakeRow
from broker.leaks.tables import FindingRow
from broker.notifications.tables import DeliveryRow, NoticeRow, WebhookRow
from broker.organizations import commands as organizations
from broker.organizations.tables import OrganizationRow

# What people wrote of an organization, or what reaches its people.
_TEXTS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (IntakeRow, ("contact", "purpose")),
    (CredentialRow, ("contact",)),
    (RotationRow, ("reason",)),
    (ExposureRow, ("found_by", "found_where", "note")),
    (FindingRow, ("location",)),
)


async def erase(session: AsyncSession, actor: Actor, reference: Reference, *, now: Millis) -> OrganizationRow:
    """Erase a revoked organization, for good.

    To do so again erases what came since: what was still under way, and the host parts of keys that are dead by now.

    Raises:
        UnknownOrganization, RowAltered: as :func:`broker.organizations.commands.find`.
        Conflict: it is not revoked. Held: a legal hold keeps it.
    """
    row = await organizations.find(session, reference)
    if row.state != Validity.REVOKED:
        raise Conflict(f"Organization {row.slug!r} is in use; `broker org revoke {row.slug}` comes before erasing it.")
    await holds.refuse_if_held(session, row.id)
    for table, columns in _TEXTS:
        await session.execute(update(table).where(table.organization_id == row.id).values(dict.fromkeys(columns, "")))
    for gone in (DeliveryRow, NoticeRow, WebhookRow):
        await session.execute(delete(gone).where(gone.organization_id == row.id))
    await _forget_hosts(session, row.id)
    row.slug = row.name = f"erased-{row.id[-12:]}"
    if await subjects.erase(session, row.id, now):
        await record(session, Event.about(row, "audit.erased", actor, now, subject=row.id))
    return row


async def _forget_hosts(session: AsyncSession, organization: OrganizationId) -> None:
    """Forget the host parts of credentials whose keys are destroyed.

    The others are still asked about upstream.
    """
    alive = select(VersionRow.credential_id).where(
        VersionRow.organization_id == organization, VersionRow.sealed.is_not(None)
    )
    dead = select(CredentialRow).where(CredentialRow.organization_id == organization, CredentialRow.id.not_in(alive))
    for credential in await session.scalars(dead):
        if credential.genuine:
            credential.variables = {}
