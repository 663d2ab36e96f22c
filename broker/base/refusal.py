"""A database's error on its way from the process that met it to the one that asked.

Its kind and code go, nothing else.  Its text is not handed on: it could repeat a value.
"""

from __future__ import annotations

import sqlite3

import msgspec

_KINDS = {
    kind.__name__: kind
    for kind in (
        sqlite3.DataError,
        sqlite3.DatabaseError,
        sqlite3.IntegrityError,
        sqlite3.InternalError,
        sqlite3.NotSupportedError,
        sqlite3.OperationalError,
        sqlite3.ProgrammingError,
    )
}


class NotWritten(Exception):
    """The process that writes met a defect, not a refusal of the database's.

    The text is its kind.
    """


def packed(error: Exception) -> bytes:
    """The error as bytes."""
    # What the driver can't take is none of its own errors (broker.base.faults).
    kind = "DataError" if isinstance(error, (UnicodeEncodeError, OverflowError)) else type(error).__name__
    return msgspec.msgpack.encode((kind, getattr(error, "sqlite_errorcode", 0)))


def unpacked(data: bytes) -> Exception:
    """An error of the same kind and code."""
    kind, code = msgspec.msgpack.decode(data, type=tuple[str, int])
    if kind not in _KINDS:
        return NotWritten(kind)
    error = _KINDS[kind](f"{kind} in the process that writes")
    error.sqlite_errorcode = code
    return error
