"""An operator's decision to use a verified key whose organization its evidence left open."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.audit.record import raise_epoch, record
from broker.credentials import rotation
from broker.credentials.lifecycle import Move, State
from broker.credentials.tables import VersionRow
from broker.credentials.versions import UnlawfulMove, apply_move, event, get_credential, versions_of


async def activate(session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int) -> VersionRow:
    """Use a held version; within a rotation that is its promotion.

    Raises:
        UnlawfulMove: the lifecycle refuses it. NotFound: no such version.
    """
    credential = await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    if credential.state != "active":
        raise UnlawfulMove("The credential was revoked.", move="activate_in_revoked_credential")
    changing = await rotation.open_of(session, credential_id)
    if changing is not None and changing.to_version == number and changing.state == "held":
        await rotation.promote(session, actor, changing.id, now=now)
        return versions[number]
    if any(row.state == State.ACTIVE for row in versions.values()):
        raise UnlawfulMove(
            "Another key is in use, and only a rotation replaces it: revoke this version, then `broker key rotate`.",
            move="activate_without_rotation",
        )
    apply_move(versions, number, Move.ACTIVATE, now)
    versions[number].next_probe_at = now  # its ids are the credential's from this decision on
    await raise_epoch(session, credential_id)
    await record(session, event(versions[number], "credential.version.activated", actor, now))
    return versions[number]
