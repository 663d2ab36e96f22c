"""What is done with one key version, or its rotation, with the request that the key came over: each in one transaction.

These are whole: the customer's page, the rotation and the key agree afterwards.  The steps that they are made of
(:mod:`broker.credentials.steps`) don't see requests.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.credentials import rotation, steps
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import RotationRow, VersionRow
from broker.credentials.versions import versions_of
from broker.intake.lifecycle import IntakeState, IntakeStep, can, close, reopen
from broker.intake.tables import IntakeRow

CUT_OFF = "cut_off"

# A key was submitted and is not in use yet.
_SUBMITTED = frozenset({RotationState.VERIFYING, RotationState.PENDING_REVIEW})


async def promote(session: AsyncSession, actor: Actor, rotation_id: str, *, now: int) -> RotationRow:
    """As :func:`broker.credentials.steps.promote`."""
    row = await rotation.find(session, rotation_id)
    held = (
        await _held(session, row.credential_id, row.to_version) if row.state == RotationState.PENDING_REVIEW else None
    )
    row = await steps.promote(session, actor, rotation_id, now=now)
    await _accept(session, actor, held, now)
    return row


async def activate(session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int) -> VersionRow:
    """As :func:`broker.credentials.steps.activate`."""
    await versions_of(session, credential_id)
    await rotation.open_of(session, credential_id)
    held = await _held(session, credential_id, number)
    row = await steps.activate(session, actor, credential_id, number, now=now)
    await _accept(session, actor, held, now)
    return row


async def _held(session: AsyncSession, credential_id: str, number: int | None) -> IntakeRow | None:
    """The request over which a held key came, locked before the record is."""
    return await session.scalar(
        select(IntakeRow)
        .where(
            IntakeRow.credential_id == credential_id,
            IntakeRow.version == number,
            IntakeRow.state == IntakeState.PENDING_REVIEW,
        )
        .with_for_update()
    )


async def _accept(session: AsyncSession, actor: Actor, held: IntakeRow | None, now: int) -> None:
    if held is not None:
        close(held, IntakeStep.ACCEPT, now)
        await record(session, Event.about(held, "intake.accepted", actor, now, reason="decided"))


async def roll_back(session: AsyncSession, actor: Actor, rotation_id: str, *, reason: str, now: int) -> RotationRow:
    """Go back to the old key; the new one's request was answered when it came into use, and stays so.

    Raises:
        RotationRefused: ``roll_back_from_…``.
    """
    return await steps.roll_back(session, actor, rotation_id, reason=reason, now=now)


async def cancel(session: AsyncSession, actor: Actor, rotation_id: str, *, reason: str, now: int) -> RotationRow:
    """Give a rotation up, with its link.

    Raises:
        RotationRefused: its key is in use already (``cancel_from_…``).
    """
    await rotation.find(session, rotation_id)
    # Locked before the record is, as a submission does.
    intake = await session.scalar(select(IntakeRow).where(IntakeRow.rotation_id == rotation_id).with_for_update())
    row = await steps.cancel(session, actor, rotation_id, reason=reason, now=now)
    if intake is not None and can(intake, IntakeStep.GIVE_UP):
        close(intake, IntakeStep.GIVE_UP, now)
        await record(session, Event.about(intake, "intake.cancelled", actor, now))
    return row


async def revoke_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, reason: str, now: int
) -> VersionRow:
    """As :func:`broker.credentials.steps.revoke_version`, with the request that the version answered."""
    request = await _request_of(session, credential_id, number)
    row = await steps.revoke_version(session, actor, credential_id, number, reason=reason, now=now)
    await _reopen(session, request, actor, now)
    return row


async def destroy_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int
) -> VersionRow:
    """As :func:`broker.credentials.steps.destroy_version`, with the request that the version answered."""
    request = await _request_of(session, credential_id, number)
    row = await steps.destroy_version(session, actor, credential_id, number, now=now)
    await _reopen(session, request, actor, now)
    return row


async def revoke(
    session: AsyncSession, actor: Actor, versions: dict[int, VersionRow], row: VersionRow, *, reason: str, now: int
) -> list[Event]:
    """Revoke a version within a larger transaction, whose caller records the events, last of all.

    Raises:
        UnlawfulMove: the lifecycle refuses it.
    """
    request = await _request_of(session, row.credential_id, row.number)
    done = await steps.revoke(session, actor, versions, row.credential_id, row.number, reason=reason, now=now)
    return [*done, *_reopened(request, actor, now)]


async def _request_of(session: AsyncSession, credential_id: str, number: int) -> IntakeRow | None:
    """The rotation's request that waits with this version, locked before the record is."""
    # Versions first, then their rotation, then its intake: as everybody locks them.
    await versions_of(session, credential_id)
    changing = await rotation.open_of(session, credential_id)
    if changing is None or changing.to_version != number or changing.state not in _SUBMITTED:
        return None
    return await session.scalar(select(IntakeRow).where(IntakeRow.id == changing.intake_id).with_for_update())


def _reopened(request: IntakeRow | None, actor: Actor, now: int) -> list[Event]:
    """Let a request take another key after its version was cut off; what happened to it.

    Its link works again where a submission could still be opened and its time isn't over; otherwise it needs a new
    one, as an expired one does.
    """
    if request is None:
        return []
    request.refusal = CUT_OFF
    if request.private_sealed is not None and request.expires_at > now:
        reopen(request, IntakeStep.REFUSE)
    else:
        close(request, IntakeStep.CUT_OFF, now)
    return [Event.about(request, "intake.refused", actor, now, decision="denied", reason=CUT_OFF)]


async def _reopen(session: AsyncSession, request: IntakeRow | None, actor: Actor, now: int) -> None:
    if events := _reopened(request, actor, now):
        await record(session, *events)
