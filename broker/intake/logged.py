"""Notify operators of links whose secret came in a part of the address that servers see.

Some mail programs move it there.  Such a link goes on working: its holder proved that they hold it, and is not to
blame.  But everybody who reads logs on the way holds it too.  Operators are notified once for each link, and make a new
one.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.credentials.tables import VersionRow
from broker.formats.ids import IntakeId
from broker.intake.lifecycle import SPENT
from broker.intake.links import get
from broker.intake.tables import IntakeRow
from broker.notifications.notices import notify


async def link_logged(session: AsyncSession, actor: Actor, intake_id: IntakeId, *, now: Millis) -> None:
    """Notify operators of a one-time link that came so, unless it is spent."""
    row = await get(session, intake_id, lock=True)
    if row.state in SPENT:
        return
    notified = await notify(
        session,
        "link_logged",
        organization=row.organization_id,
        provider=row.provider,
        credential=row.credential_id or "",
        now=now,
        dedup=f"link_logged/{row.id}/{row.expires_at}",
        facts={"intake": row.id},
    )
    if notified:
        await record(session, Event.about(row, "intake.link_logged", actor, now))


async def status_link_logged(session: AsyncSession, actor: Actor, row: IntakeRow, *, now: Millis) -> None:
    """Notify operators of a status link that came so."""
    version = await session.get_one(VersionRow, (row.credential_id, row.version))
    notified = await notify(
        session,
        "status_link_logged",
        organization=row.organization_id,
        provider=row.provider,
        credential=version.credential_id,
        version=version.number,
        now=now,
        dedup=f"status_link_logged/{row.id}/{row.status_serial}",
        facts={"last4": version.last4},
    )
    if notified:
        await record(session, Event.about(row, "intake.status_link_logged", actor, now))
