"""The one door for everything that reveals or uses a secret: ``append(event, guards)``.

Events queue in the process and are written in groups: whatever queued while the last commit ran is the next batch.
There is no fixed wait.  When ``append`` returns, the event is durable, its guards held at that moment, and the rows
that belong to it were written in the same transaction.  When it raises, nothing may be revealed or used.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import structlog
from sqlalchemy import Executable, insert

from broker.audit.durability import Durability
from broker.audit.events import Event
from broker.audit.guards import epochs, raise_epochs
from broker.audit.quota import Exhausted, Quota, keep, numbers
from broker.audit.record import Receipt, insert_events, lock_head
from broker.audit.tables import BatchRow
from broker.base import storable
from broker.base.clock import Clock, Millis, now_ms
from broker.base.db import Database, table
from broker.base.errors import Unavailable
from broker.base.faults import is_away, is_contradiction, is_refused_value
from broker.base.statements import Transaction, execute_many
from broker.base.tracing import span
from broker.formats.audit_event import Committed

_log = structlog.get_logger()

BATCH_MAX = 256
QUEUE_MAX = 4_096
_IDLE_TURNS = 4
# An event that nobody waits for goes along with the next batch, or after so long in one of its own.
_POSTED_WAIT_S = 0.01


class AuditUnavailable(Unavailable):
    """The event could not be made durable in time, so the answer is no."""

    code = "audit_unavailable"
    title = "The audit record can't be written just now"


class DatabaseBehind(AuditUnavailable):
    """The database holds less than was recorded: it was restored from a backup.

    Nothing is done on it.
    """

    code = "database_behind"
    title = "The database was restored from a backup"

    def __init__(self, public: str = "") -> None:
        super().__init__(public or "An operator has to look at it first: `broker restored`, on the server.")


class GuardMoved(Exception):
    """Something that the decision relied on has changed since.  Never shown to a caller.

    Decide again on fresh state.
    """


class RowRefused(Exception):
    """The event's own rows contradict stored ones (an id in use).  Never shown to a caller.

    Nothing was written.
    """


Write = tuple[Executable, Mapping[str, Any]]


@dataclass(slots=True, eq=False)
class _Waiting:
    event: Event
    committed: Committed
    guards: Mapping[str, int]
    writes: Sequence[Write]
    raises: Sequence[str]
    quotas: Sequence[Quota]
    done: asyncio.Future[Receipt]
    abandoned: Callable[[], None] | None = None


class AuditLog:
    """The batcher of one process.  ``deadline`` is in seconds."""

    def __init__(self, db: Database, *, deadline: float = 2.0, clock: Clock = now_ms) -> None:
        self._db = db
        self.deadline = deadline
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._writing = False
        self._due: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self.durability = Durability(db, deadline, clock)
        # Set once the database is known to have lost events: from then on nothing is recorded, so nothing is done.
        self.closed: DatabaseBehind | None = None
        # How many events there were at least: a database with fewer was restored under this process.
        self.floor = 0
        # For metrics: what was committed in how many batches and how long that took, and who was refused as late.
        self.committed = self.batches = self.late = 0
        self.seconds = 0.0

    async def start(self) -> None:
        """Begin to write."""
        self._writer = asyncio.create_task(self._write_batches(), name="audit-writer")

    async def stop(self) -> None:
        """Stop writing once what waits is written, or once the deadline has passed.

        What still waits then is refused.
        """
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.deadline):
                    while self._queue or self._writing:  # noqa: ASYNC110 - once, at the end
                        await asyncio.sleep(0.005)
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        for waiting in self._queue:
            _refuse(waiting, AuditUnavailable("The broker is shutting down; try again."))
        self._queue.clear()
        await self.durability.stop()

    @property
    def dialect(self) -> str:
        """The database's dialect, for statements that differ."""
        return self._db.dialect

    @property
    def depth(self) -> int:
        """How many events wait."""
        return len(self._queue)

    async def append(
        self,
        event: Event,
        guards: Mapping[str, int] | None = None,
        writes: Sequence[Write] = (),
        raises: Sequence[str] = (),
        quotas: Sequence[Quota] = (),
        abandoned: Callable[[], None] | None = None,
    ) -> Receipt:
        """Make ``event`` durable with its ``writes``, if its guards hold.

        Every guard must still have the epoch that the decision saw.

        Args:
            event: what is about to happen, or was refused.
            guards: ids and the epochs (from one snapshot) that the decision relied on.
            writes: statements and parameters for rows that belong to the event.
            raises: ids whose epoch this event raises, which ends whatever relies on them.
            quotas: what this event takes one of each from, all or none.
            abandoned: called if this call was cancelled or gave up, and its event became durable after all.

        Raises:
            GuardMoved: nothing was written; decide again.
            Exhausted: nothing was written; a quota is used up.
            RowRefused: nothing was written; ``writes`` contradict stored rows.
            Unstorable: nothing was written; a value can't be kept.
            AuditUnavailable: not known to be durable within the deadline; answer no.
        """
        if self.closed is not None:
            raise self.closed
        if len(self._queue) >= QUEUE_MAX:
            raise AuditUnavailable("Too many events wait to be recorded; try again shortly.", retry_after=1)
        guards = guards or {}
        _check(writes, chain(guards, raises, (quota.id for quota in quotas)))
        # lease (9) event and row, durable together or not at all
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        # call (9) the use, before its key is opened
        self._queue.append(_Waiting(event, event.committed(), guards, writes, raises, quotas, done, abandoned))
        self._arrived.set()
        try:
            with span("audit.append"):
                async with asyncio.timeout(self.deadline):
                    return await done
        except TimeoutError:
            self.late += 1
            raise AuditUnavailable("The event could not be recorded in time; try again.", retry_after=1) from None

    def post(self, event: Event, writes: Sequence[Write] = ()) -> bool:
        """Put what has already happened on the record, without waiting for it.

        It keeps the order of appends.

        Returns:
            False if too much waits already: then nothing will be written.

        Raises:
            Unstorable: nothing will be written; a value can't be kept.
        """
        if len(self._queue) >= QUEUE_MAX or self.closed is not None:
            return False
        _check(writes, ())
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_note_refusal)
        self._queue.append(_Waiting(event, event.committed(), {}, writes, (), (), done))
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_POSTED_WAIT_S, self._write_posted)
        return True

    def _write_posted(self) -> None:
        self._due = None
        if self._queue:
            self._arrived.set()

    async def _write_batches(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            batch = self._next_batch()
            if batch:
                self._writing = True
                await self._commit(batch)
                self._writing = False

    async def _gather(self) -> None:
        """Let those that are under way already in these turns of the loop share the commit.

        There is no wait in time.  Without this the first to arrive pays for a commit alone while its neighbours'
        requests are still being read.
        """
        idle, seen = 0, len(self._queue)
        while idle < _IDLE_TURNS and seen < BATCH_MAX:
            await asyncio.sleep(0)
            idle = idle + 1 if len(self._queue) == seen else 0
            seen = len(self._queue)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._queue and len(batch) < BATCH_MAX:
            waiting = self._queue.popleft()
            if not waiting.done.done():  # its caller gave up before anything was sent
                batch.append(waiting)
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Commit a batch, again with the same batch id while the database is away.

        That ends once nobody waits any more.  A COMMIT whose answer was lost may have happened: the batch row, read
        under the head lock, tells.
        """
        attempt, began = _Attempt(batch, str(uuid.uuid4()), self._clock(), self.floor), time.perf_counter()
        while any(not waiting.done.done() for waiting in batch):
            try:
                await self._db.transact(attempt.write)
            except Exception as error:  # noqa: BLE001 - the writer outlives a defect; its caller is answered no
                if isinstance(error, DatabaseBehind):
                    self.closed = error
                if is_away(error):
                    attempt.repeated = True
                    self.durability.failed()
                    await asyncio.sleep(0.05)
                    continue
                await self._refused(batch, error)
                return
            attempt.settle()
            self.floor = max(self.floor, attempt.size)
            self.durability.held()
            self.batches, self.committed = self.batches + 1, self.committed + len(batch)
            self.seconds += time.perf_counter() - began
            return

    async def _refused(self, batch: list[_Waiting], error: Exception) -> None:
        """Find whose event was refused, by halves, and refuse that one alone.

        What is refused once is refused again.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._commit(batch[:middle])
            await self._commit(batch[middle:])
        else:
            _refuse(batch[0], _answer_to(error))


class _Attempt:
    """One batch on its way, and what it decided when it last reached its COMMIT."""

    def __init__(self, batch: list[_Waiting], batch_id: str, time: Millis, floor: int) -> None:
        self.repeated = False
        self.size = 0
        self._floor = floor
        self._batch = batch
        self._id = batch_id
        self._time = time
        self._accepted: list[_Waiting] = []
        self._receipts: list[Receipt] = []
        self._exhausted: dict[int, Exhausted] = {}

    def write(self, transaction: Transaction) -> None:
        head = lock_head(transaction)
        if head.size < self._floor:
            raise DatabaseBehind
        if self.repeated and _committed_before(transaction, self._id):
            return
        present = epochs(transaction, {guard for waiting in self._batch for guard in waiting.guards})
        before = numbers(transaction, {quota.id for waiting in self._batch for quota in waiting.quotas})
        after = dict(before)
        self._exhausted = {}
        self._accepted = [waiting for waiting in _standing(self._batch, present) if self._takes(waiting, after)]
        self._receipts = []
        if not self._accepted:
            return
        if changed := {name: value for name, value in after.items() if value != before[name]}:
            keep(transaction, changed)
        batch = {"id": self._id, "base": head.size, "count": len(self._accepted), "time": self._time}
        execute_many(transaction, _INSERT_BATCH, [batch])
        self.size = head.size + len(self._accepted)
        self._receipts = insert_events(
            transaction, head, [(waiting.event, waiting.committed) for waiting in self._accepted]
        )
        for statement, rows in _grouped(self._accepted).items():
            execute_many(transaction, statement, rows)
        raise_epochs(transaction, {guard for waiting in self._accepted for guard in waiting.raises})

    def _takes(self, waiting: _Waiting, after: dict[str, int]) -> bool:
        """Take from every quota of an event, or from none."""
        try:
            after |= {quota.id: quota.take(after[quota.id], waiting.event.time) for quota in waiting.quotas}
        except Exhausted as exhausted:
            self._exhausted[id(waiting)] = exhausted
            return False
        return True

    def settle(self) -> None:
        """Tell every caller what the committed transaction decided."""
        for waiting, receipt in zip(self._accepted, self._receipts, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(receipt)
            elif waiting.abandoned is not None:
                waiting.abandoned()
        for waiting in self._batch:
            _refuse(waiting, self._exhausted.get(id(waiting)) or GuardMoved())


_INSERT_BATCH = insert(table(BatchRow))


def _standing(batch: Sequence[_Waiting], present: Mapping[str, int]) -> list[_Waiting]:
    """The events whose guards hold, also against what earlier events of the batch raise."""
    standing: list[_Waiting] = []
    raised: set[str] = set()
    for waiting in batch:
        if all(present[guard] == epoch and guard not in raised for guard, epoch in waiting.guards.items()):
            standing.append(waiting)
            raised.update(waiting.raises)
    return standing


def _committed_before(transaction: Transaction, batch_id: str) -> bool:
    placeholder = "$1" if transaction.dialect.name == "postgresql" else "?"
    return bool(transaction.rows(f"SELECT id FROM audit_batches WHERE id = {placeholder}", (batch_id,)))  # noqa: S608 - no input in it


def _grouped(accepted: Sequence[_Waiting]) -> dict[Executable, list[Mapping[str, Any]]]:
    groups: dict[Executable, list[Mapping[str, Any]]] = {}
    for waiting in accepted:
        for statement, row in waiting.writes:
            groups.setdefault(statement, []).append(row)
    return groups


def _check(writes: Sequence[Write], names: Iterable[str]) -> None:
    """The last look at what an event brings, before its batch depends on it.

    Raises:
        Unstorable: a value can't be kept.
    """
    for _, row in writes:
        storable.check(row.values())
    storable.check(names)


def _answer_to(error: Exception) -> Exception:
    """What the caller is told of an event that the database refused, while it is there."""
    if is_contradiction(error):
        return RowRefused()
    if isinstance(error, (storable.Unstorable, DatabaseBehind)):
        return error
    if is_refused_value(error):
        return storable.Unstorable()
    _log.error("audit.event_refused", error=type(error).__name__, exc_info=error)
    return AuditUnavailable("The event could not be recorded.")


def _note_refusal(done: asyncio.Future[Receipt]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.error("audit.not_recorded", error=type(error).__name__)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)
