"""The check of a platform's token that a job brings.

It finds out whose the token is, what it says, and which trust takes it.
Nothing is fetched for a token whose issuer nobody trusts.  What is told to whoever brought it goes as far as they
proved something: before the signature held, nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.base.clock import Millis
from broker.identity.federation.tables import TrustRow
from broker.issuers import verifying
from broker.issuers.files import SPIFFE, IssuerFile
from broker.issuers.issuer import Issuer
from broker.issuers.presets.clusters import SPIFFE_ID
from broker.issuers.presets.model import Claims, Unfit
from broker.issuers.unverified import OTHERS, NotAToken, peek
from broker.issuers.verifying import Expected, NotTaken

# The access token ends with the token that it was given for. What lasts shorter is of no use.
LEAST_S: Final = 30
ENDS_SOON: Final = Unfit("token_over", f"The token is over in less than {LEAST_S} s; bring a fresh one.", "exp")
NAMELESS: Final = Unfit("claim_missing", "The token has no jti, so nobody can tell whether it was used.", "jti")
_TOLD_MAX: Final = 200
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a token proved.

    ``name`` is its ``jti``, or the hash of what was signed.  ``told`` goes on the record.
    """

    trust: TrustRow
    issuer: IssuerFile
    expires_s: float
    name: str
    told: Mapping[str, str]


class NotProved(Exception):
    """A token proves nothing here.

    ``code`` goes on the record.  ``public`` is what whoever brought it is told, empty if nothing.
    """

    def __init__(self, code: str, public: str = "") -> None:
        super().__init__(code)
        self.code, self.public = code, public


def issuer_of(token: str, issuers: Iterable[IssuerFile]) -> IssuerFile | None:
    """The declared issuer of exactly the name, or the trust domain, that a token says.

    Raises:
        NotProved: it is no token.
    """
    try:
        claims = peek(token, OTHERS).claims
    except NotAToken:
        raise NotProved("malformed") from None
    for one in issuers:
        if one.preset == SPIFFE:
            found = SPIFFE_ID.fullmatch(str(claims.get("sub", "")))
            if found and f"spiffe://{found[1]}" == one.issuer:
                return one
        elif claims.get("iss") == one.issuer:
            return one
    return None


def expected(issuer: IssuerFile, audience: str) -> Expected:
    """What a token of this issuer has to be; ``audience`` is the broker's own address."""
    mesh = issuer.preset == SPIFFE
    return Expected(
        "" if mesh else issuer.issuer,
        issuer.audience or audience,
        issuer.algorithms,
        lifetime_s=issuer.lifetime_s,
        leeway_s=issuer.tokens.leeway,
        dated=not mesh,
    )


async def verified(token: str, issuer: IssuerFile, keys: Issuer, audience: str, now: Millis) -> Claims:
    """The claims of a token that the issuer signed for the broker.

    Raises:
        NotProved: it isn't. IssuerUnreachable.
    """
    wanted = expected(issuer, audience)
    try:
        return await verifying.verified(token, keys, wanted, now)
    except NotTaken as refused:
        raise NotProved(refused.code, mend(refused.code, issuer, wanted, peek(token, OTHERS).claims, now)) from None


def mend(code: str, issuer: IssuerFile, wanted: Expected, claims: Mapping[str, Any], now: Millis) -> str:
    """What is told of a token whose signature held; empty for the rest."""
    present = now / 1000
    match code:
        case "wrong_audience":
            named = claims.get("aud")
            shown = ", ".join(map(str, named)) if isinstance(named, list) else str(named or "")
            alone = " alone" if wanted.audience in shown else ""
            ask = f": {issuer.kind.audience}" if issuer.kind.audience else ""
            return (
                f"The token is for {shown[:_TOLD_MAX] or 'nobody'}; "
                f"ask your platform for one for {wanted.audience}{alone}{ask}."
            )
        case "token_over":
            over = present - (verifying.seconds(claims.get("exp")) or present)
            return f"The token ended {over:.0f} s ago; bring a fresh one."
        case "token_not_yet":
            begins = [verifying.seconds(claims.get(name)) or 0 for name in ("iat", "nbf")]
            return f"The token begins in {max(begins) - present:.0f} s: your platform's clock or the broker's is off."
        case "lives_too_long":
            lasts = (verifying.seconds(claims.get("exp")) or 0) - (verifying.seconds(claims.get("iat")) or present)
            return (
                f"The token lasts {lasts:.0f} s, at most {wanted.lifetime_s} are taken; ask for one that lasts shorter."
            )
    return ""


def discreet(refused: NotProved, issuer: IssuerFile, trusts: Sequence[TrustRow], claims: Claims) -> NotProved:
    """A refusal as whoever brought a token may learn it.

    An issuer that signs for everybody on its platform signs for strangers, too.  Who is none of whom a trust is about
    learns nothing, not even that there is a trust.
    """
    known = not issuer.shared or any(issuer.kind.identifies(trust.claims, claims) for trust in trusts)
    return refused if known else NotProved(refused.code)


def taken(
    issuer: IssuerFile, trusts: Sequence[TrustRow], claims: Claims, token: str, address: str, now: Millis
) -> Proof:
    """What a verified token proves: the first trust that takes it.

    Raises:
        NotProved: none does.
    """
    refusals: list[Unfit] = []
    for trust in trusts:
        found = issuer.kind.mismatch(trust.claims, claims)
        if found is None and not comes_from(trust, address):
            found = Unfit("address_refused", f"No trust takes tokens from {address}.", "")
        if found is None:
            return _proof(issuer, trust, claims, token, now)
        refusals.append(found)
    nearest = max(refusals, key=lambda one: one.claim not in issuer.kind.identifying)
    raise discreet(NotProved(nearest.code, nearest.text), issuer, trusts, claims)


def comes_from(trust: TrustRow, address: str) -> bool:
    """Whether a trust takes tokens from there."""
    if not trust.networks:
        return True
    try:
        here = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(here in ipaddress.ip_network(one) for one in trust.networks)


def _proof(issuer: IssuerFile, trust: TrustRow, claims: Claims, token: str, now: Millis) -> Proof:
    expires = verifying.seconds(claims["exp"])
    assert expires is not None, "it was verified"
    if ends_soon(claims, now):
        raise NotProved(ENDS_SOON.code, ENDS_SOON.text)
    jti = claims.get("jti")
    if issuer.once and not nameable(jti):
        raise NotProved(NAMELESS.code, NAMELESS.text)
    name = str(jti) if issuer.once else hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
    return Proof(trust, issuer, expires, name, _told(issuer, claims))


def ends_soon(claims: Claims, now: Millis) -> bool:
    """Whether an access token for this one would last too short to be of use."""
    return (verifying.seconds(claims.get("exp")) or 0) - now / 1000 < LEAST_S


def nameable(jti: object) -> bool:
    """Whether a token's ``jti`` can tell it from others."""
    return isinstance(jti, str) and 0 < len(jti) <= 256 and jti.isprintable()


def _told(issuer: IssuerFile, claims: Claims) -> Mapping[str, str]:
    """What of a token goes on the record: short texts without control characters."""
    told = {}
    for name, path in issuer.kind.told.items():
        found: Any = claims
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, str | int) and found != "":
            told[name] = _CONTROLS.sub(" ", str(found))[:_TOLD_MAX]
    return told
