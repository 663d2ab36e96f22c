"""A job's identity: a key pair, and the assertions that it signs (RFC 7523).

The pair is made and kept on the job's side.  A job that has none is :mod:`broker.client.keyless`'s.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeyParameters, KeySet, OKPKey, RSAKey

from broker.base import closed, variables
from broker.client.keyless import Addressed, KeylessIdentity
from broker.client.platform import named
from broker.formats import assertion as assertions
from broker.formats.identity_file import IdentityFile, Unreadable, is_address

# RFC 9864 renames the algorithm to Ed25519. Deployed libraries still write and expect RFC 8037's name, EdDSA.
warnings.filterwarnings("ignore", message="EdDSA is deprecated via RFC 9864")

Algorithm = Literal["EdDSA", "ES256", "RS256"]
# The name of a job that the broker hasn't given one yet: its key pair is kept before it is registered.
UNREGISTERED = "unregistered"


class IdentityUnusable(Exception):
    """The identity file can't be used; the text names the fix."""


def generate(algorithm: Algorithm = "EdDSA") -> dict[str, Any]:
    """A fresh private key as a JWK (RFC 7517) that names its algorithm."""
    parameters: KeyParameters = {"use": "sig", "alg": algorithm}
    key: OKPKey | ECKey | RSAKey
    if algorithm == "EdDSA":
        key = OKPKey.generate_key("Ed25519", parameters, auto_kid=True)
    elif algorithm == "ES256":
        key = ECKey.generate_key("P-256", parameters, auto_kid=True)
    else:
        key = RSAKey.generate_key(3072, parameters, auto_kid=True)
    return dict(key.as_dict(private=True))


def public(private_jwk: dict[str, Any]) -> dict[str, Any]:
    """The JWK Set to register: the public half only."""
    key = KeySet.import_key_set({"keys": [private_jwk]}).keys[0]
    return {"keys": [dict(key.as_dict(private=False))]}


@dataclass(frozen=True, slots=True, repr=False)
class Identity(Addressed):
    """Who a job is and the key it proves that with.

    ``broker`` is both the address that the job calls and the only audience of what it signs, so what was sent to one
    address is worth nothing at another.  ``moved_from`` is the file's address where ``BROKER_URL`` named this one.
    """

    broker: str
    client_id: str
    private_jwk: dict[str, Any]
    moved_from: str = ""

    @property
    def public_jwk(self) -> dict[str, Any]:
        """The public half, to register."""
        return dict(public(self.private_jwk)["keys"][0])

    def proof(self) -> dict[str, str]:
        """What the token endpoint takes, once, for who this is."""
        return {"client_assertion_type": assertions.ASSERTION_TYPE, "client_assertion": self.assertion()}

    def assertion(self) -> str:
        """A fresh assertion for the broker's token endpoint; it is good once.

        It is dated a minute back and lasts for a minute.  So the broker's clock may be off this machine's by a minute
        and the broker's own leeway.
        """
        algorithm = str(self.private_jwk["alg"])
        header = assertions.header(algorithm, str(self.private_jwk["kid"]))
        claims = assertions.claims(self.client_id, self.broker, now=int(time.time()), jti=secrets.token_urlsafe(16))
        keys = KeySet.import_key_set({"keys": [self.private_jwk]})
        return jwt.encode(header, claims, keys, algorithms=[algorithm])

    def write(self, path: Path) -> None:
        """Store the identity, readable by its owner only; refuses to replace a file."""
        closed.create(path, self._document())

    def replace(self, path: Path) -> None:
        """Store the identity in the place of the one that is there, in one step."""
        closed.replace(path, self._document())

    def _document(self) -> bytes:
        return IdentityFile(self.broker, self.client_id, self.private_jwk).encode()


def read(path: Path, *, broker: str | None = None, registered: bool = True) -> Identity | KeylessIdentity:
    """The identity that :meth:`Identity.write` stored, or that of a file without a key.

    Args:
        path: the file.
        broker: where the broker is now, if the file names an older address.
        registered: whether the job must have its id already, which the broker gives it.

    Raises:
        IdentityUnusable: missing, open to others, or not such a file; or ``broker`` is no address.
    """
    found = _found(path)
    if registered and found.client_id == UNREGISTERED:
        raise IdentityUnusable(f"{path}: its job isn't registered yet; run the same `broker workload add` again.")
    theirs = found.broker.rstrip("/")
    if broker is None or broker.rstrip("/") == theirs:
        return _identity(found, theirs)
    if not is_address(broker):
        raise IdentityUnusable(
            f"{variables.URL}: is not the address of a broker: that begins with https:// (http:// on this machine), "
            "has no user, query or fragment, and is the one that the broker calls its own (BROKER_PUBLIC_URL there)."
        )
    if found.audience:  # a token for it is as good at the address that the file names
        raise IdentityUnusable(
            f"{path}: names an `audience`, and {variables.URL} another broker than the file, which would get a token "
            "for that. Change the file's `broker`."
        )
    return _identity(found, broker.rstrip("/"), moved_from=theirs)


def _found(path: Path) -> IdentityFile:
    """What the file holds; its key is one."""
    try:
        found = IdentityFile.decode(_content(path))
        if found.token is None:
            KeySet.import_key_set({"keys": [dict(found.jwk)]})
    except OSError as error:
        raise IdentityUnusable(f"{path}: {error.strerror}; make one with `broker workload add`.") from None
    except closed.OpenToOthers as error:
        raise IdentityUnusable(str(error)) from None
    except Unreadable as error:
        raise IdentityUnusable(
            f"{path}: is not an identity file: {error}; make one with `broker workload add`."
        ) from None
    except (JoseError, ValueError):  # the text may show a part of the key
        raise IdentityUnusable(
            f"{path}: the numbers in `jwk` are no key; make another one with `broker workload add`."
        ) from None
    return found


def _content(path: Path) -> bytes:
    """What the file holds.

    One without a key holds no secret, so others may read it, but not write to it.
    """
    try:
        return closed.read(path)
    except closed.OpenToOthers:
        content = path.read_bytes()
        with suppress(Unreadable):
            if IdentityFile.decode(content).token is not None and not path.stat().st_mode & stat.S_IWOTH:
                return content
        raise


def _identity(found: IdentityFile, broker: str, *, moved_from: str = "") -> Identity | KeylessIdentity:
    if found.token is None:
        return Identity(broker, found.client_id, dict(found.jwk), moved_from)
    return KeylessIdentity(broker, found.client_id, named.source(found.token), found.audience, moved_from)


def from_environment(environment: Mapping[str, str] | None = None) -> Identity | KeylessIdentity:
    """The identity in the file that ``BROKER_IDENTITY`` names, at ``BROKER_URL`` if that is set.

    Raises:
        IdentityUnusable: as :func:`read`, or no file is named.
    """
    given = os.environ if environment is None else environment
    if not given.get(variables.IDENTITY):
        raise IdentityUnusable(f"{variables.IDENTITY}: is not set; it names the file from `broker workload add`.")
    return read(Path(given[variables.IDENTITY]), broker=given.get(variables.URL) or None)
