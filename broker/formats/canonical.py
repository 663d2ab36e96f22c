"""A list of fields as bytes that can be read in one way only.

::

    for each field:  len32 (big-endian) | bytes

Integers are their decimal ASCII text, strings their UTF-8.  Values that are authenticated together are encoded so, and
no two lists share their bytes.
"""

from __future__ import annotations


class Malformed(ValueError):
    """Bytes that :func:`encode` would not print."""


def encode(*fields: bytes | str | int) -> bytes:
    """The canonical bytes of ``fields``."""
    parts: list[bytes] = []
    for field in fields:
        part = field if isinstance(field, bytes) else str(field).encode()
        parts.append(len(part).to_bytes(4, "big"))
        parts.append(part)
    return b"".join(parts)


def decode(data: bytes) -> list[bytes]:
    """The fields of canonical bytes.

    Raises:
        Malformed: a length runs past the end, or bytes are left over.
    """
    fields: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + 4
        end = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or end > len(data):
            raise Malformed("a field is cut off")
        fields.append(data[start:end])
        position = end
    return fields
