"""Identifiers: a type prefix, an underscore and a UUIDv7 in 32 hexadecimal digits.

The digits are lower case.  The prefix tells a reader (and a log search) what a value names.  UUIDv7 (RFC 9562) makes
ids sort by creation; the cursors of lists rely on that.

Each kind is a type of its own, so that mypy finds two that are mixed up; at run time all are strings.  They are made
here, read from columns that have the type, and taken from callers by :mod:`broker.web.api.fields`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, NewType, TypeGuard, TypeVar

import uuid_utils

OrganizationId = NewType("OrganizationId", str)
OperatorId = NewType("OperatorId", str)
WorkloadId = NewType("WorkloadId", str)
CredentialId = NewType("CredentialId", str)
IntakeId = NewType("IntakeId", str)
RotationId = NewType("RotationId", str)
ExposureId = NewType("ExposureId", str)
GrantId = NewType("GrantId", str)
LeaseId = NewType("LeaseId", str)
UseId = NewType("UseId", str)
AuditEventId = NewType("AuditEventId", str)
FindingId = NewType("FindingId", str)
NoticeId = NewType("NoticeId", str)
WebhookId = NewType("WebhookId", str)
DeliveryId = NewType("DeliveryId", str)
RequestId = NewType("RequestId", str)
SessionId = NewType("SessionId", str)
AccountLinkId = NewType("AccountLinkId", str)
PasskeyId = NewType("PasskeyId", str)
IdentityId = NewType("IdentityId", str)
ReviewId = NewType("ReviewId", str)
DeviceSignInId = NewType("DeviceSignInId", str)
TrustId = NewType("TrustId", str)
IssuerEraId = NewType("IssuerEraId", str)

# What a caller names a thing by: its id or its name, whichever it turns out to be.
Reference = NewType("Reference", str)
# In place of an id if there is none.
NoId = Literal[""]

PREFIXES: Final[Mapping[Callable[[str], str], str]] = {
    OrganizationId: "org",
    OperatorId: "opr",
    WorkloadId: "wkl",
    CredentialId: "crd",
    IntakeId: "int",
    RotationId: "rot",
    ExposureId: "exp",
    GrantId: "grt",
    LeaseId: "lse",
    UseId: "use",
    AuditEventId: "evt",
    FindingId: "fnd",
    NoticeId: "ntc",
    WebhookId: "whk",
    DeliveryId: "dlv",
    RequestId: "req",
    SessionId: "ses",
    AccountLinkId: "lnk",
    PasskeyId: "psk",
    IdentityId: "idn",
    ReviewId: "rev",
    DeviceSignInId: "dsi",
    TrustId: "trs",
    IssuerEraId: "ise",
}

Id = TypeVar("Id", bound=str)

_ID = re.compile(r"([a-z]{3})_([0-9a-f]{32})")
_LIKE_AN_ID = re.compile(r"\s*[a-z]{3}[_-][0-9a-f]{32}\s*", re.IGNORECASE)


def new(kind: Callable[[str], Id]) -> Id:
    """A fresh id of that kind, a key of :data:`PREFIXES`."""
    if kind not in PREFIXES:
        raise ValueError(f"{kind!r} has no id prefix")
    return of(kind, uuid_utils.uuid7().bytes)


def of(kind: Callable[[str], Id], raw: bytes) -> Id:
    """The id of that kind whose digits are these 16 bytes."""
    return kind(f"{PREFIXES[kind]}_{raw.hex()}")


def first_at(kind: Callable[[str], Id], time: int) -> Id:
    """The least id that is made at ``time`` (milliseconds since the epoch)."""
    return of(kind, time.to_bytes(6) + bytes(10))


def is_id(text: str, kind: Callable[[str], Id]) -> TypeGuard[Id]:
    """Whether ``text`` is a well-formed id of that kind."""
    match = _ID.fullmatch(text)
    return match is not None and match[1] == PREFIXES[kind]


def digits_of(text: str) -> str | None:
    """The digits of an id of any kind; None if ``text`` is no id."""
    match = _ID.fullmatch(text)
    return None if match is None else match[2]


def is_like_an_id(name: str) -> bool:
    """Whether a reader, or a look-up by id or name, could take ``name`` for an id of any kind."""
    return _LIKE_AN_ID.fullmatch(name) is not None
