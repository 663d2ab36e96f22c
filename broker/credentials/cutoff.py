"""Cut keys off, one version or a whole credential; nothing uses them from the commit on."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import raise_epoch, record
from broker.credentials import rotation
from broker.credentials.lifecycle import Move, State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.telling import tell_of
from broker.credentials.versions import (
    apply_move,
    discard,
    event,
    event_of,
    get_credential,
    put_out,
    versions_of,
)


async def revoke_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, reason: str, now: int
) -> VersionRow:
    """Cut one version off.  The key before it, where that is still retiring, serves again.

    A version that is over already stays as it is.
    """
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state in {State.REVOKED, State.DESTROYED}:
        return row
    await record(session, *await cut(session, actor, versions, credential_id, number, note=reason, now=now))
    return versions[number]


async def cut(
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
    await put_out(session, versions, number, now)
    await raise_epoch(session, credential_id)
    row = versions[number]
    done = event(row, f"credential.version.{row.state}", actor, now, reason=reason, note=note)
    return [done, *await rotation.overtaken(session, actor, credential_id, versions, now=now)]


async def destroy_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int
) -> VersionRow:
    """Erase the key material of a version that is not in use.  Again: no change.

    Whether upstream refuses the key can't be asked any more afterwards.
    """
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state == State.DESTROYED:
        return row
    if row is not None and row.state == State.STAGED:
        await discard(session, versions, number, now)
    else:
        apply_move(versions, number, Move.DESTROY, now)
    also = await rotation.overtaken(session, actor, credential_id, versions, now=now)
    await record(session, event(versions[number], "credential.version.destroyed", actor, now), *also)
    return versions[number]


async def revoke_credential(
    session: AsyncSession, actor: Actor, credential_id: str, *, reason: str, now: int, why: str = ""
) -> CredentialRow:
    """Cut a credential and all its versions off, for good.  Again: no change.

    ``why`` is a word for the record, ``reason`` a person's own.
    """
    credential = await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    left = [number for number, row in versions.items() if row.state not in {State.REVOKED, State.DESTROYED}]
    if credential.state == "revoked" and not left:
        return credential
    credential.state, credential.revoked_at = "revoked", credential.revoked_at or now
    await raise_epoch(session, credential_id)
    # The active one last: revoked first, it would call the retiring one back.
    for number in sorted(left, key=lambda number: versions[number].state == State.ACTIVE):
        await put_out(session, versions, number, now)
    ended = await rotation.abandoned(session, actor, credential_id, now=now)
    await record(session, event_of(credential, "credential.revoked", actor, now, reason=why, note=reason), *ended)
    return credential


async def withdraw(session: AsyncSession, actor: Actor, credential_id: str, *, now: int) -> CredentialRow:
    """The customer takes their key back: cut off like a revocation, recorded as theirs.  Again: no change."""
    credential = await get_credential(session, credential_id)
    await versions_of(session, credential_id)
    if credential.state == "revoked":
        return credential
    await tell_of(session, "key_withdrawn", credential, now=now)
    return await revoke_credential(session, actor, credential_id, reason="", why="withdrawn", now=now)
