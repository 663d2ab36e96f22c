"""OpenID providers that people sign in by, as the file of BROKER_SIGN_IN_FILE has them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.base import closed
from broker.base.wording import wording
from broker.identity.principal import Role
from broker.issuers import declared
from broker.issuers.declared import Declared
from broker.issuers.published import FAMILIES
from broker.providers import authority

_ID: Final = r"^[a-z0-9][a-z0-9-]{0,40}$"
_CLAIM: Final = r"^[!-~]{1,200}$"
# What the broker writes into an authorization URL itself.
_OWN: Final = frozenset(
    {
        "acr_values",
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "max_age",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "response_mode",
        "response_type",
        "scope",
        "state",
    }
)
Text = Annotated[str, Field(min_length=1, max_length=200)]


class SignInUnusable(Exception):
    """The file is wrong; the text names file, field and fix, a line each."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mapped(_Part):
    """What one exact value of the claim gives.

    Without ``organizations`` it is for every customer.
    """

    value: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    organizations: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None


class Provider(_Part):
    """One provider.

    ``hosts``, ``private``, ``ca_file`` and ``algorithms`` are as for any issuer.  With ``recheck`` the broker asks it
    every few minutes whether whoever signed in still may be here.
    """

    id: Annotated[str, Field(pattern=_ID)]
    title: Text
    issuer: Text
    client_id: Text
    client_secret_file: Path | None = None
    scopes: tuple[Annotated[str, Field(pattern=_CLAIM)], ...] = ("openid", "profile", "offline_access")
    roles_claim: Annotated[str, Field(pattern=_CLAIM)]
    name_claim: Annotated[str, Field(pattern=_CLAIM)] = "preferred_username"
    acr_values: tuple[Annotated[str, Field(pattern=_CLAIM)], ...] = ()
    recheck: bool = True
    parameters: Mapping[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], Text] = Field(default_factory=dict)
    algorithms: Annotated[tuple[str, ...], Field(min_length=1)] = ("RS256",)
    hosts: tuple[Text, ...] = ()
    private: bool = False
    ca_file: Path | None = None
    role: Annotated[tuple[Mapped, ...], Field(min_length=1)]

    @property
    def declared(self) -> Declared:
        """The provider as an issuer."""
        tls = authority.read(self.ca_file).tls if self.ca_file else None
        return Declared(self.issuer, frozenset(self.hosts), self.private, tls, self.algorithms)

    def secret(self) -> str | None:
        """The client's secret, as the file has it now; None of a public client.

        Raises:
            OSError, OpenToOthers: the file can't be read, or is open to others. ValueError: it is empty, or no text.
        """
        if self.client_secret_file is None:
            return None
        found = closed.read(self.client_secret_file).decode("ascii").strip()
        if not found:
            raise ValueError("is empty; write the client's secret into it")
        return found

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with it beyond its form: field and fix."""
        if why := declared.fault(self.issuer, private=self.private):
            yield "issuer", why
        if "openid" not in self.scopes:
            yield "scopes", 'must hold "openid"'
        if unknown := [one for one in self.algorithms if one not in FAMILIES]:
            yield "algorithms", f"{unknown[0]} is none of {', '.join(FAMILIES)}"
        if taken := sorted(_OWN.intersection(self.parameters)):
            yield "parameters", f"{taken[0]} is the broker's to write; leave it out"
        if len({one.value for one in self.role}) < len(self.role):
            yield "role", "has one value twice; put what it gives into one table"
        for field, read in (("client_secret_file", self.secret), ("ca_file", lambda: self.declared)):
            try:
                read()
            except OSError as error:
                yield field, f"{error.strerror}; name a file that the broker can read"
            except (closed.OpenToOthers, ValueError) as error:
                yield field, str(error)


class _Document(_Part):
    provider: Annotated[tuple[Provider, ...], Field(min_length=1)]


def load(file: Path | None) -> Sequence[Provider]:
    """The declared providers; none without a file.

    Raises:
        SignInUnusable: names the file, the field, and the fix.
    """
    if file is None:
        return ()
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        found = _Document.model_validate(_beside(document, file.parent)).provider
    except OSError as error:
        raise SignInUnusable(f"{file}: {error.strerror}; name a file that can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SignInUnusable(f"{file}: is not TOML: {error}") from None
    except ValidationError as error:
        lines = (f"{file}: {_where(item['loc'])}: {wording(item)}" for item in error.errors())
        raise SignInUnusable("\n".join(lines)) from None
    wrong = [f"{file}: {one.id}: {field}: {fix}" for one in found for field, fix in one.faults()]
    for field in ("id", "issuer"):
        values = [getattr(one, field) for one in found]
        wrong += [f"{file}: {one}: two providers have this {field}" for one in {*values} if values.count(one) > 1]
    if wrong:
        raise SignInUnusable("\n".join(wrong))
    return found


def _beside(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document, whose files are named relative to its own folder."""
    listed = document.get("provider")
    for one in listed if isinstance(listed, list) else []:
        for field in ("client_secret_file", "ca_file"):
            if isinstance(one, dict) and isinstance(one.get(field), str) and one[field]:
                one[field] = str(folder / one[field])
    return document


def _where(location: tuple[int | str, ...]) -> str:
    parts = [f"number {part + 1}" if isinstance(part, int) else part for part in location]
    return ": ".join(parts) or "file"
