"""A rotation's request whose key was cut off before it came into use takes another one, like its rotation."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.credentials import cutoff, rotation
from broker.credentials.tables import VersionRow
from broker.credentials.versions import versions_of
from broker.intake.links import event
from broker.intake.tables import IntakeRow

CUT_OFF = "cut_off"


async def revoke_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, reason: str, now: int
) -> VersionRow:
    """As :func:`broker.credentials.cutoff.revoke_version`, with the request that the version answered."""
    request = await request_of(session, credential_id, number)
    row = await cutoff.revoke_version(session, actor, credential_id, number, reason=reason, now=now)
    await _reopen(session, request, actor, now)
    return row


async def destroy_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int
) -> VersionRow:
    """As :func:`broker.credentials.cutoff.destroy_version`, with the request that the version answered."""
    request = await request_of(session, credential_id, number)
    row = await cutoff.destroy_version(session, actor, credential_id, number, now=now)
    await _reopen(session, request, actor, now)
    return row


async def request_of(session: AsyncSession, credential_id: str, number: int) -> IntakeRow | None:
    """The rotation's request that waits with this version, locked: to be asked for before anything is recorded."""
    # Versions first, then their rotation, then its intake: as everybody locks them.
    await versions_of(session, credential_id)
    changing = await rotation.open_of(session, credential_id)
    if changing is None or changing.to_version != number or changing.state not in {"verifying", "held"}:
        return None
    return await session.scalar(select(IntakeRow).where(IntakeRow.id == changing.intake_id).with_for_update())


def reopened(request: IntakeRow | None, actor: Actor, now: int) -> list[Event]:
    """Let a request take another key after its version was cut off; what happened to it.

    Its link works again where a submission could still be opened and its time isn't over; otherwise it needs a new
    one, as an expired one does.
    """
    if request is None:
        return []
    request.refusal = CUT_OFF
    if request.private_sealed is not None and request.expires_at > now:
        request.state, request.settled_at = "open", None
    else:
        request.state, request.private_sealed, request.settled_at = "expired", None, now
    return [event(request, "intake.refused", actor, now, reason=CUT_OFF)]


async def _reopen(session: AsyncSession, request: IntakeRow | None, actor: Actor, now: int) -> None:
    if events := reopened(request, actor, now):
        await record(session, *events)
