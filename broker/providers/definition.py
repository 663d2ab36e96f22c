"""What a provider file declares, checked so strictly that nothing in it can surprise later.  Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from broker.base.errors import Invalid
from broker.base.secret import Secret

HOLE = "{key}"
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# A key that could hold any of these could break out of a header or a URL.
_NEVER_IN_A_KEY = (" ", "\t", "\r", "\n", "\0", "\x7f", "é")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[^\s]+$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Path = Annotated[str, StringConstraints(pattern=r"^/[^\s#]*$")]
Statuses = Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(min_length=1)]


def _one_hole(value: str, example: str) -> str:
    if value.count(HOLE) != 1:
        raise ValueError(f"needs exactly one {HOLE} hole, has {value.count(HOLE)}; write for example {example}")
    if not value.isprintable() or not value.isascii():
        raise ValueError("holds characters that HTTP can't carry; use visible ASCII")
    return value


class Part(BaseModel):
    """A table of the file; unknown fields are refused, so a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Variable(Part):
    """One per-customer part of the host: a DNS label by pattern, or one of the listed choices."""

    title: Line
    pattern: str | None = None
    choices: tuple[Line, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.pattern is None) == (not self.choices):
            raise ValueError('needs either pattern = "^…$" or choices = ["…"], not both')
        if self.pattern is not None:
            _anchored(self.pattern)
        for choice in self.choices:
            if not (_HOST.fullmatch(choice) or _DNS_LABEL.fullmatch(choice)):
                raise ValueError(f"choice {choice!r} is not a host name or a part of one; write it in lower case")
        return self

    def accepts(self, value: str) -> bool:
        """Whether ``value`` may stand in the host; a pattern that is too wide still can't let another host in."""
        if self.choices:
            return value in self.choices
        assert self.pattern is not None
        return bool(re.fullmatch(self.pattern, value) and _DNS_LABEL.fullmatch(value))


class Host(Part):
    """Where the upstream is.  ``private`` lets a sandbox be http and on a private address."""

    base_url: str
    private: bool = False
    variables: dict[str, Variable] = {}

    @model_validator(mode="after")
    def _a_host_of_its_own(self) -> Self:
        url = urlsplit(_VARIABLE.sub("x", self.base_url))
        if url.scheme != "https" and not (self.private and url.scheme == "http"):
            raise ValueError("base_url: must begin with https:// (a sandbox on http needs private = true)")
        if not url.hostname or url.username or url.query or url.fragment or self.base_url.endswith("/"):
            raise ValueError("base_url: write scheme, host and base path only, without a slash at the end")
        used = set(_VARIABLE.findall(self.base_url))
        if used != set(self.variables):
            raise ValueError(
                f"base_url: uses {sorted(used)}, [host.variables] declares {sorted(self.variables)}; make them equal"
            )
        if used - set(_VARIABLE.findall(self.base_url.split("://", 1)[1].split("/", 1)[0])):
            raise ValueError("base_url: variables may stand in the host only")
        return self


class HeaderAuth(Part):
    """The key in a request header."""

    placement: Literal["header"]
    name: str
    format: str = HOLE

    @field_validator("name")
    @classmethod
    def _a_token(cls, value: str) -> str:
        if not _TOKEN.fullmatch(value):
            raise ValueError("is not a header name; write for example X-API-Key")
        return value

    @field_validator("format")
    @classmethod
    def _hole(cls, value: str) -> str:
        return _one_hole(value, 'format = "Bearer {key}"')


class QueryAuth(Part):
    """The key in a query parameter."""

    placement: Literal["query"]
    name: str

    @field_validator("name")
    @classmethod
    def _a_token(cls, value: str) -> str:
        if not _TOKEN.fullmatch(value):
            raise ValueError("is not a parameter name; write for example api_key")
        return value


class BasicAuth(Part):
    """The key as user name or password (RFC 7617)."""

    placement: Literal["basic"]
    username: str
    password: str = ""

    @model_validator(mode="after")
    def _hole(self) -> Self:
        _one_hole(self.username + self.password, 'username = "{key}"')
        if ":" in self.username:
            raise ValueError("username: must not hold a colon (RFC 7617)")
        return self


class Key(Part):
    """What a key looks like."""

    label: Line
    pattern: str
    example: Line

    @model_validator(mode="after")
    def _safe(self) -> Self:
        _anchored(self.pattern)
        if not re.fullmatch(self.pattern, self.example):
            raise ValueError("example: doesn't match pattern; write one that does and is no real key")
        for probe in _NEVER_IN_A_KEY:
            middle = len(self.example) // 2
            altered = (self.example[:middle] + probe + self.example[middle + 1 :], self.example + probe)
            if any(re.fullmatch(self.pattern, text) for text in altered):
                raise ValueError(
                    f"pattern: accepts {probe!r}, which can't be in a key; name the characters, as in [A-Za-z0-9]"
                )
        return self


class Verify(Part):
    """The request that tells whether a key works.  An outage isn't a bad key."""

    method: Literal["GET", "POST", "HEAD"] = "GET"
    path: Path
    good: Statuses = (200,)
    bad_key: Statuses = (401,)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if both := set(self.good) & set(self.bad_key):
            raise ValueError(f"good and bad_key share {sorted(both)}; a status means one of the two")
        return self


class Identity(Part):
    """Where in the verification answer the ids stand that only this organization has, such as ``[].id``."""

    path: Annotated[
        str, StringConstraints(pattern=r"^(?:\[\]|[A-Za-z_][A-Za-z0-9_-]*)(?:\[\]|\.[A-Za-z_][A-Za-z0-9_-]*)*$")
    ]


class Preset(Part):
    """A named set of methods and path patterns; ``*`` stays within a segment, ``**`` crosses them."""

    methods: Annotated[tuple[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], ...], Field(min_length=1)]
    paths: Annotated[tuple[Path, ...], Field(min_length=1)]


class Retry(Part):
    """How the upstream says "too fast"."""

    statuses: Statuses = (429,)
    header: str = "Retry-After"
    unit: Literal["seconds", "milliseconds", "epoch"] = "seconds"
    cap_seconds: Annotated[int, Field(ge=1, le=3600)] = 60


class Rotation(Part):
    """How often the key is to be replaced, and what that does to the old one."""

    interval_days: Annotated[int, Field(ge=1, le=3650)]
    new_key_revokes_old: bool
    revoked_by: Line


class Admin(Part):
    """For the customer's Organization Admin, in plain words."""

    role: Line
    where: Annotated[tuple[Line, ...], Field(min_length=1)]
    revoke: Annotated[tuple[Line, ...], Field(min_length=1)]
    link: HttpsUrl | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """The key in its slot; its values don't print."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class Definition(Part):
    """One upstream."""

    id: Slug
    version: Annotated[int, Field(ge=1)]
    title: Line
    docs: HttpsUrl
    host: Host
    auth: Annotated[HeaderAuth | QueryAuth | BasicAuth, Field(discriminator="placement")]
    key: Key
    verify: Verify
    admin: Admin
    identity: Identity | None = None
    presets: dict[Slug, Preset] = {}
    retry: Retry = Retry()
    rotation: Rotation | None = None
    required_headers: dict[str, str] = {}

    @field_validator("required_headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _TOKEN.fullmatch(name) or not text.isascii() or not text.isprintable():
                raise ValueError(f"{name!r}: header names are tokens and values visible ASCII")
        return value

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
        return _VARIABLE.sub(lambda match: variables[match[1]], self.host.base_url)

    def place(self, key: Secret) -> Placement:
        """The key in the one slot that this definition gives it."""
        text = key.reveal_text()
        if isinstance(self.auth, HeaderAuth):
            return Placement(headers=((self.auth.name, self.auth.format.replace(HOLE, text)),))
        if isinstance(self.auth, QueryAuth):
            return Placement(query=((self.auth.name, text),))
        pair = f"{self.auth.username.replace(HOLE, text)}:{self.auth.password.replace(HOLE, text)}"
        return Placement(headers=(("Authorization", "Basic " + b64encode(pair.encode()).decode()),))


def _anchored(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern: is not a regular expression ({error})") from None
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise ValueError("pattern: must be anchored; write it as ^…$")
    if re.search(r"[+*}]\)?[+*]|\\[1-9]|\(\?[^:]", pattern):
        raise ValueError("pattern: nested repeats, back-references and look-around are refused; use plain classes")
