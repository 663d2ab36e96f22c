"""Commands about one key version or its rotation, each whole and in one transaction.

After a command the customer's request, the rotation and the key agree.  Rows are locked in one order (the versions,
their rotation, its request), and all of them before the record is.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.validity import Validity
from broker.credentials import certificates, rotation
from broker.credentials.lifecycle import Move, State
from broker.credentials.moves import UnlawfulMove, apply_move, purge, revoke_or_purge
from broker.credentials.rotation_lifecycle import RotationState, RotationStep
from broker.credentials.tables import RotationRow, VersionRow
from broker.credentials.versions import Versions, get_credential, versions_of
from broker.formats.ids import CredentialId, RotationId
from broker.intake.lifecycle import IntakeState, IntakeStep, can, close, reopen
from broker.intake.tables import IntakeRow
from broker.parts import Parts

CUT_OFF = "cut_off"

# A key was submitted and is not in use yet.
_SUBMITTED = frozenset({RotationState.VERIFYING, RotationState.PENDING_REVIEW})


async def promote(session: AsyncSession, actor: Actor, rotation_id: RotationId, *, now: Millis) -> RotationRow:
    """An operator's step ahead.

    A held key comes into use, or the grace window ends and the old key retires.

    Raises:
        RotationRefused: ``promote_from_…``.
    """
    # rotation (11) an operator decides: here, in roll_back or in cancel
    row = await rotation.find(session, rotation_id)
    if rotation.require(row, RotationStep.PROMOTE) is not RotationState.GRACE:
        await retire(session, actor, row, "promoted", now=now)
        return row
    assert row.to_version is not None
    held = await _held(session, row.credential_id, row.to_version)
    versions = await versions_of(session, row.credential_id)
    apply_move(versions, row.to_version, Move.ACTIVATE, now)
    versions[row.to_version].next_probe_at = now  # its ids are the organization's from this decision on
    await raise_epoch(session, row.credential_id)
    used = Event.about(versions[row.to_version], "credential.version.activated", actor, now)
    ended = await rotation.activated(session, actor, row, versions, now=now)
    await record(session, Event.about(row, "rotation.promoted", actor, now), used, *ended)
    await _accept(session, actor, held, now)
    return row


async def activate(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, number: int, *, now: Millis
) -> VersionRow:
    """Use a held version.  Within a rotation that is its promotion.

    Raises:
        UnlawfulMove: the lifecycle refuses it. NotFound: no such version.
    """
    credential = await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    if credential.state != Validity.ACTIVE:
        raise UnlawfulMove("The credential was revoked.", move="activate_in_revoked_credential")
    changing = await rotation.open_of(session, credential_id)
    if changing is not None and changing.to_version == number and changing.state == RotationState.PENDING_REVIEW:
        await promote(session, actor, changing.id, now=now)
        return versions[number]
    if any(row.state == State.ACTIVE for row in versions.values()):
        raise UnlawfulMove(
            "Another key is in use, and only a rotation replaces it: revoke this version, then `broker key rotate`.",
            move="activate_without_rotation",
        )
    held = await _held(session, credential_id, number)
    apply_move(versions, number, Move.ACTIVATE, now)
    versions[number].next_probe_at = now  # its ids are the credential's from this decision on
    await raise_epoch(session, credential_id)
    await record(session, Event.about(versions[number], "credential.version.activated", actor, now))
    await _accept(session, actor, held, now)
    return versions[number]


async def _held(session: AsyncSession, credential_id: CredentialId, number: int | None) -> IntakeRow | None:
    """The request that a held key came over, locked."""
    return await session.scalar(
        select(IntakeRow)
        .where(
            IntakeRow.credential_id == credential_id,
            IntakeRow.version == number,
            IntakeRow.state == IntakeState.PENDING_REVIEW,
        )
        .with_for_update()
    )


async def _accept(session: AsyncSession, actor: Actor, held: IntakeRow | None, now: Millis) -> None:
    if held is not None:
        close(held, IntakeStep.ACCEPT, now)
        await record(session, Event.about(held, "intake.accepted", actor, now, reason="decided"))


async def retire(session: AsyncSession, actor: Actor, row: RotationRow, why: str, *, now: Millis) -> None:
    """End the grace window.

    Nobody uses the old key from the commit on; it awaits its revocation upstream.
    """
    versions = await versions_of(session, row.credential_id)
    # rotation (13) the old key is out of use
    old = next(version for version in versions.values() if version.state == State.RETIRING)
    apply_move(versions, old.number, Move.RETIRE, now)
    await raise_epoch(session, row.credential_id)
    retired = Event.about(old, "credential.version.retired", actor, now, reason=why)
    await record(session, retired, await rotation.end(session, row, RotationStep.COMPLETE, why, now=now, actor=actor))


async def roll_back(
    session: AsyncSession, actor: Actor, rotation_id: RotationId, *, reason: str, now: Millis
) -> RotationRow:
    """Go back to the old key.

    Nobody uses the new one from the commit on; it awaits its revocation upstream.

    The request of the new key was answered when that came into use, and stays so.

    Raises:
        RotationRefused: ``roll_back_from_…``.
    """
    row = await rotation.find(session, rotation_id)
    rotation.require(row, RotationStep.ROLL_BACK)
    assert row.to_version is not None
    versions = await versions_of(session, row.credential_id)
    apply_move(versions, row.to_version, Move.ROLL_BACK, now)
    await raise_epoch(session, row.credential_id)
    revoked = Event.about(
        versions[row.to_version], "credential.version.revoked", actor, now, reason="rolled_back", note=reason
    )
    ended = await rotation.end(session, row, RotationStep.ROLL_BACK, "", now=now, actor=actor, note=reason)
    await record(session, revoked, ended)
    return row


async def cancel(
    session: AsyncSession, actor: Actor, rotation_id: RotationId, *, reason: str, now: Millis
) -> RotationRow:
    """Give a rotation up, with its link, before its key was in use.  Idempotent.

    Raises:
        RotationRefused: its key is in use already (``cancel_from_…``).
    """
    row = await rotation.find(session, rotation_id)
    intake = await session.scalar(select(IntakeRow).where(IntakeRow.rotation_id == rotation_id).with_for_update())
    if row.state != RotationState.CANCELLED:
        await _cancel(session, actor, row, reason, now)
    if intake is not None and can(intake, IntakeStep.GIVE_UP):
        close(intake, IntakeStep.GIVE_UP, now)
        await record(session, Event.about(intake, "intake.cancelled", actor, now))
    return row


async def _cancel(session: AsyncSession, actor: Actor, row: RotationRow, reason: str, now: Millis) -> None:
    rotation.require(row, RotationStep.CANCEL)
    versions = await versions_of(session, row.credential_id)
    events = []
    if row.to_version is not None:
        new = versions[row.to_version]
        await revoke_or_purge(session, versions, new.number, now=now)
        events.append(Event.about(new, f"credential.version.{new.state}", actor, now, reason="rotation_cancelled"))
    events.append(await rotation.end(session, row, RotationStep.CANCEL, "", now=now, actor=actor, note=reason))
    await record(session, *events)


async def revoke_version(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, number: int, *, reason: str, now: Millis
) -> VersionRow:
    """Revoke one version.  Idempotent.  The previous key serves again if it is still retiring.

    Raises:
        UnlawfulMove: the lifecycle refuses it. NotFound: no such version.
    """
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state in {State.REVOKED, State.DESTROYED}:
        return row
    await record(session, *await revoke(session, actor, versions, number, note=reason, now=now))
    return versions[number]


async def revoke(
    session: AsyncSession,
    actor: Actor,
    versions: Versions,
    number: int,
    *,
    reason: str = "",
    note: str = "",
    now: Millis,
) -> list[Event]:
    """Revoke one of the locked ``versions`` within a larger transaction.

    Returns:
        What happened, for the caller to record, last of all.

    Raises:
        UnlawfulMove, NotFound: as :func:`~broker.credentials.moves.apply_move`.
    """
    request = await _request_of(session, versions, number)
    await revoke_or_purge(session, versions, number, now=now)
    row = versions[number]
    await raise_epoch(session, row.credential_id)
    done = Event.about(row, f"credential.version.{row.state}", actor, now, reason=reason, note=note)
    also = await rotation.reconciled(session, actor, row.credential_id, versions, now=now)
    return [done, *also, *_reopened(request, actor, now)]


async def destroy_version(
    session: AsyncSession, parts: Parts, actor: Actor, credential_id: CredentialId, number: int, *, now: Millis
) -> VersionRow:
    """Destroy the key material of a version that is not in use.  Idempotent.

    Nobody can ask any more afterwards whether the upstream refuses the key; a certificate of it says so.
    """
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state == State.DESTROYED:
        return row
    request = await _request_of(session, versions, number)
    if row is not None and row.state == State.STAGED:
        await purge(session, versions, number, now=now)
    else:
        apply_move(versions, number, Move.DESTROY, now)
    also = await rotation.reconciled(session, actor, credential_id, versions, now=now)
    done = Event.about(versions[number], "credential.version.destroyed", actor, now)
    stated = await certificates.destroyed(session, parts.keys, versions[number], done)
    await record(session, done, *stated, *also, *_reopened(request, actor, now))
    return versions[number]


async def _request_of(session: AsyncSession, versions: dict[int, VersionRow], number: int) -> IntakeRow | None:
    """The rotation's request that waits with one of the locked ``versions``, locked as well."""
    row = versions.get(number)
    changing = None if row is None else await rotation.open_of(session, row.credential_id)
    if changing is None or changing.to_version != number or changing.state not in _SUBMITTED:
        return None
    return await session.scalar(select(IntakeRow).where(IntakeRow.id == changing.intake_id).with_for_update())


def _reopened(request: IntakeRow | None, actor: Actor, now: Millis) -> list[Event]:
    """Let a request take another key after its version was cut off.

    Its link works again if a submission could still be opened and the link has not expired.  Otherwise the request
    needs a new link, as an expired one does.

    Returns:
        What happened to it.
    """
    if request is None:
        return []
    request.refusal = CUT_OFF
    if request.private_sealed is not None and request.expires_at > now:
        reopen(request, IntakeStep.REFUSE)
    else:
        close(request, IntakeStep.CUT_OFF, now)
    return [Event.about(request, "intake.refused", actor, now, decision="denied", reason=CUT_OFF)]
