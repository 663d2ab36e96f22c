"""How the broker signs in to Vault.

By AppRole, by JWT (Kubernetes among them), or with a token that an agent keeps in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import hvac
from hvac import exceptions as refused

from broker.base import closed
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.faults import unavailable


class Token(NamedTuple):
    """A Vault token, and whether whoever holds it can renew it.

    It lasts for ``seconds`` (0: not told).
    """

    value: str
    seconds: int
    renewable: bool

    def __repr__(self) -> str:
        return f"Token(***, {self.seconds}, {self.renewable})"


class SecretIdRefused(KeystoreUnavailable):
    """Vault says that the secret id is wrong, and counts how often it was told so."""

    def __init__(self) -> None:
        super().__init__(unavailable("token").public, cause="token", retry_after=2)


class Login(Protocol):
    """A way to a token."""

    def credential(self) -> str:
        """What the file holds that the broker signs in with, read again each time.

        Raises:
            KeystoreUnavailable: it can't be read.
        """
        ...

    def sign_in(self, client: hvac.Client, credential: str) -> Token:
        """A fresh token.  Blocks.

        Raises:
            SecretIdRefused; hvac's and requests' errors: Vault's answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody else keeps fresh: Vault agent's file sink, or a mounted secret."""

    path: Path

    def credential(self) -> str:
        return _content(self.path, "BROKER_VAULT_TOKEN_FILE", closed.read)

    def sign_in(self, client: hvac.Client, credential: str) -> Token:  # noqa: ARG002 - needs no call
        """The token itself: it is its own credential, and never renewed here."""
        return Token(credential, 0, renewable=False)


@dataclass(frozen=True, slots=True)
class AppRole:
    """A role id and the file with its secret id."""

    mount: str
    role_id: str
    secret_id_file: Path

    def credential(self) -> str:
        return _content(self.secret_id_file, "BROKER_VAULT_SECRET_ID_FILE", closed.read)

    def sign_in(self, client: hvac.Client, credential: str) -> Token:
        try:
            answer = client.auth.approle.login(self.role_id, credential, use_token=False, mount_point=self.mount)
        except refused.InvalidRequest:
            raise SecretIdRefused from None
        return _token(answer)


@dataclass(frozen=True, slots=True)
class Jwt:
    """A role and the file with a JWT, such as a projected service account token."""

    kind: Literal["jwt", "kubernetes"]
    mount: str
    role: str
    jwt_file: Path

    def credential(self) -> str:
        # Whoever mounts it decides on its mode (kubelet: 0640 with an fsGroup, 0644 without), and it expires soon.
        return _content(self.jwt_file, "BROKER_VAULT_JWT_FILE", Path.read_bytes)

    def sign_in(self, client: hvac.Client, credential: str) -> Token:
        if self.kind == "kubernetes":
            method = client.auth.kubernetes
            return _token(method.login(self.role, credential, use_token=False, mount_point=self.mount))
        return _token(client.auth.jwt.jwt_login(self.role, credential, use_token=False, path=self.mount))


def _content(path: Path, setting: str, read: Callable[[Path], bytes]) -> str:
    try:
        text = read(path).decode().strip()
    except closed.OpenToOthers:  # the text would name the path, to jobs as well
        raise KeystoreUnavailable(
            f"The broker can't sign in to Vault: others can read the file that {setting} names, or write to it; it is "
            "to have mode 0600 or 0400, or to belong to root and have 0440.",
            cause="credentials_open",
        ) from None
    except (OSError, ValueError):
        text = ""
    if not text:
        raise KeystoreUnavailable(
            f"The broker can't sign in to Vault: the file that {setting} names is missing or empty.",
            cause="credentials_missing",
        )
    return text


def _token(answer: dict[str, dict[str, str | int | bool]]) -> Token:
    auth = answer["auth"]
    return Token(str(auth["client_token"]), int(auth["lease_duration"]), renewable=bool(auth["renewable"]))
