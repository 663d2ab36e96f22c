"""Periodic work: one process at a time does the rooms' duties in turn, round by round.

Work that can't be undone rests while the time isn't believed (:mod:`broker.audit.timekeeping`), and after a restore
until somebody has confirmed what it brought back.  Each duty says which kind it is.  Notices go on: what is sent was
decided earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from structlog.contextvars import bound_contextvars

from broker.audit.series import unconfirmed
from broker.audit.timekeeping import OK, Timekeeping
from broker.base.db import EVERY_TENANT
from broker.base.duty import Duty
from broker.base.election import Election
from broker.parts import Parts

_log = structlog.get_logger()

# Between two rounds.
_REST_S = 5.0
# How soon another process takes over from one that died.
_STAND_BY_S = 1.0
# How often notices are looked for.
_NOTIFY_S = 1.0
# No duty holds up the others for longer, whatever it waits for; what was left undone falls due again.
_DUTY_S = 300.0


class Worker:
    """The work of one process at a time; every duty is safe to do on several at once.

    ``notices`` sends them.  It is done beside everything else, so that a slow receiver holds up neither.
    """

    def __init__(
        self,
        parts: Parts,
        timekeeping: Timekeeping,
        election: Election,
        duties: Sequence[Duty],
        notices: Duty,
    ) -> None:
        self._db, self._audit, self._clock = parts.db, parts.audit, parts.clock
        self._timekeeping = timekeeping
        self.election = election
        self._notices = notices
        self.duties = {duty.name: duty for duty in (*duties, notices)}
        self.round_at = 0  # when the last round ended

    async def run(self) -> None:
        """Work until cancelled, while no other process does.

        A fault in one duty is tried again next time.
        """
        notifying = asyncio.create_task(self._notify(), name="outbox")
        others = [duty for duty in self.duties.values() if duty is not self._notices]
        try:
            while True:
                if self._audit.closed is None and await self.election.holds():
                    await self._round(others)
                    await asyncio.sleep(_REST_S)
                else:
                    for duty in others:
                        duty.stand_by()
                    await asyncio.sleep(_STAND_BY_S)
        finally:
            notifying.cancel()
            await asyncio.gather(notifying, return_exceptions=True)
            self.election.leave()

    async def _notify(self) -> None:
        while True:
            if self.election.leads and self._audit.closed is None:
                await self._try(self._notices)
            await asyncio.sleep(_NOTIFY_S)

    async def once(self) -> None:
        """Every duty, once."""
        await self._round(list(self.duties.values()))

    async def _round(self, duties: Sequence[Duty]) -> None:
        rests = await self._rests()
        for duty in duties:
            # Asked about once in a round; that the time isn't believed any more is heeded meanwhile, too.
            if not duty.final or (not rests and self._timekeeping.state == OK):
                await self._try(duty)
        self.round_at = self._clock()

    async def _try(self, duty: Duty) -> None:
        with bound_contextvars(piece=duty.name):
            try:
                async with asyncio.timeout(_DUTY_S):
                    await duty.do(self._clock())
            except Exception:  # noqa: BLE001 - the next duty and the next round must still run
                _log.exception("worker.failed")

    async def _rests(self) -> bool:
        """Whether work that can't be undone has to wait.

        It waits for the right time, or until people have seen what a restore brought back.
        """
        try:
            async with asyncio.timeout(_DUTY_S):
                if await self._timekeeping.look() != OK:
                    return True
                async with self._db.read(EVERY_TENANT) as session:
                    return await unconfirmed(session)
        except Exception:  # noqa: BLE001 - who can't tell leaves it; the others must still run
            _log.exception("worker.failed")
            return True
