"""What an error of a database says: whether its connection is of use, and what is wrong.

A connection to a server that became read-only is alive.  Its session stays read-only when the server, or the one that
took over, takes writes again.  So such an error ends the connection and the whole pool, as a lost one does.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from broker.base.faults import code

# Of PostgreSQL, a whole SQLSTATE or its class: a read-only session or replica; a server that stops, crashed or
# starts; a connection that broke.  A full disk isn't among them: the same connection writes once there is room.
_ENDED: Final = ("25006", "57P", "08")
# Of SQLite: a file that was opened while it could only be read stays so, as does one that is no longer at its place.
_REOPENED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
_WORDS: Final = {
    "25006": "read_only",
    "53100": "disk_full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "disk_error",
    sqlite3.SQLITE_BUSY: "busy",
}


def ends_connection(error: BaseException) -> bool:
    """Whether whatever comes next over the same connection would fail as well.

    The connection itself may still be there.
    """
    said = code(error)
    return said.startswith(_ENDED) if isinstance(said, str) else said in _REOPENED


def word(error: BaseException) -> str:
    """What is wrong, for people and monitoring: a word if there is one, else the error's kind."""
    return _WORDS.get(code(error), type(error).__name__)


def end_useless_connections(engine: Engine) -> None:
    """Have ``engine`` drop its connections when an error says so, and make new ones."""
    event.listen(engine, "handle_error", _judge)


def _judge(context: ExceptionContext) -> None:
    if ends_connection(context.original_exception):
        context.is_disconnect = True
