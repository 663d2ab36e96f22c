"""Periodic work: ask upstreams and customers, close what has ended, forget what is spent.

Work that can't be undone rests while the time isn't believed (:mod:`broker.audit.timekeeping`), and after a restore
until somebody has confirmed what it brought back.  Each duty says here which kind it is.  Notices go on: what is sent
was decided earlier.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog
from sqlalchemy import delete, func, select
from structlog.contextvars import bound_contextvars

from broker.audit.events import BROKER, Event
from broker.audit.log import AuditLog
from broker.audit.series import unconfirmed
from broker.audit.tables import BatchRow
from broker.audit.timekeeping import OK, Timekeeping
from broker.base.clock import DAY_MS, Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.election import Election
from broker.care.health import HealthCheck
from broker.credentials.revocation import revoke_rest
from broker.credentials.tables import VersionRow
from broker.credentials.verification import Verification
from broker.identity.tables import AssertionRow
from broker.intake.challenges import Challenges
from broker.intake.links import expire_due
from broker.intake.submission import Submissions
from broker.intake.throttle import Throttle
from broker.keystore.orphans import sweep
from broker.leases.tables import UseRow
from broker.notifications.outbox import Outbox
from broker.proxy.use import COMPLETE_USE
from broker.rotations.minting import Minting
from broker.rotations.requests import Rotating
from broker.rotations.retirement import retirable, retire
from broker.rotations.revocation_check import RevocationCheck
from broker.rotations.schedule import ask_for_due, notify_overdue
from broker.web.tables import IdempotencyRow

_log = structlog.get_logger()

# Looking for keys whose time has come reads every key in use.
_AGES_MS = 600_000
_COUNT_MS = 60_000
# So many keys of one provider are asked about at once.
_AT_ONCE = 5
# How soon another process takes over from one that died.
_STAND_BY_S = 1.0
# How often notices are looked for.
_TELL_S = 1.0
# No piece holds up the others for longer, whatever it waits for; what was left undone falls due again.
_PIECE_S = 300.0


class _Duty(NamedTuple):
    """A piece of work.

    It is ``final`` if the time, or what the database holds, decides on what can't be undone.
    """

    work: Callable[[], Awaitable[None]]
    final: bool = False


@dataclass(frozen=True, slots=True)
class Worker:
    """The work of one process at a time; every piece is safe to run on several at once."""

    db: Database
    audit: AuditLog
    verification: Verification
    health: HealthCheck
    revocation_check: RevocationCheck
    minting: Minting
    rotating: Rotating
    outbox: Outbox
    submissions: Submissions
    throttle: Throttle
    challenges: Challenges
    clock: Clock
    timekeeping: Timekeeping
    lost_after_ms: int
    rotation_ahead_days: int
    election: Election
    interval: float = 5.0
    done_at: dict[str, int] = field(default_factory=dict)
    # For metrics: versions of keys by state and health, and values in Vault that are yet to be destroyed.
    keys: dict[tuple[str, ...], float] = field(default_factory=dict)
    orphans: dict[tuple[str, ...], float] = field(default_factory=dict)

    async def run(self) -> None:
        """Work until cancelled, while no other process does.

        A fault in one piece is tried again next time.
        """
        notifying = asyncio.create_task(self._notify(), name="outbox")
        try:
            while True:
                if self.audit.closed is None and await self.election.holds():
                    await self._each(self._duties)
                    await asyncio.sleep(self.interval)
                else:
                    self._stand_by()
                    await asyncio.sleep(_STAND_BY_S)
        finally:
            notifying.cancel()
            await asyncio.gather(notifying, return_exceptions=True)
            self.election.leave()

    async def _notify(self) -> None:
        """Send notices beside everything else, so that a slow receiver holds up neither."""
        while True:
            if self.election.leads and self.audit.closed is None:
                await self._each((_Duty(self.outbox.work),))
            await asyncio.sleep(_TELL_S)

    def _stand_by(self) -> None:
        """Leave the counting to another process.

        What this one counted is old.  It counts at once when its turn comes again.
        """
        self.keys.clear()
        self.orphans.clear()
        self.done_at.pop("count", None)

    async def once(self) -> None:
        """Every piece of work, once."""
        await self._each((*self._duties, _Duty(self.outbox.work)))

    @property
    def _duties(self) -> tuple[_Duty, ...]:
        return (
            _Duty(self.verify_due),  # the upstream decides; until it does, it is asked again
            _Duty(self.check_health),  # likewise; the next check may say otherwise
            _Duty(self.confirm_revocations, final=True),  # customers are asked to revoke, by how long it took
            _Duty(self.make_keys, final=True),  # keys are made and revoked upstream
            _Duty(self.retire_due, final=True),  # a key is revoked, and destroyed
            _Duty(self.ask_for_due, final=True),  # customers are asked for keys, operators notified of late ones
            _Duty(self.cut_off_rest),  # what an operator has cut off, whatever the time
            _Duty(self.expire_links, final=True),  # private keys are destroyed; a link opened meanwhile is refused
            _Duty(self.close_lost_uses, final=True),  # an outcome that comes later is not taken
            _Duty(self.sweep_orphans, final=True),  # values are destroyed
            _Duty(self.forget, final=True),  # what was used once could be used again
            _Duty(self.count),
        )

    async def _each(self, duties: Iterable[_Duty]) -> None:
        for work, final in duties:
            with bound_contextvars(piece=work.__name__):
                try:
                    async with asyncio.timeout(_PIECE_S):
                        if not final or not await self._rests():
                            await work()
                except Exception:  # noqa: BLE001 - the next piece and the next round must still run
                    _log.exception("worker.failed")

    async def _rests(self) -> bool:
        """Whether work that can't be undone has to wait.

        It waits for the right time, or until people have seen what a restore brought back.
        """
        if await self.timekeeping.look() != OK:
            return True
        async with self.db.read(EVERY_TENANT) as session:
            return await unconfirmed(session)

    async def verify_due(self) -> None:
        """Ask upstreams again about keys that they could not answer for.

        It asks together, so that one slow upstream delays none.
        """
        await _together(
            "verification",
            *(
                self.verification.or_later(
                    row,
                    self.verification.run(row.organization_id, row.credential_id, row.number, self.submissions.settle),
                )
                for row in await self.verification.due()
            ),
        )

    async def check_health(self) -> None:
        """Ask upstreams about keys in use.

        Those are the keys that a job's call made suspect, and all on a schedule.
        """
        if not self._resting("catch_up", _AGES_MS):
            await self.health.catch_up()
        later = self.verification.or_later
        await _in_turn("health", await self.health.due(), lambda row: later(row, self.health.probe(row)))

    async def confirm_revocations(self) -> None:
        """Ask upstreams whether keys that are out of use here are dead there too."""
        later = self.verification.or_later
        await _in_turn(
            "confirmation", await self.revocation_check.due(), lambda row: later(row, self.revocation_check.probe(row))
        )

    async def make_keys(self) -> None:
        """Carry on rotations whose keys the provider's own API makes."""
        await _together(
            "minting", *(self.minting.carry_on(row, self.submissions.settle) for row in await self.minting.due())
        )

    async def retire_due(self) -> None:
        """Retire old keys that nobody holds any more, or that have expired."""
        due = await retirable(self.db, self.clock)
        await _together("retirement", *(retire(self.db, self.clock, row) for row in due))

    def _resting(self, piece: str, interval: int) -> bool:
        """Whether a piece was done less than ``interval`` milliseconds ago.

        Otherwise it counts as done now.
        """
        now = self.clock()
        if abs(now - self.done_at.get(piece, -interval)) < interval:
            return True
        self.done_at[piece] = now
        return False

    async def count(self) -> None:
        """Count keys for metrics; every minute."""
        self.done_at["round"] = self.clock()
        if self._resting("count", _COUNT_MS):
            return
        async with self.db.read(EVERY_TENANT) as session:
            rows = await session.execute(
                select(VersionRow.state, VersionRow.health, func.count()).group_by(VersionRow.state, VersionRow.health)
            )
            found: dict[tuple[str, ...], float] = {(state, health): count for state, health, count in rows}
        self.keys.clear()
        self.keys.update(found)

    async def ask_for_due(self) -> None:
        """Ask customers for new keys ahead of time, and notify of late ones; every ten minutes."""
        if self._resting("ask_for_due", _AGES_MS):
            return
        await ask_for_due(self.db, self.rotating, self.clock, ahead_days=self.rotation_ahead_days)
        await notify_overdue(self.db, self.rotating.catalog, self.clock)

    async def cut_off_rest(self) -> None:
        """Cut off credentials that an organization which was cut off still has; every ten minutes."""
        if not self._resting("cut_off_rest", _AGES_MS):
            await revoke_rest(self.db, self.clock)

    async def expire_links(self) -> None:
        """Close links that have expired."""
        while await expire_due(self.db, self.clock):
            pass

    async def close_lost_uses(self) -> None:
        """Close uses whose outcome never came: the process that made them died."""
        before = self.clock() - self.lost_after_ms
        async with self.db.read(EVERY_TENANT) as session:
            rows = list(
                await session.scalars(
                    select(UseRow).where(UseRow.completed_at.is_(None), UseRow.authorized_at < before).limit(500)
                )
            )
        for row in rows:
            now = self.clock()
            event = Event(
                kind="use.outcome_unknown",
                time=now,
                actor=BROKER,
                organization=row.organization_id,
                credential=row.credential_id,
                version=row.version,
                workload=row.workload_id,
                lease=row.lease_id,
                use=row.id,
            )
            await self.audit.append(event, writes=[(COMPLETE_USE, {"use": row.id, "at": now, "answer": None})])

    async def sweep_orphans(self) -> None:
        """Destroy values in Vault that no row refers to any more."""
        self.orphans[()] = await sweep(self.db, self.verification.keystore, self.clock())

    async def forget(self) -> None:
        """Drop what only mattered for a while.

        Used assertions are dropped a day late, so that no clock makes them fresh again.
        """
        now = self.clock()
        await self.throttle.forget()
        await self.challenges.forget()
        async with self.db.write(EVERY_TENANT) as session:
            await session.execute(delete(AssertionRow).where(AssertionRow.expires_at < now - DAY_MS))
            await session.execute(delete(IdempotencyRow).where(IdempotencyRow.expires_at < now))
            await session.execute(delete(BatchRow).where(BatchRow.time < now - DAY_MS))


async def _in_turn(piece: str, rows: Sequence[VersionRow], work: Callable[[VersionRow], Awaitable[bool]]) -> None:
    """Work on each row, a few of a provider at once.

    Once an upstream gives no answer, the rest of its rows wait.
    """
    waiting: defaultdict[str, deque[VersionRow]] = defaultdict(deque)
    for row in rows:
        waiting[row.provider].append(row)

    async def lane(queue: deque[VersionRow]) -> None:
        while queue:
            if not await work(queue.popleft()):
                queue.clear()

    await _together(piece, *(lane(queue) for queue in waiting.values() for _ in range(min(len(queue), _AT_ONCE))))


async def _together(piece: str, *work: Awaitable[object]) -> None:
    """Do all of the work at once.  What fails is logged and falls due again."""
    for failure in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(failure, Exception):
            _log.error("worker.failed", piece=piece, error=type(failure).__name__)
