"""Which jobs stand, and what their access tokens stand on beside them.

Every request that a job's access token establishes asks this, so it is answered from memory.  An access token lasts for
minutes after its job, or its trust, was revoked.  Uses and leases are decided under guards, which see that at once.
This is for everything else that a token opens.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.guards import epochs_of
from broker.base.clock import Clock, Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Forbidden
from broker.base.recent import Recent
from broker.base.validity import Validity
from broker.formats import ids
from broker.identity.principal import Workload
from broker.identity.tables import WorkloadRow

_REMEMBERED = 20_000
# Invalidation messages may be lost with a connection: nothing is believed for longer.
_FRESH_MS = 1_000


class JobRevoked(Forbidden):
    """The job whose token this is was revoked."""

    code = "workload_revoked"

    def __init__(self) -> None:
        super().__init__("This workload was revoked; ask an operator to register it again.")


class TrustOver(Forbidden):
    """The trust that this token was given for, or its issuer, counts no more."""

    code = "trust_over"

    def __init__(self) -> None:
        super().__init__(
            "The trust by which this workload proved itself was revoked or is over, or its issuer was suspended. An "
            "admin sees which: `broker trust list`."
        )


class _Known(NamedTuple):
    active: bool
    at: Millis


class Jobs:
    """The state of jobs and of what their tokens stand on, the most recently read ones kept."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known = Recent[str, _Known](_REMEMBERED)
        self._changes = 0

    async def check(self, workload: Workload) -> None:
        """Return if the workload stands, and all that its token stands on.

        Raises:
            JobRevoked, TrustOver: it was revoked here, or elsewhere a second ago; sooner if a message of it came.
        """
        if not await self._stands(workload.id):
            raise JobRevoked
        for guard in workload.via:
            if not await self._stands(guard):
                raise TrustOver

    async def _stands(self, guard: str) -> bool:
        known = self._known.get(guard)
        if known is None or not 0 <= self._clock() - known.at < _FRESH_MS:
            known = await self._read(guard)
        return known.active

    def heard(self, message: str) -> None:
        """Note that a guard was raised (``ID EPOCH``, or the id alone)."""
        guard = message.partition(" ")[0]
        if any(ids.is_id(guard, kind) for kind in (ids.WorkloadId, ids.TrustId, ids.IssuerEraId)):
            self._changes += 1
            self._known.pop(guard)

    def forget(self) -> None:
        """Read everything again: messages may have been missed."""
        self._changes += 1
        self._known.clear()

    async def _read(self, guard: str) -> _Known:
        at, changes = self._clock(), self._changes
        async with self._db.read(EVERY_TENANT) as session:
            known = _Known(await _active(session, guard), at)
        if changes == self._changes:  # else this may be older than what was heard meanwhile
            self._known[guard] = known
        return known


async def _active(session: AsyncSession, guard: str) -> bool:
    if not ids.is_id(guard, ids.WorkloadId):
        return (await epochs_of(session, [guard]))[guard] == 0
    row = await session.get(WorkloadRow, guard)
    return row is not None and row.genuine and row.state == Validity.ACTIVE
