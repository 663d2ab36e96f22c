"""A key that is gone from where the keystore kept it.

It is shown with its version, recorded, and people are notified once.

Somebody deleted it in Vault, or a time that was set there did.  If it is restored the next check finds it.
"""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.credentials.lifecycle import Health
from broker.credentials.notices import notify_of
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import CredentialId

# How soon it is looked for again, as it may have been restored.
_AGAIN_MS = 60_000


async def note_missing(session: AsyncSession, credential_id: CredentialId, number: int, *, now: Millis) -> None:
    """Note that a version's material is not where it was put.  Idempotent until it is found."""
    of_it = VersionRow.credential_id == credential_id, VersionRow.number == number
    known = VersionRow.health == Health.GONE
    changed = update(VersionRow).where(*of_it, ~known, VersionRow.sealed.is_not(None))
    values = {"health": Health.GONE, "health_at": now, "next_probe_at": now + _AGAIN_MS}
    row = await session.scalar(changed.values(**values).returning(VersionRow))
    credential = await session.get(CredentialRow, credential_id)
    if row is None or credential is None:
        return
    await record(session, Event.about(row, "credential.version.gone", BROKER, now))
    await notify_of(session, "key_gone", credential, version=number, now=now, facts={"last4": row.last4})
