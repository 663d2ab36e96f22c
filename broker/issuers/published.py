"""An issuer's published keys that may verify, and which could have signed a token.

A key at a time is given to the library.  One key that it can't read would cost it the whole set, and it would take
keys that are weak, secret, or for something else.  Pure.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from broker.formats import base64url

FAMILIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",
}
_KEYS_MAX: Final = 100
_TEXT_MAX: Final = 512
_RSA_BITS: Final = range(2048, 8192 + 1)
# Parts of private and of symmetric keys (RFC 7518 §6): whoever sent one gave it away.
SECRET: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# What a SPIFFE bundle says that its keys for JWT-SVIDs are for (SPIFFE Trust Domain and Bundle §4.2).
SVID: Final = "jwt-svid"
# So many keys are tried, those of one name or of a mesh's token that names none: no token makes more work than that.
_TRIED_MAX: Final = 4
_UNNAMED_MAX: Final = 10

Public = RSAKey | ECKey | OKPKey


class NoKeys(ValueError):
    """Not a set of keys of which one may verify."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key that verifies.

    ``family`` is the kind of key, by :data:`FAMILIES`.  ``kid`` and ``alg`` are empty if it doesn't say them.
    """

    kid: str
    family: str
    alg: str
    public: Public = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Published:
    """The keys of a set that may verify, and how many others there were, by why they may not.

    With ``unnamed``, a token may name no key though there are several.
    """

    keys: tuple[Key, ...]
    dropped: Mapping[str, int]
    unnamed: bool = False

    @property
    def names(self) -> Sequence[str]:
        """What the keys are called, empty for one that isn't."""
        return [key.kid for key in self.keys]

    @property
    def digest(self) -> str:
        """A short name of the keys, in whatever order they are."""
        prints = sorted(f"{key.kid} {key.public.thumbprint()}" for key in self.keys)
        return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]

    def candidates(self, kid: object, algorithm: str) -> Sequence[Key]:
        """The keys that could have signed with ``algorithm``.

        A token that names no key is one of an issuer that has a single one, or of a mesh.
        """
        family = FAMILIES.get(algorithm)
        fit = [key for key in self.keys if key.family == family and key.alg in {"", algorithm}]
        if kid is None:
            return fit[:_UNNAMED_MAX] if self.unnamed or len(fit) == 1 else ()
        return [key for key in fit if key.kid == kid][:_TRIED_MAX]


def read(document: Mapping[str, Any], use: str = "sig") -> Published:
    """The keys of a JWK Set (RFC 7517 §5) that are for ``use``.

    Raises:
        NoKeys: it is none, has more than a hundred keys, or none that may verify.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _KEYS_MAX:
        raise NoKeys
    keys, dropped = [], Counter[str]()
    for one in listed:
        key = _key(one, use)
        if isinstance(key, Key):
            keys.append(key)
        else:
            dropped[key] += 1
    if not keys:
        raise NoKeys
    return Published(tuple(keys), dict(dropped), unnamed=use == SVID)


def _key(jwk: object, use: str) -> Key | str:
    """The key, or why it is dropped."""
    if not isinstance(jwk, dict):
        return "unreadable"
    if not SECRET.isdisjoint(jwk):
        return "secret"
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != use or not isinstance(operations, list) or "verify" not in operations:
        return "use"
    kid, alg = jwk.get("kid", ""), jwk.get("alg", "")
    if not isinstance(kid, str) or not isinstance(alg, str) or len(kid) > _TEXT_MAX:
        return "unreadable"
    try:
        family, public = _public(jwk)
    except (JoseError, ValueError, TypeError, KeyError):
        return "unreadable"
    if isinstance(public, RSAKey) and public.raw_value.key_size not in _RSA_BITS:
        return "weak"
    if alg and FAMILIES.get(alg) != family:
        return "kind"
    return Key(kid, family, alg, public)


def _public(jwk: Mapping[str, Any]) -> tuple[str, Public]:
    match jwk.get("kty"), jwk.get("crv"):
        case "RSA", _:
            if len(base64url.decode(jwk["n"])) * 8 > _RSA_BITS.stop + 7:
                raise ValueError
            return "RSA", RSAKey.import_key(_of(jwk, "kty", "n", "e"))
        case "EC", "P-256" | "P-384" | "P-521" as curve:
            return curve, ECKey.import_key(_of(jwk, "kty", "crv", "x", "y"))
        case "OKP", "Ed25519":
            return "Ed25519", OKPKey.import_key(_of(jwk, "kty", "crv", "x"))
    raise ValueError


def _of(jwk: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What makes the key, without what else it says of itself."""
    return {name: jwk[name] for name in names}
