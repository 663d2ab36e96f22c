"""A sign-in by a provider, from the button to the session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.base.errors import NotFound, TooMany
from broker.base.strangers import Tally, network
from broker.formats.ids import SessionId
from broker.identity import sessions
from broker.identity.approval import in_force
from broker.identity.oidc import id_token, mapping, pending, people, rechecks
from broker.identity.oidc.client import Client, Tokens
from broker.identity.oidc.id_token import Person
from broker.identity.oidc.mapping import Rights
from broker.identity.oidc.pending import Pending
from broker.identity.oidc.providers import Provider
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.sessions import Device, SignedIn, Way
from broker.identity.tables import SessionRow
from broker.issuers import verifying
from broker.issuers.verifying import NotTaken
from broker.parts import Parts

_log = structlog.get_logger()


# Of one address in ten minutes. Each is a row, and anybody can begin one.
_BEGUN_MOST: Final = 60


class TooManySignIns(TooMany):
    """More sign-ins were begun from one address than people begin."""

    def __init__(self) -> None:
        super().__init__("Too many sign-ins were begun from your address. Try again in ten minutes.", retry_after=600)


class UnknownSignIn(NotFound):
    """There is no such provider to sign in by."""

    def __init__(self) -> None:
        super().__init__("There is no such identity provider here; /login has those that there are.")


@dataclass(frozen=True, slots=True)
class Wish:
    """A browser that wants to sign somebody in.

    Args:
        provider: the id of the provider.
        address: where the browser is.
        browser: what it has kept of an earlier sign-in.
        session_id: the session whose person proves again who they are.
        goes_to: the page of ours to go to afterwards.
    """

    provider: str
    address: str
    browser: str | None = field(repr=False)
    session_id: SessionId | None
    goes_to: str


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and what it has to keep meanwhile."""

    url: str
    browser: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Returned:
    """What came back with a browser; None where nothing of the name did."""

    state: str | None
    code: str | None = field(repr=False)
    issuer: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The session's token, and the page to go to."""

    token: str = field(repr=False)
    destination: str


class SignIn:
    """People's way in by the declared providers.

    With ``approval`` a second person approves whoever comes as an admin.
    """

    def __init__(self, parts: Parts, providers: Sequence[Provider], public_url: str, *, approval: bool) -> None:
        self.parts = parts
        self._approval = approval
        self._begun = Tally(parts.clock)
        self.clients: Mapping[str, Client] = {
            one.id: Client(one, parts.outbound, parts.clock, public_url) for one in providers
        }

    def offered(self) -> Sequence[tuple[str, str]]:
        """Id and title of every provider, as the file has them."""
        return [(one.provider.id, one.provider.title) for one in self.clients.values()]

    def client(self, provider: str) -> Client:
        """The provider of that id; raises UnknownSignIn."""
        if provider not in self.clients:
            raise UnknownSignIn
        return self.clients[provider]

    async def begin(self, wish: Wish) -> Begun:
        """Begin a sign-in, or another proof by the person of a session.

        Raises:
            UnknownSignIn, TooManySignIns, IssuerUnreachable. SignInRefused: the provider can't be used.
        """
        client, whose = self.client(wish.provider), network(wish.address)
        if self._begun.count(whose) >= _BEGUN_MOST:
            raise TooManySignIns
        self._begun.add(whose)
        await client.issuer.metadata()  # so that nothing is written for a provider that is away
        secret, now = pending.browser_secret(wish.browser), self.parts.clock()
        async with self.parts.db.write(EVERY_TENANT) as session:
            begun = pending.begin(
                session,
                self._key,
                secret,
                wish.provider,
                session_id=wish.session_id,
                goes_to=wish.goes_to,
                now=now,
            )
        return Begun(await client.authorization_url(begun), secret)

    async def finish(
        self, returned: Returned, browser: str | None, device: Device, present: SessionId | None
    ) -> Finished:
        """Sign somebody in.

        Args:
            returned: what the provider sent back by the browser.
            browser: what this has kept.
            device: where the person sits.
            present: the session that the browser has already.

        Raises:
            SignInRefused: nobody is signed in. IssuerUnreachable: it can't be told yet.
        """
        begun = await self._used(returned.state or "", browser)
        client = self.clients.get(begun.provider)
        if client is None:
            raise SignInRefused("sign_in_unknown")
        await client.check_sender(returned.issuer)
        if not returned.code:
            raise SignInRefused("provider_refused")
        tokens = await client.redeem(returned.code, begun.verifier)
        person = await self._person(client, tokens, begun)
        try:
            rights = mapping.rights(client.provider, person.claims)
            if client.provider.recheck and not tokens.refresh_token:
                raise SignInRefused("cannot_be_checked")
            return await self._let_in(client.provider, person, rights, tokens, begun, device, present)
        except SignInRefused as refused:
            await self._note(client.provider, person, refused.reason)
            raise

    @property
    def _key(self) -> bytes:
        return self.parts.keys.signing_in

    async def _used(self, state: str, browser: str | None) -> Pending:
        """The sign-in under way, which from here on is no more."""
        now = self.parts.clock()
        async with self.parts.db.read(EVERY_TENANT) as session:  # so that no stranger takes a writer
            begun = await pending.check(session, self._key, browser, state, now)
        async with self.parts.db.write(EVERY_TENANT) as session:
            await pending.use(session, self._key, state)
        return begun

    async def _person(self, client: Client, tokens: Tokens, begun: Pending) -> Person:
        now = self.parts.clock()
        try:
            claims = await verifying.verified(tokens.id_token, client.issuer, client.expected, now)
            return id_token.person(client.provider, claims, begun, now)
        except NotTaken as fault:
            _log.warning("sign_in.token_refused", provider=client.provider.id, why=fault.code)
            raise SignInRefused("token_refused") from None

    async def _let_in(
        self,
        provider: Provider,
        person: Person,
        rights: Rights,
        tokens: Tokens,
        begun: Pending,
        device: Device,
        present: SessionId | None,
    ) -> Finished:
        now, keys = self.parts.clock(), self.parts.keys
        proof = SignedIn(Way.OIDC, person.authenticated_at, provider.issuer, person.issuer_session)
        token = ""
        async with self.parts.db.write(EVERY_TENANT) as session:
            again = await self._again(session, provider, person, begun, present, now)
            identity, account = await people.arrive(
                session, provider, person.claims, rights, approval=self._approval, now=now
            )
            if in_force(account):
                if again is not None and again.ended_at is None:
                    _, token = await sessions.renew(session, keys.token_hash, again, proof, now)
                else:
                    if present is not None and (previous := await session.get(SessionRow, present)) is not None:
                        await sessions.end_own(session, previous, now, reason="signed_in_anew")
                    _, token = await sessions.begin(session, keys.token_hash, account, proof, device, now)
                if provider.recheck:
                    sealed = await rechecks.sealed(keys.keystore(), identity.id, tokens.refresh_token)
                    await rechecks.keep(session, identity.id, sealed, now)
        if not token:  # the account is kept, so that somebody can approve it
            raise SignInRefused("account_waits")
        return Finished(token, begun.destination)

    async def _again(
        self,
        session: AsyncSession,
        provider: Provider,
        person: Person,
        begun: Pending,
        present: SessionId | None,
        now: Millis,
    ) -> SessionRow | None:
        """The session whose person proves again who they are; None if it is to be a new one."""
        if begun.session_id is None:
            return None
        row = await session.get(SessionRow, begun.session_id)
        found = await people.known(session, provider.issuer, person.subject)
        if row is None or not sessions.in_force(row, now) or row.id != present:
            raise SignInRefused("sign_in_unknown")
        if found is None or found[1].id != row.account_id:
            raise SignInRefused("somebody_else")
        return row

    async def _note(self, provider: Provider, person: Person, reason: str) -> None:
        """Put a refusal of somebody known on the record, with what follows from it."""
        now = self.parts.clock()
        async with self.parts.db.write(EVERY_TENANT) as session:
            found = await people.known(session, provider.issuer, person.subject)
            if found is None:
                return
            await rechecks.refuse(session, provider, found[1], reason, now)
