"""Guards: what a decision relied on, each with an epoch.

An epoch is an optimistic-lock version that is drawn, not counted.  A decision notes the epochs that it saw.  The
transaction that records it compares them (:mod:`broker.audit.log`).  Whatever takes a right away raises them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, bindparam
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import GuardRow
from broker.base.db import UPSERTS, Database

# Text in the dialect's own words: SQLAlchemy would render it again for every batch (an IN list of any length).
_EPOCHS = {
    "postgresql": "SELECT id, epoch FROM guards WHERE id = ANY($1::varchar[])",
    "sqlite": "SELECT id, epoch FROM guards WHERE id IN (SELECT value FROM json_each(?))",
}

# The same in one trip. A server that takes no writes has what is out of date: it refuses.
_ASKED = {
    "postgresql": f"WITH asked AS (DELETE FROM guards WHERE false) {_EPOCHS['postgresql']}",  # noqa: S608 - no input
    "sqlite": _EPOCHS["sqlite"],
}

_EPOCH_BITS = 62
_RAISE = {}
for _dialect, _upsert in UPSERTS.items():
    _insert = _upsert(GuardRow).values(id=bindparam("guard_id"), epoch=bindparam("to_epoch"))
    _RAISE[_dialect] = _insert.on_conflict_do_update(
        index_elements=[GuardRow.id], set_={"epoch": _insert.excluded.epoch}
    )


async def epochs_now(db: Database, ids: Iterable[str]) -> dict[str, int]:
    """The present epoch of each id, in one trip; raises as :meth:`broker.base.db.Database.ask`."""
    wanted = list(ids)
    return _found(wanted, await db.ask(_ASKED, _listed(db.dialect, wanted)))


async def epochs_of(session: AsyncSession, ids: Iterable[str]) -> dict[str, int]:
    """The present epoch of each id, in the snapshot of a session."""
    wanted = list(ids)
    if not wanted:
        return {}
    connection = await session.connection()
    dialect = connection.dialect.name
    rows = await connection.exec_driver_sql(_EPOCHS[dialect], (_listed(dialect, wanted),))
    return _found(wanted, rows.all())


def _listed(dialect: str, ids: list[str]) -> str | list[str]:
    """Ids as a query's one parameter."""
    return json.dumps(ids) if dialect == "sqlite" else ids


def _found(ids: Iterable[str], rows: Iterable[Sequence[Any]]) -> dict[str, int]:
    return dict.fromkeys(ids, 0) | {id_: epoch for id_, epoch in rows}  # noqa: C416 - a Row is no pair to dict()


def drawn_epoch() -> int:
    """A number that no epoch was.  Nor is it 0, the epoch of whatever has none yet."""
    return 1 + secrets.randbits(_EPOCH_BITS)


def raising(dialect: str, ids: Iterable[str]) -> list[tuple[Executable, Mapping[str, Any]]]:
    """The statements, with their rows, that give each id a new epoch.

    It is one that the id never had, not even in a history that a restore took back: so it is drawn, not counted.  For
    the same reason epochs are compared for being equal, never for being more.
    """
    return [(_RAISE[dialect], {"guard_id": id_, "to_epoch": drawn_epoch()}) for id_ in sorted(set(ids))]


async def raise_epoch(session: AsyncSession, *ids: str) -> None:
    """Make every decision that relied on these things, on any replica, be decided again.

    Call it in the transaction that changes them, before :func:`~broker.audit.record.record`.
    """
    await session.flush()
    for statement, row in raising(session.get_bind().dialect.name, ids):
        await session.execute(statement, row)
