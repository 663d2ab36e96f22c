"""One proof, and whether it shows what it has to (RFC 9449 §4.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature

from broker.base.clock import Timepiece
from broker.base.errors import InvalidToken
from broker.base.recent import Recent
from broker.formats import base64url, dpop
from broker.identity.dpop import keys
from broker.identity.dpop.keys import ProofKey
from broker.identity.dpop.nonces import Nonces
from broker.issuers import strict_json

# A proof may be dated so long ago, and so far ahead: the signer's clock may be off.
PAST_S: Final = 300
AHEAD_S: Final = 60
_LENGTH_MAX: Final = 4_096
_HEADER_DEPTH: Final = 3
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_JTI: Final = re.compile(r"[!-~]{8,256}", re.ASCII)
_REMEMBERED: Final = 10_000
_PORTS: Final = {"http": 80, "https": 443}
_ALGORITHMS: Final = " ".join(dpop.ALGORITHMS)
_NEEDED: Final = (
    "This token is bound to a key (DPoP, RFC 9449): send a proof of that key in the DPoP header. The Python client and "
    "`broker exec --bound` do so by themselves; see docs/how-to/bind-tokens.md."
)


class ProofRefused(InvalidToken):
    """A request lacks a proof of its token's key, or has one that doesn't show it.

    ``nonce`` is what the next proof has to hold.
    """

    code = "invalid_dpop_proof"
    title = "The DPoP proof is not valid"
    challenge = f'DPoP error="invalid_dpop_proof", algs="{_ALGORITHMS}"'
    nonce = ""


class ProofNeeded(ProofRefused):
    """The token is bound to a key, and nothing shows that the sender holds it."""

    code = "dpop_proof_needed"
    title = "A DPoP proof is needed"
    challenge = f'DPoP error="invalid_token", algs="{_ALGORITHMS}"'


class NonceNeeded(ProofRefused):
    """The proof holds no nonce of the last minutes."""

    code = dpop.NONCE_NEEDED
    title = "The DPoP proof needs a nonce"
    challenge = f'DPoP error="use_dpop_nonce", algs="{_ALGORITHMS}"'

    def __init__(self) -> None:
        super().__init__("Put the DPoP-Nonce of this answer into the proof as `nonce`, and send the request again.")


class ProofUsed(ProofRefused):
    """The proof was used for another request, or this one came twice or took too long."""

    code = "dpop_proof_used"

    def __init__(self) -> None:
        super().__init__(
            "This DPoP proof was used already, or is too old by now; make another, with a jti of its own, for each "
            "request."
        )


class _Claims(msgspec.Struct, gc=False):
    """What a proof says, as far as it matters.

    Nobody else reads it, so which of two members of a name counts is no question.
    """

    jti: str
    htm: str
    htu: str
    iat: int | float
    ath: str = ""
    nonce: str = ""


_claims = msgspec.json.Decoder(_Claims).decode


class Proof(NamedTuple):
    """A proof that holds: of which key, and what tells it apart from others of that key."""

    jkt: str
    jti: str
    dated_s: int


class Sent(NamedTuple):
    """A request as proofs name it, with the DPoP ``headers`` that came.

    ``url`` is by the broker's own address, whatever the caller says that it is.
    """

    headers: Sequence[str]
    method: str
    url: str


class Proofs:
    """Checks proofs.

    The keys of those that held are remembered, so that the next proof of a key costs one check of a signature.  Only
    keys that a token is bound to are: anybody can make others, as many as they like.
    """

    def __init__(self, nonces: Nonces, clock: Timepiece) -> None:
        self._clock = clock
        self.remembered = Recent[str, ProofKey](_REMEMBERED)
        self.nonces = nonces

    def of_token(self, sent: Sent, token: str, jkt: str) -> Proof:
        """The proof that whoever sent ``token`` holds the key that it is bound to.

        Raises:
            ProofNeeded: none came. NonceNeeded. ProofRefused: it is no such proof.
        """
        try:
            if not sent.headers:
                raise ProofNeeded(_NEEDED)
            return self._checked(sent, dpop.token_hash(token), jkt)
        except ProofRefused as refused:
            raise self.refusing(refused) from None

    def of_request(self, sent: Sent) -> Proof:
        """The proof that comes with the request for a token, which will be bound to its key.

        Raises:
            NonceNeeded. ProofRefused: it is no such proof.
        """
        try:
            return self._checked(sent, None, None)
        except ProofRefused as refused:
            raise self.refusing(refused) from None

    def refusing(self, refused: ProofRefused) -> ProofRefused:
        """A refusal, with the nonce that the next proof has to hold."""
        refused.nonce = self.nonces.current()
        return refused

    def _checked(self, sent: Sent, token_hash: str | None, jkt: str | None) -> Proof:
        header, claims, signature = _split(sent.headers)
        key = self.remembered.get(header) or _key(header)
        if jkt is not None and key.jkt != jkt:
            raise ProofRefused("The DPoP proof is of another key than the one that this token is bound to.")
        said = _read(claims)
        self._refuse_undated(said)
        _refuse_other_request(said, sent)
        if token_hash is not None and said.ath != token_hash:
            raise ProofRefused("ath: isn't the base64url SHA-256 of the token that came along.")
        if not self.nonces.takes(said.nonce):
            raise NonceNeeded
        try:
            key.verify(base64url.decode(signature), f"{header}.{claims}".encode())
        except (InvalidSignature, ValueError):
            raise ProofRefused("The DPoP proof's signature isn't one of the key in its header.") from None
        if jkt is not None:
            self.remembered[header] = key
        return Proof(key.jkt, said.jti, int(said.iat))

    def _refuse_undated(self, said: _Claims) -> None:
        if not _JTI.fullmatch(said.jti):
            raise ProofRefused("jti: isn't 8 to 256 visible ASCII characters.")
        if not -AHEAD_S <= self._clock() / 1000 - said.iat <= PAST_S:
            raise ProofRefused(
                f"iat: is more than {PAST_S // 60} minutes ago or {AHEAD_S} seconds ahead by the broker's clock; check "
                "yours, and make a new proof for each request."
            )


def _split(proofs: Sequence[str]) -> tuple[str, str, str]:
    if len(proofs) != 1:
        raise ProofRefused("Send one DPoP header, with one proof in it.")
    found = _COMPACT.fullmatch(proofs[0]) if len(proofs[0]) <= _LENGTH_MAX else None
    if found is None:
        raise ProofRefused(f"The DPoP header holds no compact JWT of at most {_LENGTH_MAX} characters.")
    return found[1], found[2], found[3]


def _key(header: str) -> ProofKey:
    try:
        return keys.read(strict_json.read(base64url.decode(header), _HEADER_DEPTH))
    except ValueError:
        raise ProofRefused(
            "The DPoP proof's header has to hold typ dpop+jwt, an alg of "
            f"{_ALGORITHMS}, and as jwk the public key alone (P-256 or Ed25519)."
        ) from None


def _read(part: str) -> _Claims:
    try:
        return _claims(base64url.decode(part))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise ProofRefused("The DPoP proof has to say jti, htm and htu as texts, and iat as a number.") from None


def _refuse_other_request(said: _Claims, sent: Sent) -> None:
    if said.htm != sent.method:
        raise ProofRefused("htm: isn't the method of this request.")
    if said.htu != sent.url and _one_spelling(said.htu) != _one_spelling(sent.url):
        raise ProofRefused(f"htu: isn't the address of this request, {dpop.address(sent.url)[:300]}.")


def _one_spelling(url: str) -> tuple[str, str, int | None, str]:
    """An address without query and fragment.

    It is the same however its scheme, host and port are spelled (RFC 3986 §6.2).
    """
    try:
        parts = urlsplit(dpop.address(url))
        port = parts.port or _PORTS.get(parts.scheme)
        return parts.scheme, (parts.netloc.rpartition("@")[0] and "@") + (parts.hostname or ""), port, parts.path or "/"
    except ValueError:
        return "", "", None, url
