"""Guards: what a decision relied on, each with an epoch.

An epoch is an optimistic-lock version that is drawn, not counted.  A decision notes the epochs that it saw.  The
transaction that records it compares them (:mod:`broker.audit.log`).  Whatever takes a right away raises them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Executable, bindparam
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import GuardRow
from broker.base.db import UPSERTS, Database
from broker.base.statements import OnConnection, Transaction, found_of, in_list, present

# Text in the dialect's own words: SQLAlchemy would render it again for every batch (an IN list of any length).
_EPOCHS = {
    "postgresql": "SELECT id, epoch FROM guards WHERE id = ANY($1::varchar[])",
    "sqlite": "SELECT id, epoch FROM guards WHERE id IN (SELECT value FROM json_each(?))",
}

# The same in one trip. A server that takes no writes has what is out of date: it refuses.
_ASKED = {
    "postgresql": f"WITH asked AS (DELETE FROM audit_batches WHERE false) {_EPOCHS['postgresql']}",  # noqa: S608 - no input
    "sqlite": _EPOCHS["sqlite"],
}

_EPOCH_BITS = 62
_RAISE = {}
for _dialect, _upsert in UPSERTS.items():
    _insert = _upsert(GuardRow).values(id=bindparam("guard_id"), epoch=bindparam("to_epoch"))
    _RAISE[_dialect] = _insert.on_conflict_do_update(
        index_elements=[GuardRow.id], set_={"epoch": _insert.excluded.epoch}
    )


def epochs(transaction: Transaction, ids: Iterable[str]) -> dict[str, int]:
    """The present epoch of each id."""
    return present(transaction, _EPOCHS, ids)


async def epochs_now(db: Database, ids: Iterable[str]) -> dict[str, int]:
    """The present epoch of each id, in one trip; raises as :meth:`broker.base.db.Database.ask`."""
    wanted = list(ids)
    return found_of(wanted, await db.ask(_ASKED, in_list(db.dialect, wanted)))


async def epochs_of(session: AsyncSession, ids: Iterable[str]) -> dict[str, int]:
    """The present epoch of each id, in the snapshot of a session."""
    connection = await session.connection()
    return await connection.run_sync(lambda sync: epochs(OnConnection(sync), ids))


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
