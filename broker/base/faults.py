"""Whose fault a database's error is: the server's, the way's to it, or a value's.  Pure.

A database that refuses a value is not a database that is away: it refuses the same value again.
"""

from __future__ import annotations

import sqlite3

import asyncpg
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Classes and codes of SQLSTATE (PostgreSQL, appendix A): connection, statements that a pooler's other server doesn't
# know, authorization, no such database, rollback (serialization, deadlock), resources, in use and locks, operator's
# intervention, input and output, internal; a plan that a migration outdated, a server that only reads, idling.
_AWAY = ("08", "26", "28", "3D", "40", "53", "55", "57", "58", "XX", "0A000", "25006", "25P03")
_VALUE = ("22", "54")  # data exceptions, limits such as an index entry's size
_ASYNCPG = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


def is_away(error: BaseException) -> bool:
    """Whether the server or the connection is at fault, so that the same may succeed later."""
    if isinstance(error, (OSError, PoolTimeout)):  # a TimeoutError is an OSError
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = _driver_error(error)
    if state := _state(cause):
        return state.startswith(_AWAY)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_AWAY
    # The driver's words for a connection that is closed or in no state to be used.
    return isinstance(cause, (asyncpg.InterfaceError, asyncpg.InternalClientError))


def is_refused_value(error: BaseException) -> bool:
    """Whether a value was refused, by the database or on the way to it."""
    cause = _driver_error(error)
    if state := _state(cause):
        return state.startswith(_VALUE)
    # SQLite's driver has no error of its own for a text that doesn't encode, or for a number that is too large.
    return isinstance(cause, (sqlite3.DataError, UnicodeEncodeError, OverflowError))


def is_forbidden(error: BaseException) -> bool:
    """Whether the database's role may not do this."""
    return code(error) == "42501"


def is_contradiction(error: BaseException) -> bool:
    """Whether a row contradicts stored ones, such as an id that is in use."""
    return isinstance(error, (IntegrityError, sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError))


def _driver_error(error: BaseException) -> BaseException:
    """The driver's own error: SQLAlchemy wraps it, and its dialect for asyncpg once more."""
    inner = error.orig if isinstance(error, DBAPIError) else error
    assert inner is not None
    return inner.__cause__ if isinstance(inner.__cause__, _ASYNCPG) else inner


def said(error: BaseException) -> str:
    """The driver's or the server's own words, of which there is one line."""
    return (str(_driver_error(error)).splitlines() or [type(error).__name__])[0]


def code(error: BaseException) -> str | int:
    """PostgreSQL's SQLSTATE, or SQLite's primary code; 0 for other errors."""
    cause = _driver_error(error)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return _state(cause) or 0


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")
