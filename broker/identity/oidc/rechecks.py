"""Whether people who signed in still may be here.

Their provider is asked every few minutes, with a refresh token.  So who loses a group, or is locked out at the
provider, loses their sessions here within ten minutes.  A provider that doesn't answer is asked again; after an hour
without an answer the sessions end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, upsert
from broker.base.duty import few_at_once
from broker.base.errors import Unavailable
from broker.base.pruning import PAGE
from broker.base.secret import Secret
from broker.formats.ids import IdentityId
from broker.identity import sessions
from broker.identity.oidc import id_token, mapping, people
from broker.identity.oidc.client import Client, Tokens
from broker.identity.oidc.providers import Provider
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.oidc.tables import IdentityRow, RecheckRow, recheck_binding
from broker.identity.tables import AccountRow
from broker.issuers import verifying
from broker.issuers.verifying import NotTaken
from broker.keystore.keystore import Keystore
from broker.parts import Parts

# With a turn of the worker and the time that a provider takes, less than ten minutes.
EVERY_MS: Final = 8 * 60_000
_WITHOUT_MS: Final = 3_600_000
# Why sessions end of whom the provider doesn't know any more, or can't be asked about.
_GONE: Final = "ended_by_issuer"
_NOT_ASKED: Final = "issuer_unreachable"

_log = structlog.get_logger()


async def sealed(keystore: Keystore, identity_id: IdentityId, refresh_token: str) -> bytes:
    """A refresh token as it is kept."""
    return await keystore.seal(Secret(refresh_token), recheck_binding(identity_id))


async def keep(session: AsyncSession, identity_id: IdentityId, token: bytes, now: Millis) -> None:
    """Keep the sealed token by which somebody's provider is asked from now on.

    It has just vouched for them.
    """
    given = {"sealed": token, "checked_at": now}
    put = upsert(session, RecheckRow).values(identity_id=identity_id, **given)
    await session.execute(put.on_conflict_do_update(index_elements=[RecheckRow.identity_id], set_=given))


async def refuse(session: AsyncSession, provider: Provider, account: AccountRow, reason: str, now: Millis) -> None:
    """Put on the record that a provider's person is refused.

    If they may do nothing any more, what they have is taken.
    """
    refused = Event.about(
        account, "session.refused", account.as_actor(), now, decision="denied", reason=reason, provider=provider.id
    )
    await record(session, refused)
    if reason in mapping.NOTHING:
        await people.take(session, account, now)


class Rechecks:
    """The questions to the providers, one after the other.

    With ``approval`` a second person approves whoever becomes an admin.
    """

    def __init__(self, parts: Parts, clients: Mapping[str, Client], *, approval: bool) -> None:
        self.parts = parts
        self._clients = {one.provider.issuer: one for one in clients.values()}
        self._approval = approval

    async def work(self) -> None:
        """Ask about everybody whose time has come."""
        due = RecheckRow.checked_at <= self.parts.clock() - EVERY_MS
        async with self.parts.db.read(EVERY_TENANT) as session:
            found = select(RecheckRow).where(due).order_by(RecheckRow.checked_at).limit(PAGE)
            rows = list(await session.scalars(found))
        await few_at_once(rows, self._ask)

    async def _ask(self, row: RecheckRow) -> None:
        now = self.parts.clock()
        async with self.parts.db.write(EVERY_TENANT) as session:
            identity = await session.get(IdentityRow, row.identity_id)
            if identity is None or not await self._is_signed_in(session, identity, now):
                await session.execute(delete(RecheckRow).where(RecheckRow.identity_id == row.identity_id))
                return
            identity.vouched_for()
        client = self._clients.get(identity.issuer)
        if client is None:
            await self._end(identity, _NOT_ASKED)
            return
        try:
            await self._compare(client, identity, row)
        except (Unavailable, SignInRefused) as fault:
            if now - row.checked_at >= _WITHOUT_MS:
                await self._end(identity, _NOT_ASKED)
            _log.warning("sign_in.not_rechecked", provider=client.provider.id, why=fault.code)

    async def _is_signed_in(self, session: AsyncSession, identity: IdentityRow, now: Millis) -> bool:
        listed = await sessions.listed(session, identity.account_id, now)
        return any(one.issuer == identity.issuer for one in listed)

    async def _compare(self, client: Client, identity: IdentityRow, row: RecheckRow) -> None:
        """Ask, and let the account have what the answer gives."""
        keystore = self.parts.keys.keystore()
        kept = (await keystore.open(row.sealed, recheck_binding(identity.id))).reveal().decode()
        tokens = await client.refresh(kept)
        claims = None if tokens is None else await self._claims(client, tokens, identity.subject)
        if tokens is None or claims is None:
            await self._end(identity, _GONE)
            return
        fresh = await sealed(keystore, identity.id, tokens.refresh_token or kept)
        now = self.parts.clock()
        async with self.parts.db.write(EVERY_TENANT) as session:
            found = await people.known(session, identity.issuer, identity.subject)
            if found is None:
                return
            try:
                rights = mapping.rights(client.provider, claims)
                await people.give(session, found[1], rights, approval=self._approval, now=now)
            except SignInRefused as refused:
                await refuse(session, client.provider, found[1], refused.reason, now)
            await keep(session, identity.id, fresh, now)

    async def _claims(self, client: Client, tokens: Tokens, subject: str) -> Mapping[str, Any] | None:
        """What the provider says of the person now; None if it says that it is another one."""
        found: Mapping[str, Any] = {}
        try:
            if tokens.id_token:
                now = self.parts.clock()
                found = await verifying.verified(tokens.id_token, client.issuer, client.expected, now)
                if id_token.subject(client.provider, found) != subject:
                    return None
        except NotTaken as fault:
            _log.warning("sign_in.token_refused", provider=client.provider.id, why=fault.code)
            return None
        if client.provider.roles_claim in found or "_claim_names" in found:
            return found
        said = await client.userinfo(tokens.access_token)
        if said is not None and said.get("sub") != subject:
            return None
        return {**(said or {}), **found}

    async def _end(self, identity: IdentityRow, reason: str) -> None:
        now = self.parts.clock()
        async with self.parts.db.write(EVERY_TENANT) as session:
            await sessions.end_of_issuer(session, identity.issuer, account=identity.account_id, now=now, reason=reason)
            await session.execute(delete(RecheckRow).where(RecheckRow.identity_id == identity.id))
