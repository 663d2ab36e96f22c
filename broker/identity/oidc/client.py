"""The broker as a client of one provider (OpenID Connect Core 1.0).

It says where people are sent to, and asks in return.  Everything that the broker asks itself goes over
:mod:`broker.issuers.fetching`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import structlog

from broker.base import closed
from broker.base.clock import Clock
from broker.base.errors import Unavailable
from broker.base.outbound import Outbound
from broker.base.pairing import challenge_of
from broker.identity.oidc.pending import Pending
from broker.identity.oidc.providers import Provider
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.sessions import FRESH_MS
from broker.issuers import declared, fetching
from broker.issuers.fetching import NotHad, Told
from broker.issuers.issuer import Issuer, IssuerUnreachable
from broker.issuers.verifying import Expected

_log = structlog.get_logger()
_TOKEN_MAX: Final = 16_384
# Errors of RFC 6749 §5.2 that are about the broker's registration, and no person's.
_OF_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider's token endpoint gave; empty where it gave none."""

    id_token: str = field(repr=False)
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


class Client:
    """What the broker knows of a provider, and asks it."""

    def __init__(self, provider: Provider, outbound: Outbound, clock: Clock, public_url: str) -> None:
        self.provider = provider
        self.issuer = Issuer(provider.declared, outbound, clock)
        self._outbound = outbound
        self._public_url = public_url

    @property
    def expected(self) -> Expected:
        """What an ID token of this provider has to be."""
        return Expected(self.provider.issuer, self.provider.client_id, self.provider.algorithms)

    async def authorization_url(self, pending: Pending) -> str:
        """Where a browser is sent to sign in.

        Raises:
            IssuerUnreachable: the provider doesn't say where that is. SignInRefused: not in a way that is usable.
        """
        metadata, provider = await self.issuer.metadata(), self.provider
        where = self._place(metadata, "authorization_endpoint")
        methods = metadata.get("code_challenge_methods_supported", ["S256"])
        if where is None or not isinstance(methods, list) or "S256" not in methods:
            raise SignInRefused("answer_unusable")
        asked = {
            **provider.parameters,
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(provider.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge_of(pending.verifier),
            "code_challenge_method": "S256",
        }
        if pending.session_id is not None:
            asked["max_age"] = str(FRESH_MS // 1000)
        if provider.acr_values:
            asked["acr_values"] = " ".join(provider.acr_values)
        return _with(where, asked)

    async def check_sender(self, said: str | None) -> None:
        """Compare who sent the answer with who was asked (RFC 9207).

        Raises:
            SignInRefused: it is another one. IssuerUnreachable.
        """
        announced = (await self.issuer.metadata()).get("authorization_response_iss_parameter_supported") is True
        if (said is None and announced) or (said is not None and said != self.provider.issuer):
            raise SignInRefused("wrong_issuer")

    async def redeem(self, code: str, verifier: str) -> Tokens:
        """What the provider gives for a code.

        Raises:
            SignInRefused: nothing, or no ID token. IssuerUnreachable: no usable answer came.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        tokens = await self._tokens(form)
        if tokens is None:
            raise SignInRefused("code_refused")
        if not tokens.id_token:
            raise SignInRefused("answer_unusable")
        return tokens

    async def refresh(self, refresh_token: str) -> Tokens | None:
        """What the provider gives for a refresh token; None if it takes it no more.

        Raises:
            As :meth:`redeem`.
        """
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def userinfo(self, access_token: str) -> Mapping[str, Any] | None:
        """What the provider says of the person now; None if it says nothing.

        Raises:
            IssuerUnreachable: no usable answer came.
        """
        where = self._place(await self.issuer.metadata(), "userinfo_endpoint")
        if where is None or not access_token:
            return None
        try:
            told = await fetching.get(
                self._outbound, self.issuer.declared, where, [("Authorization", f"Bearer {access_token}")]
            )
        except (NotHad, ValueError) as fault:
            raise self._unreachable("userinfo", fault) from None
        return told.document

    async def logout_url(self) -> str:
        """Where a browser is sent to sign out there, too.

        Empty if the provider has no such place, or isn't reached.
        """
        try:
            where = self._place(await self.issuer.metadata(), "end_session_endpoint")
        except Unavailable:
            return ""
        if where is None:
            return ""
        back = f"{self._public_url}/login"
        return _with(where, {"client_id": self.provider.client_id, "post_logout_redirect_uri": back})

    @property
    def _redirect_uri(self) -> str:
        return f"{self._public_url}/login/callback"

    def _place(self, metadata: Mapping[str, Any], name: str) -> str | None:
        """An endpoint that the provider names, if it is an address that somebody can be sent to."""
        where = metadata.get(name)
        private = self.provider.private
        return where if isinstance(where, str) and declared.fault(where, private=private, query=True) is None else None

    async def _tokens(self, form: Mapping[str, str]) -> Tokens | None:
        metadata = await self.issuer.metadata()
        where = self._place(metadata, "token_endpoint")
        if where is None:
            raise SignInRefused("answer_unusable")
        try:
            secret = await asyncio.to_thread(self.provider.secret)
        except (OSError, ValueError, closed.OpenToOthers) as fault:
            raise self._unreachable("client_secret_file", fault) from None
        headers, more = _proof(self.provider.client_id, secret, metadata)
        try:
            body = urlencode({**form, **more}).encode()
            told = await fetching.post(self._outbound, self.issuer.declared, where, headers, body)
        except NotHad as fault:
            raise self._unreachable("token", fault) from None
        return self._read(told)

    def _read(self, told: Told) -> Tokens | None:
        said = told.document
        if told.status == 200:
            found = [said.get(name) for name in ("id_token", "access_token", "refresh_token")]
            return Tokens(*(one if isinstance(one, str) and len(one) <= _TOKEN_MAX else "" for one in found))
        error = said.get("error")
        if error in _OF_CLIENT:
            _log.error("sign_in.client_refused", provider=self.provider.id, error=error)
            raise SignInRefused("client_refused")
        if 400 <= told.status < 500:
            return None
        raise self._unreachable("token", NotHad(f"it answered {told.status}"))

    def _unreachable(self, what: str, fault: Exception) -> IssuerUnreachable:
        _log.warning("sign_in.provider_unreachable", provider=self.provider.id, asked=what, why=str(fault))
        return IssuerUnreachable(60)


def _with(url: str, asked: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"


def _proof(
    client_id: str, secret: str | None, metadata: Mapping[str, Any]
) -> tuple[Sequence[tuple[str, str]], Mapping[str, str]]:
    """How the client proves who it is: header fields, and members of the form (RFC 6749 §2.3.1)."""
    if secret is None:
        return [], {"client_id": client_id}
    methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    if isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
        return [], {"client_id": client_id, "client_secret": secret}
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return [("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")], {}
