"""How the broker signs in to Vault: AppRole, JWT (Kubernetes among them), or a token that an agent keeps in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import hvac

from broker.keystore.keystore import KeystoreUnavailable


class Token(NamedTuple):
    """A Vault token; ``seconds`` it lasts (0: not told), and whether it can be renewed by whoever holds it."""

    value: str
    seconds: int
    renewable: bool

    def __repr__(self) -> str:
        return f"Token(***, {self.seconds}, {self.renewable})"


class Login(Protocol):
    """A way to a token."""

    def sign_in(self, client: hvac.Client) -> Token:
        """A fresh token; blocking.

        Raises:
            KeystoreUnavailable: a file of its own can't be read. hvac's and requests' errors: Vault's answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody else keeps fresh: Vault agent's file sink, or a mounted secret."""

    path: Path

    def sign_in(self, client: hvac.Client) -> Token:  # noqa: ARG002 - the token is its own credential
        """See :class:`Login`; the file is read again each time, and never renewed here."""
        return Token(_content(self.path, "BROKER_VAULT_TOKEN_FILE"), 0, renewable=False)


@dataclass(frozen=True, slots=True)
class AppRole:
    """A role id and the file with its secret id."""

    mount: str
    role_id: str
    secret_id_file: Path

    def sign_in(self, client: hvac.Client) -> Token:
        """See :class:`Login`."""
        secret_id = _content(self.secret_id_file, "BROKER_VAULT_SECRET_ID_FILE")
        return _token(client.auth.approle.login(self.role_id, secret_id, use_token=False, mount_point=self.mount))


@dataclass(frozen=True, slots=True)
class Jwt:
    """A role and the file with a JWT, such as a projected service account token, read again at every sign-in."""

    kind: Literal["jwt", "kubernetes"]
    mount: str
    role: str
    jwt_file: Path

    def sign_in(self, client: hvac.Client) -> Token:
        """See :class:`Login`."""
        method = client.auth.kubernetes if self.kind == "kubernetes" else client.auth.jwt
        jwt = _content(self.jwt_file, "BROKER_VAULT_JWT_FILE")
        if self.kind == "kubernetes":
            return _token(method.login(self.role, jwt, use_token=False, mount_point=self.mount))
        return _token(method.jwt_login(self.role, jwt, use_token=False, path=self.mount))


def _content(path: Path, setting: str) -> str:
    try:
        text = path.read_text().strip()
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
