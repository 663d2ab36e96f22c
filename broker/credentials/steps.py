"""Steps of one key version and its rotation.  Each leaves the request that the key came over as it was.

So nobody but :mod:`broker.rotations`, whose commands are whole, may take them (a contract of import-linter).
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.validity import Validity
from broker.credentials import rotation
from broker.credentials.lifecycle import Move, State
from broker.credentials.rotation_lifecycle import RotationState, RotationStep
from broker.credentials.tables import RotationRow, VersionRow
from broker.credentials.versions import (
    UnlawfulMove,
    apply_move,
    get_credential,
    purge,
    revoke_or_purge,
    versions_of,
)


async def promote(session: AsyncSession, actor: Actor, rotation_id: str, *, now: int) -> RotationRow:
    """An operator's step ahead: a held key comes into use, or the grace window ends and the old key retires.

    Raises:
        RotationRefused: ``promote_from_…``.
    """
    row = await rotation.find(session, rotation_id)
    following = rotation.require(row, RotationStep.PROMOTE)
    versions = await versions_of(session, row.credential_id)
    if following is RotationState.GRACE:  # it was held
        assert row.to_version is not None
        apply_move(versions, row.to_version, Move.ACTIVATE, now)
        versions[row.to_version].next_probe_at = now  # its ids are the organization's from this decision on
        await raise_epoch(session, row.credential_id)
        done = [Event.about(versions[row.to_version], "credential.version.activated", actor, now)]
        ended = await rotation.activated(session, actor, row, versions, now=now)
        await record(session, Event.about(row, "rotation.promoted", actor, now), *done, *ended)
        return row
    await retire(session, actor, row, "promoted", now=now)
    return row


async def retire(session: AsyncSession, actor: Actor, row: RotationRow, why: str, *, now: int) -> None:
    """End the grace window: the old key is out of use from the commit on, and awaits its revocation upstream."""
    versions = await versions_of(session, row.credential_id)
    old = next(version for version in versions.values() if version.state == State.RETIRING)
    apply_move(versions, old.number, Move.RETIRE, now)
    await raise_epoch(session, row.credential_id)
    retired = Event.about(old, "credential.version.retired", actor, now, reason=why)
    await record(session, retired, await rotation.end(session, row, RotationStep.COMPLETE, why, now=now, actor=actor))


async def roll_back(session: AsyncSession, actor: Actor, rotation_id: str, *, reason: str, now: int) -> RotationRow:
    """Go back to the old key; the new one is out of use and awaits its revocation upstream.

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


async def cancel(session: AsyncSession, actor: Actor, rotation_id: str, *, reason: str, now: int) -> RotationRow:
    """Give a rotation up before its key was in use.  One that was cancelled already stays as it is.

    Raises:
        RotationRefused: ``cancel_from_…``.
    """
    row = await rotation.find(session, rotation_id)
    if row.state == RotationState.CANCELLED:
        return row
    rotation.require(row, RotationStep.CANCEL)
    versions = await versions_of(session, row.credential_id)
    events = []
    if row.to_version is not None:
        new = versions[row.to_version]
        await revoke_or_purge(session, versions, new.number, now)
        events.append(Event.about(new, f"credential.version.{new.state}", actor, now, reason="rotation_cancelled"))
    events.append(await rotation.end(session, row, RotationStep.CANCEL, "", now=now, actor=actor, note=reason))
    await record(session, *events)
    return row


async def activate(session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int) -> VersionRow:
    """Use a held version; within a rotation that is its promotion.

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
    apply_move(versions, number, Move.ACTIVATE, now)
    versions[number].next_probe_at = now  # its ids are the credential's from this decision on
    await raise_epoch(session, credential_id)
    await record(session, Event.about(versions[number], "credential.version.activated", actor, now))
    return versions[number]


async def revoke_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, reason: str, now: int
) -> VersionRow:
    """Revoke one version.  The key before it, where that is still retiring, serves again.

    A version that has ended already stays as it is.
    """
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state in {State.REVOKED, State.DESTROYED}:
        return row
    await record(session, *await revoke(session, actor, versions, credential_id, number, note=reason, now=now))
    return versions[number]


async def revoke(
    session: AsyncSession,
    actor: Actor,
    versions: dict[int, VersionRow],
    credential_id: str,
    number: int,
    *,
    reason: str = "",
    note: str = "",
    now: int,
) -> list[Event]:
    """The move itself, for a larger transaction: the caller records the events, last of all.

    Raises:
        UnlawfulMove, NotFound: as :func:`~broker.credentials.versions.apply_move`.
    """
    await revoke_or_purge(session, versions, number, now)
    await raise_epoch(session, credential_id)
    row = versions[number]
    done = Event.about(row, f"credential.version.{row.state}", actor, now, reason=reason, note=note)
    return [done, *await rotation.reconciled(session, actor, credential_id, versions, now=now)]


async def destroy_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int
) -> VersionRow:
    """Destroy the key material of a version that is not in use.  Idempotent.

    Whether upstream refuses the key can't be asked any more afterwards.
    """
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state == State.DESTROYED:
        return row
    if row is not None and row.state == State.STAGED:
        await purge(session, versions, number, now)
    else:
        apply_move(versions, number, Move.DESTROY, now)
    also = await rotation.reconciled(session, actor, credential_id, versions, now=now)
    await record(session, Event.about(versions[number], "credential.version.destroyed", actor, now), *also)
    return versions[number]
