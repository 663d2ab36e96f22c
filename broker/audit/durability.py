"""Whether an event would be durable now, which is what readiness has to say: a database that only reads refuses uses.

The record's own commits show it, and cost nothing.  Where the last one failed, or is some seconds old, one write is
tried: a batch without events, so that nothing is put on the record.  However many ask, there is one try at a time.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid

from sqlalchemy import insert, text

from broker.audit.tables import BatchRow
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, table
from broker.base.outage import word
from broker.base.statements import Transaction, execute_many

# A commit counts as shown for so long; one that failed is tried again after so long.
_SHOWN_S = 5.0
_AGAIN_S = 1.0
# What a server answers that takes no writes is an error (25006), of which the pool learns too; no row is touched.
# Whoever reads now and then asks so as well: the pool must not keep a connection to such a server for the next writer.
ASKED = {"sqlite": text("SELECT 1"), "postgresql": text("DELETE FROM audit_batches WHERE false")}
_TRIED = insert(table(BatchRow))


class Durability:
    """What is known of the database's writes.  ``deadline``, in seconds, is an event's."""

    def __init__(self, db: Database, deadline: float, clock: Clock) -> None:
        self._db = db
        self._deadline = deadline
        self._clock = clock
        self._fault = ""
        self._look_at = -math.inf
        self._asking: asyncio.Task[str] | None = None

    def held(self) -> None:
        """A commit succeeded."""
        self._fault, self._look_at = "", time.monotonic() + _SHOWN_S

    def failed(self, error: BaseException) -> None:
        """A commit failed, and not for what was to be written: whoever asks next has it tried again."""
        if not self._fault:
            self._look_at = -math.inf
        self._fault = word(error)

    async def state(self) -> str:
        """``ok``, or in a word why an event would not be durable now; ``slow`` where that can't be said in time."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="durability")
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.shield(self._asking)
        except TimeoutError:
            return "slow"

    async def stop(self) -> None:
        """Give up what is being asked."""
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
            self._fault, self._look_at = word(error), time.monotonic() + _AGAIN_S
        return self._fault or "ok"

    def _write(self, transaction: Transaction) -> None:
        row = {"id": str(uuid.uuid4()), "base": 0, "count": 0, "time": self._clock()}
        execute_many(transaction, _TRIED, [row])
