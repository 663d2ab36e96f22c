"""A job's identity file: its broker, its name there, and the private key that proves it.

::

    {"broker": "https://…", "client_id": "wkl_…", "jwk": {…}}        JSON, UTF-8; members in any order
    jwk, EdDSA:  {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": …, "x": …, "d": …}
    jwk, ES256:  {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": …, "x": …, "y": …, "d": …}
    jwk, RS256:  {"kty": "RSA", "alg": "RS256", "kid": …, "n": …, "e": …, "d": …, "p": …, "q": …, …}

``broker`` is the address that the job calls, and the audience of what it signs.  ``jwk`` is RFC 7517's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

_MEMBERS: Final = {
    "EdDSA": ({"kty": "OKP", "crv": "Ed25519"}, ("x", "d")),
    "Ed25519": ({"kty": "OKP", "crv": "Ed25519"}, ("x", "d")),  # RFC 9864's name for it
    "ES256": ({"kty": "EC", "crv": "P-256"}, ("x", "y", "d")),
    "RS256": ({"kty": "RSA"}, ("n", "e", "d")),
}


class Unreadable(ValueError):
    """Not an identity file; the text says which member is wrong, and shows none."""


@dataclass(frozen=True, slots=True, repr=False)
class IdentityFile:
    """What such a file holds."""

    broker: str
    client_id: str
    jwk: Mapping[str, Any]

    def encode(self) -> bytes:
        """The file."""
        document = {"broker": self.broker, "client_id": self.client_id, "jwk": dict(self.jwk)}
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> IdentityFile:
        """What a file holds; members that are not known are left out.

        Raises:
            Unreadable: a member is missing or of another form.
        """
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            raise Unreadable("it is not JSON") from None
        if not isinstance(found, dict):
            raise Unreadable("it is not a JSON object")
        broker, client_id, jwk = (found.get(name) for name in ("broker", "client_id", "jwk"))
        if not isinstance(broker, str) or not is_address(broker):
            raise Unreadable("`broker` is not the address of one, such as https://keys.vendor.example")
        if not isinstance(client_id, str) or not client_id:
            raise Unreadable("`client_id` is missing")
        if not isinstance(jwk, dict):
            raise Unreadable("`jwk` is missing")
        _check(jwk)
        return cls(broker, client_id, jwk)


def is_address(text: str) -> bool:
    """Whether ``text`` is the address of a broker.

    It has http or https, a host, and no user, query or fragment.
    """
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not any(mark in text for mark in " \\@?#")
    return plain and has_host and parts.scheme in {"http", "https"}


def _check(jwk: Mapping[str, Any]) -> None:
    constants, numbers = _MEMBERS.get(str(jwk.get("alg")), ({}, ()))
    if not numbers:
        raise Unreadable("`jwk` has no `alg` of EdDSA, ES256 and RS256")
    for name, value in constants.items():
        if jwk.get(name) != value:
            raise Unreadable(f"`jwk` has another `{name}` than {value}, which its `alg` needs")
    for name in ("kid", *numbers):
        if not isinstance(jwk.get(name), str) or not jwk[name]:
            raise Unreadable(f"`jwk` has no `{name}`" + (", so it is not a private key" if name == "d" else ""))
