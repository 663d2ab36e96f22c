"""Which jobs stand.

Every request that a job's access token establishes asks this, so it is answered from memory.  An access token lasts for
minutes after its job was revoked.  Uses and leases are decided under guards, which see that at once.  This is for
everything else that a token opens.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Forbidden
from broker.base.recent import Recent
from broker.base.validity import Validity
from broker.formats import ids
from broker.formats.ids import WorkloadId
from broker.identity.tables import WorkloadRow

_REMEMBERED = 20_000
# Invalidation messages may be lost with a connection: nothing is believed for longer.
_FRESH_MS = 1_000


class JobRevoked(Forbidden):
    """The job whose token this is was revoked."""

    code = "workload_revoked"

    def __init__(self) -> None:
        super().__init__("This workload was revoked; ask an operator to register it again.")


class _Known(NamedTuple):
    active: bool
    at: Millis


class Jobs:
    """The state of jobs, the most recently read ones kept."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known = Recent[WorkloadId, _Known](_REMEMBERED)
        self._changes = 0

    async def check(self, workload: WorkloadId) -> None:
        """Return if the workload stands.

        Raises:
            JobRevoked: it was revoked here, or elsewhere a second ago; sooner if a message of it came.
        """
        known = self._known.get(workload)
        if known is None or not 0 <= self._clock() - known.at < _FRESH_MS:
            known = await self._read(workload)
        if not known.active:
            raise JobRevoked

    def heard(self, message: str) -> None:
        """Note that a guard was raised (``ID EPOCH``, or the id alone)."""
        guard = message.partition(" ")[0]
        if ids.is_id(guard, ids.WorkloadId):
            self._changes += 1
            self._known.pop(guard)

    def forget(self) -> None:
        """Read everything again: messages may have been missed."""
        self._changes += 1
        self._known.clear()

    async def _read(self, workload: WorkloadId) -> _Known:
        at, changes = self._clock(), self._changes
        async with self._db.read(EVERY_TENANT) as session:
            row = await session.get(WorkloadRow, workload)
        known = _Known(row is not None and row.genuine and row.state == Validity.ACTIVE, at)
        if changes == self._changes:  # else this may be older than what was heard meanwhile
            self._known[workload] = known
        return known
