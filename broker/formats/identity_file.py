"""A job's identity file: its broker, its name there, and what proves it.

That is a private key, or a token of the job's platform.

::

    {"broker": "https://…", "client_id": "wkl_…", "jwk": {…}}        JSON, UTF-8; members in any order
    {"broker": "https://…", "client_id": "wkl_…", "token": {SOURCE: DETAIL}, "audience": "…"}    without a key
    jwk, EdDSA:  {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": …, "x": …, "d": …}
    jwk, ES256:  {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": …, "x": …, "y": …, "d": …}
    jwk, RS256:  {"kty": "RSA", "alg": "RS256", "kid": …, "n": …, "e": …, "d": …, "p": …, "q": …, …}
    token:       {"file": PATH} {"env": NAME} {"spiffe-file": PATH} {"github": true} {"gcp": true}
                 {"azure": true or CLIENT_ID} {"aws": true or REGION}

``broker`` is the address that the job calls, and the audience of what it signs.  ``jwk`` is RFC 7517's.  ``token`` says
where the platform's token is, which is read again each time.  ``audience`` is whom that token is for; left out, it is
``broker``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from urllib.parse import urlsplit

_MEMBERS: Final = {
    "EdDSA": ({"kty": "OKP", "crv": "Ed25519"}, ("x", "d")),
    "Ed25519": ({"kty": "OKP", "crv": "Ed25519"}, ("x", "d")),  # RFC 9864's name for it
    "ES256": ({"kty": "EC", "crv": "P-256"}, ("x", "y", "d")),
    "RS256": ({"kty": "RSA"}, ("n", "e", "d")),
}
_AUDIENCE_MAX: Final = 512


class Detail(Enum):
    """Whether a source of tokens has a detail beside its name."""

    NEEDED = "needed"
    OPTIONAL = "optional"
    NONE = "none"


# Where a platform's token can come from.
SOURCES: Final = {
    "file": Detail.NEEDED,  # its path
    "env": Detail.NEEDED,  # the variable's name
    "spiffe-file": Detail.NEEDED,  # the path of what spiffe-helper writes
    "github": Detail.NONE,
    "gcp": Detail.NONE,
    "azure": Detail.OPTIONAL,  # the client id of one of several managed identities
    "aws": Detail.OPTIONAL,  # the region whose token service is asked
}


class Unreadable(ValueError):
    """Not an identity file; the text says which member is wrong, and shows none."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where a job's platform has its token."""

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.detail}" if self.detail else self.kind

    @classmethod
    def of(cls, kind: str, detail: str = "") -> TokenSource:
        """The source of that name.

        Raises:
            Unreadable: there is none, or it has a detail that it doesn't take, or lacks the one that it needs.
        """
        takes = SOURCES.get(kind)
        if takes is None:
            raise Unreadable(f"the source of the token is none of {', '.join(SOURCES)}")
        if not detail.isprintable() or (takes is Detail.NEEDED and not detail):
            raise Unreadable(f"the source `{kind}` needs {'the name of a variable' if kind == 'env' else 'a path'}")
        if takes is Detail.NONE and detail:
            raise Unreadable(f"the source `{kind}` takes nothing beside its name")
        return cls(kind, detail)


@dataclass(frozen=True, slots=True, repr=False)
class IdentityFile:
    """What such a file holds: ``jwk`` is empty where ``token`` is there."""

    broker: str
    client_id: str
    jwk: Mapping[str, Any] = field(default_factory=dict)
    token: TokenSource | None = None
    audience: str = ""

    def encode(self) -> bytes:
        """The file."""
        document: dict[str, Any] = {"broker": self.broker, "client_id": self.client_id}
        if self.token is None:
            document["jwk"] = dict(self.jwk)
        else:
            document["token"] = {self.token.kind: self.token.detail or True}
            document |= {"audience": self.audience} if self.audience else {}
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
        if "token" in found:
            return cls(broker, client_id, token=_source(found), audience=_audience(found))
        if not isinstance(jwk, dict):
            raise Unreadable("`jwk` is missing, and so is `token`")
        _check(jwk)
        return cls(broker, client_id, jwk)


def is_audience(text: str) -> bool:
    """Whether ``text`` can be whom a token is for."""
    return 0 < len(text) <= _AUDIENCE_MAX and text.isascii() and text.isprintable()


def _source(found: Mapping[str, Any]) -> TokenSource:
    if "jwk" in found:
        raise Unreadable("`jwk` and `token` are both there: leave one out")
    token = found["token"]
    if not isinstance(token, dict) or len(token) != 1:
        raise Unreadable('`token` does not name one source, such as {"file": "/var/run/secrets/keybroker/token"}')
    kind, detail = next(iter(token.items()))
    if detail is not True and not isinstance(detail, str):
        raise Unreadable("what `token` names has neither a text nor `true` beside it")
    return TokenSource.of(kind, "" if detail is True else detail)


def _audience(found: Mapping[str, Any]) -> str:
    audience = found.get("audience", "")
    if not isinstance(audience, str) or (audience and not is_audience(audience)):
        raise Unreadable("`audience` is no text of ASCII characters")
    return audience


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
