"""What shows that the broker wrote a row, whoever else may write the database.

::

    version 1:  0x01 | HMAC-SHA256(key, canonical("keybroker/row/v1", table, name, value, name, value, …))

Names are in the order of their letters.  A value is its JSON text with sorted keys and without spaces; bytes are in
hexadecimal.  Row ids and the organization are among the fields, so values that are moved to another row or tenant don't
fit.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from functools import lru_cache

from broker.formats.canonical import encode

_VERSION = b"\x01"
_CONTEXT = "keybroker/row/v1"
_in_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode  # json.dumps would make one for each value


def mac(key: bytes, table: str, fields: Mapping[str, object]) -> bytes:
    """The authenticator (33 bytes) of a row's fields under a key of 32 bytes."""
    beginning, names = _layout(table, tuple(fields))
    said = [beginning]
    for name, encoded in names:
        text = _text(fields[name]).encode()
        said += (encoded, len(text).to_bytes(4, "big"), text)
    return _VERSION + hmac.digest(key, b"".join(said), "sha256")


@lru_cache(maxsize=256)  # the columns of a table that are authenticated are few, and the same for all of its rows
def _layout(table: str, names: tuple[str, ...]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """What stands before all fields, and each field's name as it stands before its value."""
    return encode(_CONTEXT, table), [(name, encode(name)) for name in sorted(names)]


def fits(key: bytes, table: str, fields: Mapping[str, object], found: object) -> bool:
    """Whether ``found`` is the authenticator of just these fields.

    It is what was found beside a row, and may be of any type.
    """
    return isinstance(found, bytes) and hmac.compare_digest(found, mac(key, table, fields))


def _text(value: object) -> str:
    # Most columns hold one of these: the encoder would say the same, and take ten times as long.
    if value is None:
        return "null"
    if type(value) is int:
        return str(value)
    return _in_json(value.hex() if isinstance(value, bytes) else value)
