"""Take a key that an operator pasted; it is staged and verified as one from a link."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.base.db import Scope
from broker.base.errors import BrokerError, Invalid
from broker.credentials.staging import KeyOfAnotherOrganization, Received, Sealing, stage, with_sealed
from broker.credentials.tables import VersionRow
from broker.credentials.verification import Verdict, Verification
from broker.credentials.versions import CredentialAddress
from broker.parts import Parts


class KeyRefused(Invalid):
    """The upstream says that the key is not valid; nothing was kept."""

    code = "key_refused_upstream"
    title = "The key was refused"


async def add(
    parts: Parts, verification: Verification, actor: Actor, address: CredentialAddress, received: Received
) -> tuple[VersionRow, Verdict]:
    """Stage and verify a key.

    Returns:
        The version and what verification came to; UNREACHABLE leaves it with the worker.

    Raises:
        KeyFormat, KeyAlreadyReceived, KeyOfAnotherOrganization, ActiveKeyExists, KeyRefused: nothing was kept.
    """

    async def keep(sealing: Sealing) -> VersionRow:
        async with parts.db.write(Scope.of(address.organization)) as session:
            return await stage(session, parts.keys, actor, address, received, sealing, now=parts.clock())

    row = await with_sealed(parts.db, parts.keystore, parts.keys, address, received, keep)
    try:
        verdict = await verification.run(
            organization=address.organization, credential_id=row.credential_id, number=row.number, also=nothing_more
        )
    except BrokerError:
        verdict = Verdict.UNREACHABLE  # the key is sealed and durable, and the worker goes on
    if verdict is Verdict.BAD_KEY:
        raise KeyRefused(f"{address.definition.title} says that this key is not valid; nothing was kept.")
    if verdict is Verdict.OTHER_ORGANIZATION:
        raise KeyOfAnotherOrganization
    async with parts.db.read(Scope.of(address.organization)) as session:
        return await session.get_one(VersionRow, (row.credential_id, row.number)), verdict


async def nothing_more(_session: AsyncSession, _row: VersionRow, _verdict: Verdict) -> None:
    """What follows verification if there is no request to settle."""
