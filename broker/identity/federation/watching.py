"""The eye on issuers whose tokens somebody trusts.

It sees what their files say, which keys they have, and whether they answer.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.identity.federation.exchange import Federation
from broker.identity.federation.tables import IssuerRow
from broker.issuers.files import IssuerFile
from broker.issuers.issuer import Issuer
from broker.notifications.notices import Kind, notify
from broker.parts import Parts

# Keys are kept meanwhile, so nobody is woken for less.
_LASTING_MS = 600_000


class Watching:
    """Puts on the record what becomes of issuers."""

    def __init__(self, parts: Parts, federation: Federation) -> None:
        self._db, self._clock = parts.db, parts.clock
        self._federation = federation

    async def work(self) -> None:
        """Look at each issuer that a trust was ever made in."""
        async with self._db.read(EVERY_TENANT) as session:
            rows = (await session.scalars(select(IssuerRow))).all()
        for row in rows:
            declared = self._federation.issuers.get(row.id)
            if declared is None:
                continue
            self._federation.heed(declared, row)
            issuer = self._federation.signer(declared)
            await issuer.look()
            async with self._db.write(EVERY_TENANT) as session:
                await _compare(session, declared, issuer, self._clock())


async def _compare(session: AsyncSession, declared: IssuerFile, issuer: Issuer, now: Millis) -> None:
    """Put on the record what is another than it was."""
    row = await session.get_one(IssuerRow, declared.id, with_for_update=True)
    if row.digest != declared.digest():
        row.digest = declared.digest()
        await _record(session, row, "issuer.declared", now, row.digest)
    if issuer.key_set and row.key_set != issuer.key_set:
        if row.key_set:
            await _record(session, row, "issuer.keys_changed", now, issuer.key_set)
        row.key_set = issuer.key_set
    since = issuer.heard.failing_since
    if since is not None:
        if row.failing_since is None:
            row.failing_since = since
            await _record(session, row, "issuer.unreachable", now)
        if now - row.failing_since >= _LASTING_MS:
            await _tell(session, row, "issuer_unreachable", row.failing_since, now)
    elif row.failing_since is not None:
        if now - row.failing_since >= _LASTING_MS:
            await _tell(session, row, "issuer_well", row.failing_since, now)
        row.failing_since = None
        await _record(session, row, "issuer.recovered", now)


async def _record(session: AsyncSession, row: IssuerRow, kind: str, now: Millis, reason: str = "") -> None:
    await record(session, Event.about(row, kind, BROKER, now, reason=reason))


async def _tell(session: AsyncSession, row: IssuerRow, kind: Kind, since: Millis, now: Millis) -> None:
    facts = {"issuer": row.id}
    await notify(session, kind, organization="", provider="", now=now, dedup=f"{kind}/{row.id}/{since}", facts=facts)
