"""Codes that open a customer's status page, and their replacement once one has leaked.

The browser of a customer who submits a key makes its code; the row holds the code's key, sealed.  Before there were
codes the broker derived the secret of a status link.  Such a link works until it is replaced.
"""

from __future__ import annotations

import hmac

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.errors import NotFound
from broker.base.secret import Secret
from broker.credentials.rotation import open_of
from broker.credentials.versions import versions_of
from broker.formats import link_proof, link_secret
from broker.formats.ids import CredentialId
from broker.intake.lifecycle import IntakeState, IntakeStep, close
from broker.intake.tables import IntakeRow
from broker.keystore.internal import InternalKeys


def status_secret(link_key: bytes, row: IntakeRow) -> str:
    """The secret part of a status link that was given out before codes were."""
    name = f"status\0{row.id}" + (f"\0{row.status_serial}" if row.status_serial else "")
    return link_secret.encode(hmac.digest(link_key, name.encode(), "sha256")[:20])


async def replace_status_codes(
    session: AsyncSession, keys: InternalKeys, actor: Actor, credential_id: CredentialId, *, now: Millis
) -> tuple[IntakeRow, str]:
    """Replace every status code and link of a credential by a new code.

    One-time links that customers issued over the old codes close too.  The new code can issue another link.

    Returns:
        The latest request, and its new code, which is shown this once.

    Raises:
        NotFound: no key of this credential came over a link.
    """
    await versions_of(session, credential_id)
    changing = await open_of(session, credential_id)
    query = select(IntakeRow).where(IntakeRow.credential_id == credential_id, IntakeRow.submitted_at.is_not(None))
    rows = list(await session.scalars(query.order_by(IntakeRow.submitted_at).with_for_update()))
    if not rows:
        raise NotFound("No key of this credential came over a link, so it has no status code.")
    for row in rows:  # nobody knows what the broker derives from the next number
        row.status_serial, row.status_key = row.status_serial + 1, None
    code = link_secret.new()
    rows[-1].status_key = await sealed_status_key(keys, rows[-1], link_proof.key_of(code))
    events = [Event.about(rows[-1], "intake.status_link_replaced", actor, now)]
    self_issued = select(IntakeRow).where(
        IntakeRow.rotation_id == (changing and changing.id),
        IntakeRow.state == IntakeState.OPEN,
        IntakeRow.self_issued_at.is_not(None),
    )
    for row in await session.scalars(self_issued.with_for_update()):
        close(row, IntakeStep.EXPIRE, now)
        events.append(Event.about(row, "intake.expired", actor, now, reason="status_link_replaced"))
    await record(session, *events)
    return rows[-1], code


async def sealed_status_key(keys: InternalKeys, row: IntakeRow, key: bytes) -> bytes:
    """The key of a request's status code, as its row holds it."""
    return await keys.keystore().seal(Secret(key), row.status_binding)
