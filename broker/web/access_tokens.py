"""A job's access token as a request brings it, with the proof of its key (RFC 9449 §7)."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.types import Scope

from broker.base.errors import InvalidToken, Unauthenticated
from broker.formats import dpop
from broker.identity.dpop.proof import NonceNeeded, Proof, ProofNeeded, Sent
from broker.identity.principal import Workload
from broker.web.middleware import ESTABLISHED, NONCE, header
from broker.web.services import Services

_BOUND: Final = "dpop"
SCHEMES: Final = frozenset({"bearer", _BOUND})


class NotBound(InvalidToken):
    """The token is bound to no key, and came as if it were."""

    challenge = 'Bearer error="invalid_token"'


class Presented(NamedTuple):
    """A token that nobody has verified yet, and the scheme that it came with, in lower case."""

    scheme: str
    unverified: str


def presented(scope: Scope) -> Presented:
    """The request's token (RFC 6750 §2.1, RFC 9449 §7.1); raises Unauthenticated."""
    scheme, _, value = (header(scope, b"authorization") or "").partition(" ")
    if scheme.lower() not in SCHEMES or not value.strip():
        raise Unauthenticated("Send `Authorization: Bearer TOKEN`, or `DPoP TOKEN` if it is bound to a key.")
    return Presented(scheme.lower(), value.strip())


async def verified(scope: Scope, token: Presented, wired: Services) -> tuple[Workload, Proof | None]:
    """The job that a token speaks for, and the proof of its key: None if it is bound to none.

    Whether the proof was used before is for the caller to ask.

    Args:
        scope: the request's.
        token: what it brought.
        wired: the broker's services.

    Raises:
        AccessTokenRefused, NotBound. ProofRefused: the token is bound, and this isn't shown to be its holder.
    """
    workload = await wired.access_tokens.verify(token.unverified)
    if not workload.jkt:
        if token.scheme == _BOUND:
            raise NotBound("This access token is bound to no key; send it as `Authorization: Bearer TOKEN`.")
        return workload, None
    if token.scheme != _BOUND:
        refused = ProofNeeded(
            "This access token is bound to a key (DPoP, RFC 9449): send it as `Authorization: DPoP TOKEN`, with a "
            "proof in the DPoP header."
        )
        raise wired.proofs.refusing(refused)
    try:
        proof = wired.proofs.of_token(sent(scope, wired), token.unverified, workload.jkt)
    except NonceNeeded:
        scope[ESTABLISHED] = True
        raise
    scope[NONCE] = wired.proofs.nonces.current()
    return workload, proof


def sent(scope: Scope, wired: Services) -> Sent:
    """The request as its proof names it: by the broker's public address, whatever Host says."""
    path = bytes(scope["raw_path"]).decode("latin-1").partition("?")[0]
    name = dpop.HEADER.lower().encode()
    proofs = [str(value, "latin-1") for given, value in scope["headers"] if given == name]
    return Sent(proofs, scope.get("asked", scope["method"]), wired.options.public_url + path)
