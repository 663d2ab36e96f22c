"""Limit wrong proofs per link and per address, across replicas.

The secret has 160 bits, so guessing is hopeless anyway; the limit keeps it from being free, and noisy tries visible. A
right proof always passes, so that nobody who guesses keeps the link's holder out.
"""

from __future__ import annotations

import hmac

from sqlalchemy import case, delete
from sqlalchemy.dialects import postgresql, sqlite

from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import TooMany
from broker.intake.tables import ThrottleRow

WINDOW_MS = 600_000
LIMITS = {"address": 20, "link": 60}


class Throttle:
    """Counts in fixed windows; ``key`` hashes addresses, which are personal."""

    def __init__(self, db: Database, key: bytes, clock: Clock) -> None:
        self._db = db
        self._key = key
        self._clock = clock

    async def spend(self, address: str, link: str) -> None:
        """Note one wrong proof, exactly, however many come at once and wherever.

        Raises:
            TooMany: either limit was met in this window; nothing was noted.
        """
        insert = (postgresql if self._db.dialect == "postgresql" else sqlite).insert
        window = self._window()
        limits = {self._name("address", address): LIMITS["address"], self._name("link", link): LIMITS["link"]}
        async with self._db.write(EVERY_TENANT) as session:
            for name in sorted(limits):  # one order, so that nobody waits in a ring
                count = await session.scalar(
                    insert(ThrottleRow)
                    .values(key=name, window=window, count=1)
                    .on_conflict_do_update(
                        index_elements=[ThrottleRow.key],
                        set_={
                            "window": window,
                            "count": case((ThrottleRow.window == window, ThrottleRow.count + 1), else_=1),
                        },
                    )
                    .returning(ThrottleRow.count)
                )
                if (count or 0) > limits[name]:
                    raise TooMany(
                        "Too many wrong links were tried. Wait ten minutes, then open the link you were sent again.",
                        retry_after=WINDOW_MS // 1000,
                    )

    async def forget(self) -> None:
        """Drop windows that are over."""
        async with self._db.write(EVERY_TENANT) as session:
            await session.execute(delete(ThrottleRow).where(ThrottleRow.window < self._window()))

    def _window(self) -> int:
        return self._clock() // WINDOW_MS

    def _name(self, kind: str, value: str) -> str:
        return hmac.digest(self._key, f"throttle\0{kind}\0{value}".encode(), "sha256").hex()
