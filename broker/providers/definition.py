"""What a provider file declares.  Pure.

It is checked so strictly that nothing in it can surprise later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from broker.base.errors import Invalid
from broker.base.secret import Secret
from broker.providers.auth import HOLE, Auth, BasicAuth, KeyPlacement
from broker.providers.host import Host
from broker.providers.key_api import Member, Rotate
from broker.providers.pattern import Shape, shape
from broker.providers.retry import Retry
from broker.providers.rule import Rule, faults_of_patterns
from broker.providers.schema import (
    HEADER_NAME,
    HEADER_VALUE,
    HEADERS_OF_THE_CONNECTION,
    Fault,
    Flag,
    HttpsUrl,
    Line,
    Part,
    Path,
    Slug,
    Statuses,
    Whole,
    form,
)

__all__ = ["Definition", "KeyPlacement", "Retry"]

ScanName = Annotated[
    str, form(r"[a-z0-9][a-z0-9_.-]{2,39}", 'write what stands before a key, in lower case, for example "dd_api_key"')
]
_VISIBLE = re.compile(r"[!-~]+")


class Key(Part):
    """What a key looks like.

    In files it is found after the provider's name, or after one of ``scan_names``.
    """

    label: Line
    pattern: str
    example: Line
    scan_names: tuple[ScanName, ...] = ()

    def faults(self) -> Iterator[Fault]:
        try:
            shape(self.pattern)
        except ValueError as error:
            yield Fault("pattern", str(error))
            return
        if not re.fullmatch(self.pattern, self.example):
            yield Fault("example", "doesn't match pattern; write one that does and is no real key")
        elif max(Counter(self.example).values()) * 2 < len(self.example):
            yield Fault("example", 'could be a real key; fill it with one repeated character, as in "rc_live_xxxx…"')

    @property
    def shape(self) -> Shape:
        """The characters that a key consists of."""
        return shape(self.pattern)

    @property
    def min_length(self) -> int:
        """How long the shortest key is."""
        return self.shape.shortest

    @property
    def max_length(self) -> int:
        """How long the longest key is."""
        return self.shape.longest


class Verify(Part):
    """The request that tells whether a key works, asked again every so many hours.

    An outage isn't a bad key.
    """

    method: Literal["GET", "POST", "HEAD"] = "GET"
    path: Path
    good: Statuses = (200,)
    bad_key: Statuses = (401,)
    every_hours: Annotated[Whole, Field(ge=1, le=720)] = 24

    def faults(self) -> Iterator[Fault]:
        if both := sorted(set(self.good) & set(self.bad_key)):
            yield Fault("bad_key", f"shares {both} with good; a status means one of the two")
        if outage := sorted(status for status in self.bad_key if status >= 500 or status in {408, 429}):
            yield Fault("bad_key", f"holds {outage}, which says nothing about the key; remove it")


class Identity(Part):
    """Where the ids stand, in the verification answer, that only this organization has.

    Such as ``[].id``.  ``next`` leads to what the answer holds if the list goes on in another one.
    """

    path: Annotated[
        str,
        form(
            r"(?=.{1,200}$)(?:\[\]|[A-Za-z_][A-Za-z0-9_-]*)(?:\[\]|\.[A-Za-z_][A-Za-z0-9_-]*)*",
            'is not a path into JSON; write for example "[].id" or "data[].organization.id"',
        ),
    ]
    next: Member | None = None


class Rotation(Part):
    """How often the key has to be replaced, and what that does to the old one."""

    interval_days: Annotated[Whole, Field(ge=1, le=3650)]
    new_key_revokes_old: Flag
    revoked_by: Line


Language = Annotated[
    str, form(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*", 'is no language; write its tag, for example "de" or "pt-BR"')
]


class AdminWords(Part):
    """The same as :class:`Admin` says, in another language; what is left out is said in English."""

    role: Line | None = None
    where: Annotated[tuple[Line, ...], Field(min_length=1)] | None = None
    revoke: Annotated[tuple[Line, ...], Field(min_length=1)] | None = None
    key_label: Line | None = None


class Admin(Part):
    """For the customer's Organization Admin, in plain words."""

    role: Line
    where: Annotated[tuple[Line, ...], Field(min_length=1)]
    revoke: Annotated[tuple[Line, ...], Field(min_length=1)]
    link: HttpsUrl | None = None
    translations: dict[Language, AdminWords] = Field(default_factory=dict)


class Definition(Part):
    """One upstream.

    ``encoded_slashes`` are the paths in whose ``*`` a caller may write ``%2F``, as in GitLab's ids of projects.
    """

    id: Slug
    version: Annotated[Whole, Field(ge=1)]
    title: Line
    docs: HttpsUrl
    host: Host
    auth: Auth
    key: Key
    verify: Verify
    admin: Admin
    identity: Identity | None = None
    encoded_slashes: Annotated[tuple[Path, ...], Field(max_length=50)] = ()
    presets: dict[Slug, Rule] = Field(default_factory=dict)
    retry: Retry = Retry()
    rotation: Rotation | None = None
    rotate: Rotate | None = None
    required_headers: dict[str, str] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        if isinstance(self.auth, BasicAuth) and HOLE in self.auth.username and ":" in self.key.shape.alphabet:
            yield Fault("key.pattern", "accepts ':', which would end the user name; leave it out (RFC 7617)")
        if self.identity and self.verify.method == "HEAD":
            yield Fault("verify.method", "HEAD has no answer for identity.path to read; write GET")
        yield from faults_of_patterns("encoded_slashes", self.encoded_slashes)
        for path in self.encoded_slashes:
            if "*" not in path.replace("**", "") or "%" in path:
                yield Fault(
                    "encoded_slashes", f'{path!r} has no * for what may hold %2F; write for example "/projects/*"'
                )
        yield from _faults_of_headers(self.required_headers, self.auth.header.lower())

    def matches(self, key: str) -> bool:
        """Whether ``key`` has the form of this provider's keys."""
        return re.fullmatch(self.key.pattern, key) is not None

    def url(self, variables: Mapping[str, str]) -> str:
        """The base URL with the customer's host parts filled in.

        Raises:
            Invalid: a part is missing, unknown, or could name another host.
        """
        if unknown := sorted(set(variables) - set(self.host.variables)):
            raise Invalid(f"variables.{unknown[0]}: {self.title} has no such host part; leave it out.")
        for name, variable in self.host.variables.items():
            if not variable.accepts(variables.get(name, "")):
                wanted = (
                    f"one of {', '.join(variable.choices)}" if variable.choices else "one lower-case host name part"
                )
                raise Invalid(f"variables.{name}: {variable.title} must be {wanted}.")
        return self.host.filled(variables)

    def place(self, key: Secret) -> KeyPlacement:
        """The key in the one placement that this definition gives it.

        Raises:
            Invalid: the key holds characters that could end a header or a user name.
        """
        try:
            text = key.reveal_text()
        except ValueError:
            text = ""
        if not _VISIBLE.fullmatch(text):
            raise Invalid(f"A {self.title} {self.key.label} is of visible ASCII characters; this key is not.")
        return self.auth.place(text)


def _faults_of_headers(headers: Mapping[str, str], key_header: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for name, text in headers.items():
        field, lowered = f"required_headers.{name}", name.lower()
        if not HEADER_NAME.fullmatch(name):
            yield Fault("required_headers", f"{name!r} is not a header name; write for example Accept")
        elif lowered in HEADERS_OF_THE_CONNECTION:
            yield Fault(field, "is a header of the connection; remove it")
        elif lowered == key_header:
            yield Fault(field, "is the header that carries the key; remove it")
        elif lowered in seen:
            yield Fault(field, "stands there twice, in another case; remove one")
        elif not HEADER_VALUE.fullmatch(text):
            yield Fault(field, "write visible ASCII, without spaces at its ends")
        seen.add(lowered)
