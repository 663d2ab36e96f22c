"""Limit wrong proofs per link and per address, across replicas.

The secret has 160 bits, so guessing is hopeless anyway.  The limit makes it costly, and noisy tries visible.  A right
proof always passes, so that somebody who guesses can't keep the link's holder out.

Memory decides about strangers first: an address or a link that met a limit takes no writer for the rest of the window.
Of the others one writes at a time, and together they write only so often.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
from collections.abc import Mapping
from typing import NoReturn

from broker.base.clock import Clock
from broker.base.db import Database, DatabaseUnavailable
from broker.base.errors import TooMany
from broker.base.pruning import forget
from broker.base.statements import Transaction
from broker.base.strangers import WINDOW_MS, Tally, network
from broker.intake.tables import ThrottleRow

LIMITS = {"address": 20, "link": 60}
# Of one process, whatever addresses and links there are.
_TOGETHER = 1_000
_EVERYBODY = "everybody"


_COUNT_SQL = """
INSERT INTO throttles (key, "window", count) VALUES ({}, {}, 1)
ON CONFLICT (key) DO UPDATE SET
    count = CASE WHEN throttles."window" = excluded."window" THEN throttles.count + 1 ELSE 1 END,
    "window" = excluded."window"
RETURNING count
"""
_COUNT = {"postgresql": _COUNT_SQL.format("$1", "$2"), "sqlite": _COUNT_SQL.format("?", "?")}


class _Met(Exception):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Throttle:
    """Counts in fixed windows.

    ``key`` hashes addresses, which are personal.  ``refused`` counts the proofs that met a limit.
    """

    def __init__(self, db: Database, key: bytes, clock: Clock) -> None:
        self._db = db
        self._key = key
        self._clock = clock
        self._tally = Tally(clock)
        self._turn = asyncio.Semaphore(1)
        self.refused = 0

    async def spend(self, address: str, link: str) -> None:
        """Note one wrong proof.  The count is exact, however many come at once, at any replica.

        Raises:
            TooMany: either limit was met in this window; nothing was noted.
        """
        limits = {
            self._name("address", network(address)): LIMITS["address"],
            self._name("link", link): LIMITS["link"],
        }
        together = {**limits, _EVERYBODY: _TOGETHER}
        if any(self._tally.count(name) >= limit for name, limit in together.items()):
            self._refuse()
        for name in together:  # before the write: callers that come meanwhile are decided by it
            self._tally.add(name)
        try:
            async with self._turn:
                await self._db.transact(lambda transaction: self._count(transaction, limits), record=False)
        except _Met as met:
            self._tally.add(met.name, limits[met.name])
            self._refuse()
        except sqlite3.Error:
            raise DatabaseUnavailable("The database can't be written to; try again shortly.", retry_after=2) from None

    def _count(self, transaction: Transaction, limits: Mapping[str, int]) -> None:
        """Count for all replicas; raises _Met, so that nothing is kept, if a limit was met there."""
        for name in sorted(limits):  # one order, so that nobody waits in a ring
            ((count,),) = transaction.rows(_COUNT[transaction.dialect.name], (name, self._window()))
            if count > limits[name]:
                raise _Met(name)

    def _refuse(self) -> NoReturn:
        self.refused += 1
        raise TooMany(
            "Too many wrong links were tried. Wait ten minutes, then open the link you were sent again.",
            retry_after=WINDOW_MS // 1000,
        )

    async def forget(self) -> None:
        """Drop windows that have ended."""
        await forget(self._db, ThrottleRow, ThrottleRow.window < self._window(), ThrottleRow.window)

    def _window(self) -> int:
        return self._clock() // WINDOW_MS

    def _name(self, kind: str, value: str) -> str:
        return hmac.digest(self._key, f"throttle\0{kind}\0{value}".encode(), "sha256").hex()
