"""A job's identity: a key pair, and the assertions that it signs (RFC 7523).

The pair is made and kept on the job's side.
"""

from __future__ import annotations

import json
import secrets
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from joserfc import jwt
from joserfc.jwk import ECKey, KeyParameters, KeySet, OKPKey, RSAKey

from broker.base import closed

# RFC 9864 renames the algorithm to Ed25519. Deployed libraries still write and expect RFC 8037's name, EdDSA.
warnings.filterwarnings("ignore", message="EdDSA is deprecated via RFC 9864")

Algorithm = Literal["EdDSA", "ES256", "RS256"]
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# An assertion holds for so long before and after now: the broker's clock may be that far off this machine's.
_SPAN_S = 60


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
class Identity:
    """Who a job is and the key it proves that with."""

    broker: str
    client_id: str
    private_jwk: dict[str, Any]

    @property
    def public_jwk(self) -> dict[str, Any]:
        """The public half, to register."""
        return dict(public(self.private_jwk)["keys"][0])

    def assertion(self) -> str:
        """A fresh assertion for the broker's token endpoint; it is good once.

        Its form is RFC 7523 §2.2's, as RFC 7523bis has it.  It is dated a minute back and lasts for a minute.  So the
        broker's clock may be off this machine's by a minute and the broker's own leeway.
        """
        now = int(time.time())
        algorithm = str(self.private_jwk["alg"])
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.broker,
            "iat": now - _SPAN_S,
            "nbf": now - _SPAN_S,
            "exp": now + _SPAN_S,
            "jti": secrets.token_urlsafe(16),
        }
        header = {"typ": "client-authentication+jwt", "alg": algorithm, "kid": self.private_jwk["kid"]}
        keys = KeySet.import_key_set({"keys": [self.private_jwk]})
        return jwt.encode(header, claims, keys, algorithms=[algorithm])

    def write(self, path: Path) -> None:
        """Store the identity, readable by its owner only; refuses to replace a file."""
        closed.create(path, self._document())

    def replace(self, path: Path) -> None:
        """Store the identity in the place of the one that is there, in one step."""
        closed.replace(path, self._document())

    def _document(self) -> bytes:
        document = {"broker": self.broker, "client_id": self.client_id, "jwk": self.private_jwk}
        return json.dumps(document, indent=2).encode() + b"\n"


def read(path: Path, *, registered: bool = True) -> Identity:
    """The identity that :meth:`Identity.write` stored.

    Args:
        path: the file.
        registered: whether the job must have its id already, which the broker gives it.

    Raises:
        IdentityUnusable: missing, open to others, or not such a file.
    """
    try:
        document = json.loads(closed.read(path))
        jwk = document["jwk"]
        if (registered and not document["client_id"]) or not {"alg", "kid"} <= set(jwk):
            raise IdentityUnusable(f"{path}: is not complete; make another one with `broker workload add`.")
        return Identity(document["broker"], document["client_id"], jwk)
    except OSError as error:
        raise IdentityUnusable(f"{path}: {error.strerror}; make one with `broker workload add`.") from None
    except closed.OpenToOthers as error:
        raise IdentityUnusable(str(error)) from None
    except (ValueError, KeyError, TypeError):
        raise IdentityUnusable(f"{path}: is not an identity file; make one with `broker workload add`.") from None
