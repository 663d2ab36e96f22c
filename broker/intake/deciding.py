"""An operator's decision for a held key, with the request that it came over: its customer reads that it was taken."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.audit.record import record
from broker.credentials import activation, rotation
from broker.credentials.tables import RotationRow, VersionRow
from broker.credentials.versions import versions_of
from broker.intake.links import event
from broker.intake.tables import IntakeRow


async def promote(session: AsyncSession, actor: Actor, rotation_id: str, *, now: int) -> RotationRow:
    """As :func:`broker.credentials.rotation.promote`."""
    row = await rotation.find(session, rotation_id)
    held = await _held(session, row.credential_id, row.to_version) if row.state == "held" else None
    row = await rotation.promote(session, actor, rotation_id, now=now)
    await _accept(session, actor, held, now)
    return row


async def activate(session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int) -> VersionRow:
    """As :func:`broker.credentials.activation.activate`."""
    await versions_of(session, credential_id)
    await rotation.open_of(session, credential_id)
    held = await _held(session, credential_id, number)
    row = await activation.activate(session, actor, credential_id, number, now=now)
    await _accept(session, actor, held, now)
    return row


async def _held(session: AsyncSession, credential_id: str, number: int | None) -> IntakeRow | None:
    """The request over which a held key came, locked before the record is."""
    return await session.scalar(
        select(IntakeRow)
        .where(IntakeRow.credential_id == credential_id, IntakeRow.version == number, IntakeRow.state == "held")
        .with_for_update()
    )


async def _accept(session: AsyncSession, actor: Actor, held: IntakeRow | None, now: int) -> None:
    if held is not None:
        held.state, held.settled_at = "accepted", now
        await record(session, event(held, "intake.accepted", actor, now, reason="decided"))
