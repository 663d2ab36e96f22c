"""Calls under way, and how they are cut: also by a revocation that another replica answers.

Three parts hold the promise that no byte passes once a revocation was answered:

* every replica compares, ten times a second, the epochs that its calls rely on with the stored ones, and cuts those
  whose decision no longer stands;
* a call may pass bytes only while its last such comparison began less than :data:`FENCE_S` ago, so a replica that
  can't reach the database stops by itself (a lease in the sense of Gray and Cheriton, 1989);
* whoever revokes waits, before answering, until no call under it is open on the record, or until the fence has passed
  for every replica.

A process that is told to end ends its calls in the same way, after a while in which they may end by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import or_, select

from broker.audit.guards import epochs_of
from broker.base.db import EVERY_TENANT
from broker.base.errors import BrokerError, TooLarge, Unavailable
from broker.formats.ids import IssuerEraId, TrustId, WorkloadId, is_id
from broker.leases.lease import Lease
from broker.leases.leasing import LeaseDenied, Leasing, key_revoked
from broker.leases.snapshot import SnapshotCache
from broker.leases.tables import LeaseRow, UseRow
from broker.parts import Parts

_log = structlog.get_logger()

CHECK_S = 0.1
FENCE_S = 1.0
_PATIENCE_S = 5.0
# How long calls that were cut may take to put their outcome on the record.
_CUT_S = 1.0
_ENDING = "This broker is ending; send the call again, which another one will take."


class TookTooLong(Unavailable):
    """The call ran, or stood still, for longer than a call may."""

    status = 504
    code = "call_timeout"
    title = "The call took too long"


class BrokerEnding(Unavailable):
    """The process that carries the call was told to end."""

    code = "broker_ending"
    title = "This broker is ending"


class TooManyCalls(Unavailable):
    """This broker has as many calls under way as it may."""

    code = "too_many_calls"
    title = "Too many calls at once"


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call, and all of a process together, may take.  Times in seconds, sizes in bytes.

    ``share`` is the part of all calls that one workload may have under way, so that it leaves some to the others.
    ``drain_seconds`` is how long calls under way may go on once the process was told to end.
    """

    calls: int = 1_000
    share: float = 0.25
    seconds: float = 900
    idle_seconds: float = 120
    bytes_each_way: int = 5 * 1024**3
    drain_seconds: float = 8


class InFlightCall:
    """One call under way: what it relies on, and whether it may still pass bytes.

    It is under way while its context is open.  The task that opened it is the one that a cut ends.
    """

    __slots__ = (
        "_calls", "_cancelled_before", "_cutting", "_lease", "_struck", "_task",
        "began", "confirmed", "guards", "moved", "over", "version",
    )  # fmt: skip

    def __init__(self, calls: InFlightCalls, lease: Lease) -> None:
        self._calls = calls
        self._lease = lease
        self._task: asyncio.Task[None] | None = None
        self._cutting: asyncio.Handle | None = None
        self._struck = False
        self.guards: Mapping[str, int] = {}
        self.version = 0
        self.over: BrokerError | None = None
        self.began = self.confirmed = self.moved = time.monotonic()

    def __enter__(self) -> InFlightCall:
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelled_before = task.cancelling()
        # call (5) from here on it can be cut
        self._calls.entered(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._calls.left(self)
        task, self._task = self._task, None
        if self._cutting is None:
            return
        self._cutting.cancel()
        if self._struck and task is not None and task.uncancel() <= self._cancelled_before:
            assert self.over is not None
            if kind is asyncio.CancelledError:
                raise self.over from None

    @property
    def lease(self) -> Lease:
        """The lease that it is under, as last looked at; :meth:`depends_on` alone sets another."""
        return self._lease

    def depends_on(self, lease: Lease, version: int, guards: Mapping[str, int], since: float) -> None:
        """Note what the decision relied on, known to have held at ``since`` (monotonic) or later.

        ``version`` is that of the used key, which needn't be the one that the lease was issued for.  It is 0 while no
        key is used.
        """
        self._lease, self.version, self.guards, self.confirmed = lease, version, guards, since

    def moves(self) -> None:
        """Note that something came or went: the call is not silent."""
        self.moved = time.monotonic()

    def cut(self, reason: BrokerError) -> None:
        """End the call now, wherever it waits."""
        if self.over is None and self._task is not None:
            self.over = reason
            # Not at once: it may be the call's own task that finds out.
            self._cutting = asyncio.get_running_loop().call_soon(self._strike, self._task)

    def _strike(self, task: asyncio.Task[None]) -> None:
        self._struck = True
        task.cancel()

    async def gate(self) -> None:
        """Pass before every byte; raises the reason once the call was cut."""
        self.moved = time.monotonic()
        if self.over is None and self.moved - self.confirmed >= FENCE_S:
            await self._calls.confirm(self)
        if self.over is not None:
            raise self.over

    def passed(self, total: int) -> None:
        """Hold the cap: ``total`` bytes have come one way."""
        if total > self._calls.limits.bytes_each_way:
            cap = self._calls.limits.bytes_each_way
            self.over = self.over or TooLarge(f"A call may carry {cap} bytes each way; send or ask for less at once.")
            raise self.over


class InFlightCalls:
    """The calls under way in this process; ``of_workload`` counts them by job."""

    def __init__(self, parts: Parts, leasing: Leasing, snapshots: SnapshotCache, limits: CallLimits) -> None:
        self._db, self._clock = parts.db, parts.clock
        self._leasing, self._snapshots = leasing, snapshots
        self.limits = limits
        # In the order in which they began, so one timer, for the oldest, does for all.
        self._open: dict[InFlightCall, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.of_workload: Counter[WorkloadId] = Counter()
        self._wake = asyncio.Event()
        self._stopped = False
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[InFlightCall]:
        return iter(self._open)

    def enter(self, lease: Lease) -> InFlightCall:
        """A call under this lease, for as long as its context is open.

        Raises:
            TooManyCalls: before the call is entered.
            BrokerEnding, TookTooLong, or the reason why the call was cut: at any time.
        """
        if self._ended:
            raise BrokerEnding(_ENDING, retry_after=1)
        if len(self._open) >= self.limits.calls:
            raise TooManyCalls("This broker has as many calls under way as it may; try again.", retry_after=1)
        if self.of_workload.get(lease.workload_id, 0) >= max(1, int(self.limits.calls * self.limits.share)):
            raise TooManyCalls("This workload has as many calls under way as it may; let some end.", retry_after=1)
        return InFlightCall(self, lease)

    def entered(self, call: InFlightCall) -> None:
        """Count a call, and limit its time."""
        workload = call.lease.workload_id
        self._open[call] = None
        self.of_workload[workload] = self.of_workload.get(workload, 0) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.limits.seconds, self._end_overdue)

    def left(self, call: InFlightCall) -> None:
        """Count a call no more."""
        workload = call.lease.workload_id
        del self._open[call]
        if self.of_workload[workload] > 1:
            self.of_workload[workload] -= 1
        else:
            del self.of_workload[workload]

    def _end_overdue(self) -> None:
        now, self._timer = time.monotonic(), None
        for call in self._open:
            seconds = call.began + self.limits.seconds - now
            if seconds > 0:
                self._timer = asyncio.get_running_loop().call_later(seconds, self._end_overdue)
                return
            call.cut(TookTooLong(f"A call may take {self.limits.seconds:g} seconds; ask for less at once."))

    async def drained(self, *cut: str) -> None:
        """Return once no call that relies on one of these ids can pass a byte, on any replica.

        Call it after the transaction that revoked them and before answering.
        """
        self._wake.set()
        deadline = time.monotonic() + FENCE_S + CHECK_S
        while await self.any_on_record(cut):
            if time.monotonic() >= deadline:  # a replica died, or can't reach the database
                _log.warning("proxy.cut_by_fence")
                return
            await asyncio.sleep(CHECK_S / 10)

    async def end(self, drain_seconds: float) -> None:
        """Let calls under way go on for so long, then cut them and take no more.  Idempotent.

        This returns once no call is left.  Then each has its outcome on the record, or on its way there.
        """
        await self._none_left(drain_seconds)
        self._ended = True
        for call in list(self._open):
            call.cut(BrokerEnding(_ENDING, retry_after=1))
        await self._none_left(_CUT_S)

    async def _none_left(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._open and time.monotonic() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(CHECK_S / 10)

    def stop(self) -> None:
        """Let :meth:`watch` end once its present comparison is done."""
        self._stopped = True
        self._wake.set()
        if self._timer is not None:
            self._timer.cancel()

    async def watch(self) -> None:
        """Keep comparing until stopped."""
        while not self._stopped:
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if not self._open:
                continue
            try:
                await self.compare(list(self._open))
            except Exception as error:  # noqa: BLE001 - the fence stops what can't be confirmed
                _log.warning("proxy.flights_not_confirmed", error=type(error).__name__)

    async def confirm(self, call: InFlightCall) -> None:
        """Wait until the call's guards were compared lately; cuts the call if they can't be."""
        deadline = time.monotonic() + _PATIENCE_S
        while call.over is None and time.monotonic() - call.confirmed >= FENCE_S:
            if time.monotonic() > deadline:
                call.cut(Unavailable("Whether this call may go on can't be confirmed just now; try again."))
                return
            self._wake.set()
            await asyncio.sleep(CHECK_S / 2)

    async def compare(self, calls: list[InFlightCall]) -> None:
        """Compare what these calls rely on with the database; cuts those that may not go on."""
        began, now = time.monotonic(), self._clock()
        relied = [(call, call.guards) for call in calls]
        guards = {guard for _, each in relied for guard in each}
        async with self._db.read(EVERY_TENANT) as session:
            present = await epochs_of(session, guards)
        changed = []
        for call, looked_at in relied:
            stands = self._leasing.counted(call.lease).stands(now)
            if began - call.moved > self.limits.idle_seconds:
                idle = self.limits.idle_seconds
                call.cut(TookTooLong(f"Nothing has moved for {idle:g} seconds; the call was ended."))
            elif call.guards is not looked_at:  # it was decided on again meanwhile, so it is compared the next time
                continue
            elif not stands or any(present[id_] != epoch for id_, epoch in looked_at.items()):
                changed.append(call)
            else:
                call.confirmed = max(call.confirmed, began)
        # Last, and all at once: the other calls don't wait for those that a revocation ends, however many.
        await asyncio.gather(*(self._decide_again(call, began) for call in changed))

    async def _decide_again(self, call: InFlightCall, began: float) -> None:
        """Decide on a call again, whose epoch moved or whose lease's time has passed.

        The lease may have been renewed, or another grant given.
        """
        try:
            lease = await self._leasing.looked_again(call.lease)
            if not lease.stands(self._clock()):  # renewed in its last moment, after it was read?
                lease = await self._leasing.find(lease.id)
            lease, snapshot = await self._leasing.snapshot_of(lease)
            if call.version and call.version not in snapshot.keys.usable:
                raise LeaseDenied(key_revoked(snapshot))
        except BrokerError as reason:
            call.cut(reason)
        else:
            call.depends_on(lease, call.version, self._leasing.guards_of(lease, snapshot), began)

    async def any_on_record(self, cut: tuple[str, ...]) -> bool:
        """Whether a use under one of these is open on the record, in whichever process."""
        columns = (
            UseRow.organization_id,
            UseRow.credential_id,
            UseRow.grant_id,
            UseRow.workload_id,
            UseRow.lease_id,
        )
        query = select(UseRow.id).where(or_(*(column.in_(cut) for column in columns)))
        if proofs := [one for one in cut if is_id(one, TrustId) or is_id(one, IssuerEraId)]:
            under = [LeaseRow.via.contains(one) for one in proofs]
            query = select(UseRow.id).join(LeaseRow, LeaseRow.id == UseRow.lease_id).where(or_(*under))
        async with self._db.read(EVERY_TENANT) as session:
            return await session.scalar(query.limit(1)) is not None
