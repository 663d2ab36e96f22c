"""The bytes of an audit event: canonical JSON in two parts and their salted commitments.

::

    core_bytes, personal_bytes = JCS (RFC 8785) of the two parts
    cc    = SHA-256("auditcore/v1\\0"  | salt_core[32]     | core_bytes)
    cp    = SHA-256("auditpii/v1\\0"   | salt_personal[32] | personal_bytes)
    entry = SHA-256("auditentry/v1\\0" | cc | cp)

``entry`` is all that a public log needs to hold.  The 256-bit salts keep it from being guessed.  The split lets the
personal part be withheld or erased while ``entry`` stays provable.

The bytes are stored as they are and never made again from columns.  Values are limited to the profile in which a
sorted-keys encoder equals RFC 8785: ASCII keys, strings, integers below 2**53, booleans, null, lists and objects; no
floats.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"
MAX_BYTES = 16_384

_encoder = msgspec.json.Encoder(order="sorted")
_LARGEST = 2**53


class NotCanonical(ValueError):
    """A value outside the profile."""


def encode(part: dict[str, Json]) -> bytes:
    """RFC 8785 bytes of one part.

    Raises:
        NotCanonical: a float, an integer of 2**53 or more, a key that is not ASCII, or over 16 KiB.
    """
    _check(part)
    try:
        data = _encoder.encode(part)
    except UnicodeEncodeError as error:
        raise NotCanonical("a string holds a lone surrogate") from error
    if len(data) > MAX_BYTES:
        raise NotCanonical(f"a part of an event is capped at {MAX_BYTES} bytes")
    return data


def _check(value: Json) -> None:
    items: Iterable[Json]
    if isinstance(value, dict):
        _check_keys(value)
        items = value.values()
    elif isinstance(value, list):
        items = value
    else:
        items = (value,)
    for item in items:
        kind = type(item)
        if kind is str:  # most are; this is the hottest path
            continue
        if isinstance(item, int):
            if not -_LARGEST < item < _LARGEST:
                raise NotCanonical("integers stay below 2**53")
        elif isinstance(item, (dict, list)):
            _check(item)
        elif item is not None and not isinstance(item, str):
            raise NotCanonical(f"{kind.__name__} has no canonical form here")


def _check_keys(part: dict[str, Json]) -> None:
    try:
        ascii_only = "".join(part).isascii()
    except TypeError:
        ascii_only = False
    if not ascii_only:
        raise NotCanonical("keys are ASCII strings")


@dataclass(frozen=True, slots=True)
class Committed:
    """The stored bytes of one event and the commitment to them."""

    core: bytes
    personal: bytes
    salt_core: bytes
    salt_personal: bytes
    entry: bytes


def commit(core: dict[str, Json], personal: dict[str, Json], salts: bytes | None = None) -> Committed:
    """Encode both parts and commit to them.

    ``salts`` (64 bytes) are given only to check a stored event again.
    """
    salts = os.urandom(64) if salts is None else salts
    if len(salts) != 64:
        raise ValueError("two salts of 32 bytes each are needed")
    core_bytes, personal_bytes = encode(core), encode(personal)
    entry = entry_of(core_bytes, salts[:32], personal_bytes, salts[32:])
    return Committed(core_bytes, personal_bytes, salts[:32], salts[32:], entry)


def entry_of(core: bytes, salt_core: bytes, personal: bytes, salt_personal: bytes) -> bytes:
    """The 32-byte log entry of stored bytes and salts."""
    cc = hashlib.sha256(b"auditcore/v1\0" + salt_core + core).digest()
    cp = hashlib.sha256(b"auditpii/v1\0" + salt_personal + personal).digest()
    return hashlib.sha256(b"auditentry/v1\0" + cc + cp).digest()
