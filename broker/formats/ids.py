"""Identifiers: a type prefix, an underscore and a UUIDv7 in 32 hexadecimal digits.

The digits are lower case.  The prefix tells a reader (and a log search) what a value names.  UUIDv7 (RFC 9562) makes
ids sort by creation; the cursors of lists rely on that.
"""

from __future__ import annotations

import re

import uuid_utils

PREFIXES = {
    "org": "organization",
    "opr": "operator",
    "wkl": "workload",
    "crd": "credential",
    "int": "intake",
    "rot": "rotation",
    "exp": "exposure",
    "grt": "grant",
    "lse": "lease",
    "use": "use",
    "evt": "audit event",
    "fnd": "finding",
    "ntc": "notice",
    "whk": "webhook",
    "dlv": "delivery",
    "req": "request",
}

_ID = re.compile(r"([a-z]{3})_[0-9a-f]{32}")
_LIKE_AN_ID = re.compile(r"\s*[a-z]{3}[_-][0-9a-f]{32}\s*", re.IGNORECASE)


def new(prefix: str) -> str:
    """A fresh id of the kind that ``prefix`` (a key of :data:`PREFIXES`) names."""
    if prefix not in PREFIXES:
        raise ValueError(f"{prefix!r} is no id prefix")
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def is_id(text: str, prefix: str) -> bool:
    """Whether ``text`` is a well-formed id with this prefix."""
    match = _ID.fullmatch(text)
    return match is not None and match[1] == prefix


def is_like_an_id(name: str) -> bool:
    """Whether a reader, or a look-up by id or name, could take ``name`` for an id of any kind."""
    return _LIKE_AN_ID.fullmatch(name) is not None
