"""Where in a request a key goes, and how it is written there."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from broker.providers.schema import HEADER_VALUE, HEADERS_OF_THE_CONNECTION, Fault, HeaderName, Part, form

HOLE = "{key}"


@dataclass(frozen=True, slots=True)
class KeyPlacement:
    """A key where it goes in a request; its values don't print."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class HeaderAuth(Part):
    """The key in a request header."""

    placement: Literal["header"]
    name: HeaderName
    format: str = HOLE

    def faults(self) -> Iterator[Fault]:
        if self.name.lower() in HEADERS_OF_THE_CONNECTION:
            yield Fault("name", "is a header of the connection; write for example X-API-Key")
        yield from _faults_of_text("format", self.format)
        yield from _faults_of_holes("format", self.format.count(HOLE), 'format = "Bearer {key}"')

    @property
    def header(self) -> str:
        """The header that carries the key; empty if none does."""
        return self.name

    def carried(self, value: str) -> str:
        """What stands where the key goes in a header's ``value``; empty if it isn't of this form."""
        before, _, after = self.format.partition(HOLE)
        inside = value.startswith(before) and value.endswith(after)
        return value[len(before) : len(value) - len(after)].strip() if inside else ""

    def place(self, key: str) -> KeyPlacement:
        """``key`` in its header."""
        return KeyPlacement(headers=((self.name, self.format.replace(HOLE, key)),))


class QueryAuth(Part):
    """The key in a query parameter."""

    placement: Literal["query"]
    name: Annotated[str, form(r"[A-Za-z0-9_.-]{1,100}", 'is not a parameter name; write for example "api_key"')]

    @property
    def header(self) -> str:
        """The header that carries the key; empty if none does."""
        return ""

    def carried(self, _value: str) -> str:
        """Empty: no header carries the key."""
        return ""

    def place(self, key: str) -> KeyPlacement:
        """``key`` in its parameter, not yet percent-encoded."""
        return KeyPlacement(query=((self.name, key),))


class BasicAuth(Part):
    """The key as user name or password (RFC 7617)."""

    placement: Literal["basic"]
    username: str
    password: str = ""

    def faults(self) -> Iterator[Fault]:
        yield from _faults_of_text("username", self.username)
        yield from _faults_of_text("password", self.password)
        # Counted apart: "{ke" and "y}" must not add up to a hole that nothing fills.
        holes = self.username.count(HOLE) + self.password.count(HOLE)
        yield from _faults_of_holes("username", holes, 'username = "{key}"', " in username and password together")
        if ":" in self.username:
            yield Fault("username", "must not hold a colon, which ends the user name (RFC 7617); leave it out")

    @property
    def header(self) -> str:
        """The header that carries the key; empty if none does."""
        return "Authorization"

    def carried(self, value: str) -> str:
        """What stands where the key goes in an Authorization header's ``value``.

        Empty if it isn't Basic.
        """
        scheme, _, pair = value.partition(" ")
        try:
            username, _, password = b64decode(pair).decode().partition(":")
        except ValueError:
            return ""
        if scheme.lower() != "basic":
            return ""
        return username if HOLE in self.username else password

    def place(self, key: str) -> KeyPlacement:
        """``key`` in the Authorization header."""
        pair = f"{self.username.replace(HOLE, key)}:{self.password.replace(HOLE, key)}"
        return KeyPlacement(headers=(("Authorization", "Basic " + b64encode(pair.encode()).decode()),))


Auth = Annotated[HeaderAuth | QueryAuth | BasicAuth, Field(discriminator="placement")]


def _faults_of_text(name: str, value: str) -> Iterator[Fault]:
    if value and not HEADER_VALUE.fullmatch(value):
        yield Fault(name, "holds characters that HTTP can't carry; use visible ASCII, without spaces at its ends")
    rest = value.replace(HOLE, "")
    if "{" in rest or "}" in rest:
        yield Fault(name, f"has a brace that is not of {HOLE}, the one hole there is; remove it")


def _faults_of_holes(name: str, holes: int, example: str, where: str = "") -> Iterator[Fault]:
    if holes != 1:
        yield Fault(name, f"needs exactly one {HOLE} hole{where}, has {holes}; write for example {example}")
