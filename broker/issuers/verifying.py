"""Signed JWTs of others (RFC 7519): their form, signature, audience and times.

The library does the signature alone.  A check says why it refused by a word of :class:`NotTaken`; what of that is told
to whom is for who asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError

from broker.base.clock import Millis
from broker.issuers.issuer import Issuer
from broker.issuers.published import FAMILIES, Key
from broker.issuers.unverified import OTHERS, NotAToken, Unverified, peek

LEEWAY_S: Final = 30
# ``typ`` of a JWT that says nothing more of itself (RFC 7519 §5.1), so none of our own and none for another use.
PLAIN: Final = frozenset({"", "jwt", "jose"})
_KID_MAX: Final = 512
# A time beyond this is none that anybody means, and arithmetic with it would be strange.
_LATEST_S: Final = 2**40


class NotTaken(Exception):
    """A token that is not what it has to be; ``code`` says what it isn't."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to be.

    Args:
        issuer: the exact ``iss``; empty if whose the token is was found otherwise.
        audience: the one ``aud``.
        algorithms: what it may be signed with.
        types: what ``typ`` may be, in lower case; empty if it may be absent.
        lifetime_s: how many seconds it may last in all.
        leeway_s: how many seconds its clock may be off.
        dated: it has to say when it was made.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    types: frozenset[str] = PLAIN
    lifetime_s: int = 86_400
    leeway_s: int = LEEWAY_S
    dated: bool = True


async def verified(token: str, issuer: Issuer, expected: Expected, now: Millis) -> Mapping[str, Any]:
    """The claims of a token that this issuer signed.

    What needs no key is checked before the issuer is asked for any.

    Raises:
        NotTaken: it isn't what is expected.
        IssuerUnreachable: the issuer's keys can't be had.
    """
    found = form(token, expected)
    keys = await issuer.candidates(found.header.get("kid"), found.header["alg"])
    return check(token, found, keys, expected, now)


def form(token: str, expected: Expected) -> Unverified:
    """What a token says, if it could be one that is expected; raises NotTaken."""
    try:
        found = peek(token, OTHERS)
    except NotAToken:
        raise NotTaken("malformed") from None
    header, algorithm, kind = found.header, found.header.get("alg"), found.header.get("typ", "")
    if not isinstance(algorithm, str) or algorithm not in expected.algorithms or algorithm not in FAMILIES:
        raise NotTaken("algorithm_refused")
    if "crit" in header or "b64" in header:
        raise NotTaken("malformed")
    if not isinstance(kind, str) or kind.lower() not in expected.types:
        raise NotTaken("type_refused")
    if not isinstance(kid := header.get("kid", ""), str) or len(kid) > _KID_MAX:
        raise NotTaken("malformed")
    if expected.issuer and found.claims.get("iss") != expected.issuer:
        raise NotTaken("wrong_issuer")
    return found


def check(token: str, found: Unverified, keys: Iterable[Key], expected: Expected, now: Millis) -> Mapping[str, Any]:
    """The claims of a token whose form is right; raises NotTaken.  Pure."""
    check_signature(token, found, keys)
    check_audience(found, expected)
    check_times(found.claims, expected, now)
    return found.claims


def check_signature(token: str, found: Unverified, keys: Iterable[Key]) -> None:
    """Check that one of these keys signed; raises NotTaken."""
    algorithm = str(found.header["alg"])
    if not (candidates := list(keys)):
        raise NotTaken("key_unknown")
    if not any(_signed(token, key, algorithm) for key in candidates):
        raise NotTaken("bad_signature")


def check_audience(found: Unverified, expected: Expected) -> None:
    """Check that a token is for one audience alone, the right one; raises NotTaken."""
    if found.claims.get("aud") not in (expected.audience, [expected.audience]):
        raise NotTaken("wrong_audience")


def _signed(token: str, key: Key, algorithm: str) -> bool:
    # Further names of a header are anybody's to add, and mean nothing here.
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = OTHERS.length
    try:
        jws.deserialize_compact(token, key.public, algorithms=[algorithm], registry=registry)
    except (JoseError, ValueError, TypeError):
        return False
    return True


def check_times(claims: Mapping[str, Any], expected: Expected, now: Millis) -> None:
    """Check that a token is in force, and for no longer than it may be; raises NotTaken."""
    present = now / 1000
    expires = seconds(claims.get("exp"))
    issued = seconds(claims.get("iat")) if "iat" in claims or expected.dated else present
    begins = seconds(claims["nbf"]) if "nbf" in claims else issued
    if expires is None or issued is None or begins is None:
        raise NotTaken("malformed")
    if expires <= present - expected.leeway_s:
        raise NotTaken("token_over")
    if max(issued, begins) > present + expected.leeway_s:
        raise NotTaken("token_not_yet")
    if expires - issued > expected.lifetime_s:
        raise NotTaken("lives_too_long")


def seconds(claim: object) -> float | None:
    """The time that a claim names, in seconds since the epoch; None if it names none."""
    if isinstance(claim, bool) or not isinstance(claim, int | float) or not math.isfinite(claim):
        return None
    return float(claim) if 0 <= claim <= _LATEST_S else None
