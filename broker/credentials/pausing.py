"""Let nobody use a key for a while, and then again: the customer's own switch."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.validity import Validity
from broker.credentials.lifecycle import USABLE
from broker.credentials.moves import UnlawfulMove
from broker.credentials.notices import notify_of
from broker.credentials.tables import CredentialRow
from broker.credentials.versions import get_credential, versions_of
from broker.formats.ids import CredentialId


async def pause(session: AsyncSession, actor: Actor, credential_id: CredentialId, *, now: Millis) -> CredentialRow:
    """Let nobody lease or use any version, from the commit on until resumed.  Idempotent.

    Raises:
        UnlawfulMove: the credential was revoked.
    """
    return await _set(session, actor, credential_id, "paused", now)


async def resume(session: AsyncSession, actor: Actor, credential_id: CredentialId, *, now: Millis) -> CredentialRow:
    """Let leases and uses be possible again.  Idempotent.

    Raises:
        UnlawfulMove: the credential was revoked.
    """
    return await _set(session, actor, credential_id, "resumed", now)


async def _set(
    session: AsyncSession, actor: Actor, credential_id: CredentialId, done: str, now: Millis
) -> CredentialRow:
    credential = await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    if credential.state != Validity.ACTIVE:
        raise UnlawfulMove("The credential was revoked for good.", move=f"{done}_in_revoked_credential")
    if (credential.paused_at is not None) == (done == "paused"):
        return credential
    credential.paused_at = now if done == "paused" else None
    for row in versions.values():
        if row.state in USABLE and row.next_probe_at is not None and done == "resumed":
            row.next_probe_at = now  # nobody asked about it meanwhile
    await raise_epoch(session, credential_id)
    await notify_of(session, "key_paused" if done == "paused" else "key_resumed", credential, now=now)
    await record(session, Event.about(credential, f"credential.{done}", actor, now))
    return credential
