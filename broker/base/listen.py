"""What other replicas committed, told as soon as PostgreSQL tells it (LISTEN/NOTIFY).

Invalidation messages are for freshness only.  They can be lost with a connection, so nothing is decided on them.
Guards decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from broker.base.db import Database, look_alive

_log = structlog.get_logger()
_AGAIN_S = 1.0
_ALIVE_S = 15.0


class Listener:
    """Listens to one channel for as long as :meth:`run` runs.

    Args:
        db: nothing is listened to on SQLite, which tells nothing: there memory is believed for as long as it may be.
        channel: of NOTIFY.
        heard: called with each payload.
        missed: called whenever payloads may have been missed.
    """

    def __init__(self, db: Database, channel: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        self._db = db
        self._channel = channel
        self._heard = heard
        self._missed = missed

    async def run(self) -> None:
        """Listen until cancelled.  A connection that is lost is made again."""
        while self._db.dialect == "postgresql":
            try:
                await self.listen()
            except Exception as error:  # noqa: BLE001 - whatever it was, without messages everything is stale
                _log.warning("news.lost", error=type(error).__name__)
            self._missed()
            await asyncio.sleep(_AGAIN_S)

    async def listen(self) -> None:
        """Listen on one connection until it is lost; raises if it can't be made, or takes no writes."""
        connection = await self._db.dedicated("news")
        lost = asyncio.Event()
        try:
            await look_alive(connection)
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(self._channel, lambda *told: self._heard(str(told[3])))
            self._missed()  # what was told before this connection listened
            while not lost.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), _ALIVE_S)
                await look_alive(connection)
        finally:
            with suppress(Exception):
                connection.terminate()
