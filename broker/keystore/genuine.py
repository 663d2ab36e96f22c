"""Rows that give rights: authenticated when written, checked when loaded.

Whoever may write the database can't give themselves a right.  What they insert or change doesn't fit its authenticator
(:mod:`broker.formats.rowmac`), and code that acts on such a row asks :attr:`GivesRights.genuine` first.  What takes a
right away (states, times of an end) is not authenticated: destroying is theirs anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapped, Session, mapped_column, object_session

from broker.base.db import FencedSession
from broker.base.errors import Unavailable
from broker.formats import rowmac


class RowAltered(Unavailable):
    """A row that gives rights is not as the broker wrote it."""

    code = "rights_altered"
    title = "A right was changed outside of the broker"

    def __init__(self, row: GivesRights) -> None:
        self.row = row
        super().__init__(
            "What this stands on was changed by something else than the broker, so it is not used. A security account "
            "has to look: `broker doctor --rights` names it."
        )


class GivesRights:
    """Mixin of rows that give rights.

    ``AUTHENTICATED`` names the columns, the row's key and its organization among them.  ``ADDED`` names those of them
    that older rows don't have: such a column counts once it holds something.  Names are authenticated with their
    values, so a column can neither be emptied nor filled beside the broker.
    """

    AUTHENTICATED: ClassVar[tuple[str, ...]]
    ADDED: ClassVar[frozenset[str]] = frozenset()
    id: Mapped[Any] = mapped_column(primary_key=True)
    row_mac: Mapped[bytes | None] = mapped_column(default=None)
    _genuine = False

    @property
    def genuine(self) -> bool:
        """Whether the row is as the broker wrote it."""
        return self._genuine

    def vouched_for(self) -> None:
        """Refuse a row that is not genuine; raises RowAltered."""
        if not self._genuine:
            raise RowAltered(self)

    def check(self, key: bytes | None) -> None:
        """Compare what was loaded with its authenticator; without a key nothing is genuine."""
        self._genuine = key is not None and rowmac.fits(key, self.table_name, self._fields(), self.row_mac)

    def authenticate(self, key: bytes | None) -> None:
        """Make the authenticator of what the row says now.

        Without a key, nothing that gives rights is written.
        """
        assert key is not None, "the broker's own keys are loaded before rows that give rights are written"
        self.row_mac = rowmac.mac(key, self.table_name, self._fields())
        self._genuine = True

    @property
    def table_name(self) -> str:
        """The row's table."""
        return _name(type(self))

    def _fields(self) -> dict[str, object]:
        return _counting(type(self), {column: getattr(self, column) for column in self.AUTHENTICATED})


def row_mac(key: bytes, table: type[GivesRights], values: Mapping[str, Any]) -> bytes:
    """The authenticator of a row that is inserted without the ORM."""
    return rowmac.mac(key, _name(table), _counting(table, values))


def is_genuine(key: bytes | None, table: type[GivesRights], values: Mapping[str, Any]) -> bool:
    """Whether a row that was read without the ORM is as the broker wrote it.

    Without a key none is.
    """
    return key is not None and rowmac.fits(key, _name(table), _counting(table, values), values["row_mac"])


def _name(table: type[GivesRights]) -> str:
    return table.__tablename__  # type: ignore[attr-defined,no-any-return]  # of the mapped class


def _counting(table: type[GivesRights], values: Mapping[str, Any]) -> dict[str, object]:
    return {
        column: value
        for column in table.AUTHENTICATED
        if (value := values[column]) is not None or column not in table.ADDED
    }


def _check_loaded(row: GivesRights, *_: object) -> None:
    session = object_session(row)
    row.check(session.info.get("row_key") if session is not None else None)


def _authenticate_written(session: Session, _context: object, _instances: object) -> None:
    key = session.info.get("row_key")
    for row in _that_give_rights(session.new):
        row.authenticate(key)
    for row in _that_give_rights(session.dirty):
        if any(inspect(row).attrs[column].history.has_changes() for column in row.AUTHENTICATED):
            row.vouched_for()  # else the change would make what somebody wrote beside the broker its own
            row.authenticate(key)


def _that_give_rights(rows: Iterable[object]) -> list[GivesRights]:
    return [row for row in rows if isinstance(row, GivesRights)]


event.listen(GivesRights, "load", _check_loaded, propagate=True)
event.listen(GivesRights, "refresh", _check_loaded, propagate=True)
event.listen(FencedSession, "before_flush", _authenticate_written)
