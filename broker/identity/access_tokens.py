"""Access tokens: short-lived JWTs of the RFC 9068 profile, signed with EdDSA.

Every option of the check is spelled out.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple, Protocol

from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc import jwt
from joserfc.errors import JoseError

from broker.base.clock import Clock, Millis, Timepiece, later, of_seconds
from broker.base.errors import InvalidToken
from broker.base.recent import Recent
from broker.formats.ids import WorkloadId, is_id
from broker.identity.principal import Via, Workload
from broker.identity.signing import SigningKeys
from broker.issuers.unverified import peek

LIFETIME_S = 600
# Two spellings of one type (RFC 9068 §2.1). A replica of a release that knows neither `via` nor `cnf`, and would let go
# on what a revoked trust proved, or take a copied token without its key, takes the first alone.
_PLAIN, _QUALIFIED = "at+jwt", "application/at+jwt"
_LEEWAY_S = 5
_REMEMBERED = 10_000


class AccessTokenRefused(InvalidToken):
    """Not an access token that this broker made for itself and that still lasts."""

    def __init__(self) -> None:
        super().__init__("The access token is not valid or is over; get a new one at /oauth/token.")


class AccessTokenGenerator(JWTBearerTokenGenerator):  # type: ignore[misc]  # authlib has no types
    """Makes access tokens for workloads; the audience is the broker itself."""

    def __init__(self, issuer: str, keys: SigningKeys, workload_name: str, clock: Clock, jkt: str = "") -> None:
        super().__init__(issuer, alg="EdDSA", expires_generator=lambda _client, _grant: LIFETIME_S)
        self._keys = keys
        self._workload_name = workload_name
        self._clock = clock
        self._jkt = jkt

    def access_token_generator(self, client: Client, **_hook: object) -> str:
        """A signed token (authlib's hook; its own can name neither the algorithm nor the key)."""
        now_s = self._clock() // 1000
        return make(self.issuer, self._keys, client.get_client_id(), self._workload_name, now_s, jkt=self._jkt)


def make(
    issuer: str,
    keys: SigningKeys,
    workload: str,
    name: str,
    now_s: int,
    *,
    lasts_s: int = LIFETIME_S,
    via: Via = (),
    jkt: str = "",
) -> str:
    """A signed access token of a workload.

    Args:
        issuer: the broker, which is the audience as well.
        lasts_s: seconds from ``now_s`` on.
        via: the ids that it stands on beside the workload; each ends it.
        jkt: the name of the key that it is bound to (RFC 9449 §6.1); "" if it is to none.
    """
    claims = {
        "iss": issuer,
        "aud": issuer,
        "sub": workload,
        "client_id": workload,
        "iat": now_s,
        "exp": now_s + lasts_s,
        "jti": secrets.token_urlsafe(16),
        "name": name,
        **({"via": list(via)} if via else {}),
        **({"cnf": {"jkt": jkt}} if jkt else {}),
    }
    key = keys.current
    kind = _QUALIFIED if via or jkt else _PLAIN
    return jwt.encode({"alg": "EdDSA", "typ": kind, "kid": key.kid}, claims, key, algorithms=["EdDSA"])


class Client(Protocol):
    """The part of an OAuth client that a token is made of."""

    def get_client_id(self) -> str:
        """The workload's id."""
        ...


class _Verified(NamedTuple):
    workload: Workload
    expires_at: Millis
    issued_by: Millis


class AccessTokens:
    """Verifies access tokens.

    A verified token is remembered until it expires, so a job's second call costs a hash.
    """

    def __init__(self, issuer: str, keys: SigningKeys, clock: Timepiece) -> None:
        self._issuer = issuer
        self._keys = keys
        self._clock = clock
        self.of_unknown_keys = 0  # for metrics
        self._verified = Recent[bytes, _Verified](_REMEMBERED)

    async def verify(self, unverified_token: str) -> Workload:
        """The workload that this token speaks for.

        The guards say whether the workload still stands.

        Raises:
            AccessTokenRefused: not ours, altered, expired, or for somebody else.
        """
        # lease (2) which workload the token speaks for
        if not unverified_token.isascii():  # as every JWT is (RFC 7515 §3.1)
            raise AccessTokenRefused
        digest = hashlib.sha256(unverified_token.encode()).digest()
        known = self._verified.get(digest)
        if known is None or known.expires_at <= self._clock():
            known = self._verified[digest] = await self._verify(unverified_token)
        if not self._clock.counts(known.issued_by):
            raise AccessTokenRefused
        return known.workload

    async def _verify(self, unverified_token: str) -> _Verified:
        try:
            kid = peek(unverified_token).header.get("kid")
            if isinstance(kid, str) and not self._keys.knows(kid):
                await self._look_for(kid)
            token = jwt.decode(unverified_token, self._keys.verifying(), algorithms=["EdDSA"])
            self._claims().validate(token.claims)
        except (JoseError, ValueError, TypeError):
            raise AccessTokenRefused from None
        if token.header.get("typ") not in {_PLAIN, _QUALIFIED} or token.claims["sub"] != token.claims["client_id"]:
            raise AccessTokenRefused
        if not is_id(subject := str(token.claims["sub"]), WorkloadId):
            raise AccessTokenRefused
        via = token.claims.get("via", [])
        jkt = token.claims.get("cnf", {}).get("jkt", "")
        workload = Workload(subject, str(token.claims.get("name", "")), tuple(map(str, via)), str(jkt))
        # Dated in whole seconds: issued within that one.
        return _Verified(
            workload, of_seconds(int(token.claims["exp"])), later(of_seconds(int(token.claims["iat"])), 999)
        )

    async def _look_for(self, kid: str) -> None:
        await self._keys.look_again()
        if not self._keys.knows(kid):
            self.of_unknown_keys += 1
            raise AccessTokenRefused

    def _claims(self) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            now=self._clock() // 1000,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._issuer},
            sub={"essential": True},
            client_id={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            jti={"essential": True},
        )
