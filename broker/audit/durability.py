"""Whether an event would be durable now.

Readiness has to say so: a database that can only be read refuses uses.

The record's own commits show it, and cost nothing.  If the last one failed, or is some seconds old, one write is
tried.  It is counted in the head, and nothing is put on the record.  However many ask, there is one try at a
time.
"""

from __future__ import annotations

import asyncio
import math
import time

from sqlalchemy import bindparam, literal_column, text, update

from broker.audit.tables import HeadRow
from broker.base.db import EVERY_TENANT, Database, table
from broker.base.outage import word
from broker.base.statements import Transaction, execute_many

# A commit shows it for so long. After one that failed, a write is tried again after so long.
_SHOWN_S = 5.0
_AGAIN_S = 1.0
# A server that takes no writes answers with an error (25006), of which the pool learns too. No row is touched.
# Who reads now and then asks this as well: the pool must not keep a connection to such a server for the next writer.
ASKED = {"sqlite": text("SELECT 1"), "postgresql": text("DELETE FROM audit_head WHERE false")}
# The row that every event moves: whatever keeps that from being durable keeps this.
_TRIED = update(table(HeadRow)).where(HeadRow.id == bindparam("head")).values(tried=HeadRow.tried + literal_column("1"))


class Durability:
    """What is known of the database's writes.

    ``deadline``, in seconds, is an event's.  ``fault`` is the last that was met.  ``tried`` counts the writes.
    """

    def __init__(self, db: Database, deadline: float) -> None:
        self._db = db
        self._deadline = deadline
        self.fault = ""
        self.tried = 0
        self._look_at = -math.inf
        self._asking: asyncio.Task[str] | None = None

    def held(self) -> None:
        """A commit succeeded."""
        self.fault, self._look_at = "", time.monotonic() + _SHOWN_S

    def failed(self) -> None:
        """A commit failed, and not for what was to be written.

        Whoever asks next has a write tried.
        """
        if not self.fault:
            self._look_at = -math.inf

    async def state(self) -> str:
        """``ok``, or in a word why an event would not be durable now.

        ``slow`` if that can't be said in time.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="durability")
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.shield(self._asking)
        except TimeoutError:
            return "slow"

    async def stop(self) -> None:
        """Give up the try that is under way, if any."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> str:
        try:
            async with self._db.read(EVERY_TENANT) as session:
                await session.execute(ASKED[self._db.dialect])
            if time.monotonic() >= self._look_at:
                await self._db.transact(self._write)
                self.held()
        except Exception as error:  # noqa: BLE001 - every fault is told by its kind
            self.fault, self._look_at = word(error), time.monotonic() + _AGAIN_S
        return self.fault or "ok"

    def _write(self, transaction: Transaction) -> None:
        self.tried += 1
        execute_many(transaction, _TRIED, [{"head": 1}])
