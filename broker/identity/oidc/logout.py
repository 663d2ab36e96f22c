"""A provider says that somebody has signed out there.

OpenID Connect Back-Channel Logout 1.0 has its form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from broker.base.clock import Millis, of_seconds
from broker.base.db import EVERY_TENANT, upsert
from broker.base.errors import BrokerError
from broker.identity import sessions
from broker.identity.oidc import people
from broker.identity.oidc.client import Client
from broker.identity.oidc.tables import LogoutTokenRow
from broker.issuers import verifying
from broker.issuers.unverified import OTHERS, NotAToken, peek
from broker.issuers.verifying import NotTaken
from broker.parts import Parts

_TYPES: Final = frozenset({"logout+jwt"})
_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_NAMED: Final = re.compile(r"[!-~]{1,255}")


class LogoutRefused(BrokerError):
    """A logout token that ends nothing."""

    code = "logout_refused"
    title = "The logout token is not taken"

    def __init__(self) -> None:
        super().__init__(
            "This is no unused logout token (typ logout+jwt) of a declared identity provider for this broker. Compare "
            "issuer and client_id in BROKER_SIGN_IN_FILE with what is registered at the provider."
        )


class Logout:
    """What ends sessions on a provider's word."""

    def __init__(self, parts: Parts, clients: Mapping[str, Client]) -> None:
        self.parts = parts
        self._clients = {one.provider.issuer: one for one in clients.values()}

    async def take(self, token: str) -> int:
        """End the sessions that a logout token names; how many these were.

        Raises:
            LogoutRefused: the token isn't one, or was used. IssuerUnreachable: nobody can tell yet.
        """
        try:
            client = self._clients.get(str(peek(token, OTHERS).claims.get("iss")))
            if client is None:
                raise LogoutRefused
            expected = replace(client.expected, types=_TYPES)
            claims = await verifying.verified(token, client.issuer, expected, self.parts.clock())
        except (NotAToken, NotTaken):
            raise LogoutRefused from None
        issuer_session, subject = _named(claims)
        return await self._end(client.provider.issuer, claims, issuer_session, subject)

    async def _end(self, issuer: str, claims: Mapping[str, Any], issuer_session: str, subject: str) -> int:
        now, account = self.parts.clock(), None
        async with self.parts.db.write(EVERY_TENANT) as session:
            used = upsert(session, LogoutTokenRow).values(issuer=issuer, jti=claims["jti"], expires_at=_over(claims))
            first = used.on_conflict_do_nothing().returning(LogoutTokenRow.jti)
            if (await session.execute(first)).first() is None:
                raise LogoutRefused
            # A session that is named is meant alone.
            if not issuer_session and (found := await people.known(session, issuer, subject)):
                account = found[1].id
            return await sessions.end_of_issuer(
                session, issuer, issuer_session=issuer_session, account=account, now=now
            )


def _named(claims: Mapping[str, Any]) -> tuple[str, str]:
    """The provider's session and the person that a logout token names (§2.6).

    One of both may be empty.
    """
    events, named = claims.get("events"), [claims.get("sid", ""), claims.get("sub", "")]
    if not isinstance(events, dict) or not isinstance(events.get(_EVENT), dict) or "nonce" in claims:
        raise LogoutRefused
    if not isinstance(jti := claims.get("jti"), str) or not _NAMED.fullmatch(jti):
        raise LogoutRefused
    if not any(named) or not all(isinstance(one, str) and len(one) <= 255 for one in named):
        raise LogoutRefused
    return named[0], named[1]


def _over(claims: Mapping[str, Any]) -> Millis:
    return of_seconds(int(claims["exp"]) + verifying.LEEWAY_S)
