"""The one door for everything that reveals or uses a secret: ``append(event, guards)``.

Events queue in the process and are written in groups: whatever queued while the last commit ran is the next batch.
There is no fixed wait.  When ``append`` returns, the event is durable, its guards held at that moment, and the rows
that belong to it were written in the same transaction.  When it raises, nothing may be revealed or used.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import structlog
from sqlalchemy import Executable

from broker.audit.batch import Batch, Commits, Decided, Piece, Written, values_of
from broker.audit.durability import Durability
from broker.audit.events import Event
from broker.audit.guards import raising
from broker.audit.on_postgresql import PostgresCommits
from broker.audit.on_sqlite import SqliteCommits
from broker.audit.quota import Quota
from broker.audit.subjects import Whose, of_process
from broker.audit.through_parent import ThroughParent
from broker.audit.unavailable import AuditUnavailable, DatabaseBehind
from broker.base import storable
from broker.base.db import Database
from broker.base.faults import is_away, is_contradiction, is_refused_value
from broker.base.statements import bound
from broker.base.tracing import span
from broker.formats.audit_event import Committed
from broker.formats.personal_part import PartKey

_log = structlog.get_logger()

BATCH_MAX = 256
QUEUE_MAX = 4_096
_IDLE_TURNS = 4
# An event that nobody waits for goes along with the next batch, or after so long in one of its own.
_POSTED_WAIT_S = 0.01
_NO_GUARDS: Mapping[str, int] = {}


class GuardMoved(Exception):
    """Something that the decision relied on has changed since.  Never shown to a caller.

    Decide again on fresh state.
    """


class RowRefused(Exception):
    """The event's own rows contradict stored ones (an id in use).  Never shown to a caller.

    Nothing was written.
    """


Write = tuple[Executable, Mapping[str, Any]]


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Proof that an event is on the record: its dense index, id and commitment."""

    index: int
    id: str
    entry: bytes


class _Draft(NamedTuple):
    """What becomes a piece once the key of its personal part is there."""

    event: Event
    made: Committed
    guards: Mapping[str, int]
    quotas: Sequence[Quota]
    writes: tuple[Written, ...]

    def piece(self, key: PartKey) -> Piece:
        return Piece(values_of(self.event, self.made, key), dict(self.guards), tuple(self.quotas), self.writes)


class _Waiting:
    """A draft on its way, and who waits for it until when: a time of the loop's clock.

    Nobody waits for what was posted.  ``raises`` says that it raises an epoch.
    """

    __slots__ = ("abandoned", "done", "draft", "raises", "until")

    def __init__(
        self,
        draft: _Draft,
        raises: bool = False,
        done: asyncio.Future[Receipt] | None = None,
        until: float = 0.0,
        abandoned: Callable[[], None] | None = None,
    ) -> None:
        self.draft = draft
        self.raises = raises
        self.done = done
        self.until = until
        self.abandoned = abandoned

    @property
    def wanted(self) -> bool:
        """Whether it is still to be written."""
        return self.done is None or not self.done.done()

    def recorded(self, index: int) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(Receipt(index, self.draft.event.id, self.draft.made.entry))
        elif self.abandoned is not None:
            self.abandoned()

    def refused(self, error: Exception) -> None:
        if self.done is None:
            _log.error("audit.not_recorded", error=type(error).__name__)
        elif not self.done.done():
            self.done.set_exception(error)


class AuditLog:
    """The batcher of one process.  ``deadline`` is in seconds."""

    def __init__(self, db: Database, *, deadline: float = 2.0) -> None:
        self._dialect = db.engine.dialect
        self._db = db
        self.deadline = deadline
        self.commits = _way_to_record(db)
        self._queue: deque[_Waiting] = deque()
        self._batch: Sequence[_Waiting] = ()
        self._arrived = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self.durability = Durability(db, deadline)
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
                    while self._queue or self._batch:  # noqa: ASYNC110 - once, at the end
                        await asyncio.sleep(0.005)
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        for waiting in self._queue:
            waiting.refused(AuditUnavailable("The broker is shutting down; try again."))
        self._queue.clear()
        for timer in (self._due, self._late):
            if timer is not None:
                timer.cancel()
        await self.durability.stop()
        await self.commits.close()

    @property
    def dialect(self) -> str:
        """The database's dialect, for statements that differ."""
        return self._dialect.name

    @property
    def depth(self) -> int:
        """How many events wait."""
        return len(self._queue)

    async def append(
        self,
        event: Event,
        guards: Mapping[str, int] = _NO_GUARDS,
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
        loop = asyncio.get_running_loop()
        # lease (9) event and row, durable together or not at all
        done: asyncio.Future[Receipt] = loop.create_future()
        # call (9) the use, before its key is opened
        if raises:
            writes = [*writes, *raising(self.dialect, raises)]
        draft = self._draft(event, guards, writes, quotas)
        until = loop.time() + self.deadline
        self._queue.append(_Waiting(draft, bool(raises), done, until, abandoned))
        if self._late is None or self._late.when() > until:
            self._late = loop.call_at(until, self._refuse_late)
        self._arrived.set()
        with span("audit.append"):
            return await done

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
        self._queue.append(_Waiting(self._draft(event, _NO_GUARDS, writes, ())))
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_POSTED_WAIT_S, self._write_posted)
        return True

    def _draft(
        self, event: Event, guards: Mapping[str, int], writes: Sequence[Write], quotas: Sequence[Quota]
    ) -> _Draft:
        """What an event brings, after a last look, before its batch depends on it.

        Raises:
            Unstorable: a value can't be kept.
        """
        _check(writes, chain(guards, (quota.id for quota in quotas)))
        written = tuple([bound(self._dialect, statement, row) for statement, row in writes])
        return _Draft(event, event.committed(), guards, quotas, written)

    def _write_posted(self) -> None:
        self._due = None
        if self._queue:
            self._arrived.set()

    def _refuse_late(self) -> None:
        """Refuse whoever waited for the deadline.  One timer serves all."""
        loop = asyncio.get_running_loop()
        now, next_ = loop.time(), 0.0
        for waiting in chain(self._batch, self._queue):
            if waiting.done is None or waiting.done.done():
                continue
            if waiting.until > now:
                next_ = min(next_ or waiting.until, waiting.until)
                continue
            self.late += 1
            waiting.refused(AuditUnavailable("The event could not be recorded in time; try again.", retry_after=1))
        self._late = loop.call_at(next_, self._refuse_late) if next_ else None

    async def _write_batches(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            self._batch = self._next_batch()
            if self._batch:
                await self._commit(self._batch)
                self._batch = ()

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

    def _next_batch(self) -> Sequence[_Waiting]:
        """What is written next.

        It ends with what raises an epoch: what comes behind is decided after that.
        """
        batch: list[_Waiting] = []
        while self._queue and len(batch) < BATCH_MAX:
            waiting = self._queue.popleft()
            if waiting.wanted:  # else its caller gave up before anything was sent
                batch.append(waiting)
                if waiting.raises:
                    break
        if not self._queue:
            self._arrived.clear()
        return batch

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Commit a batch, again while the database is away.

        That ends once nobody waits any more.  A COMMIT whose answer was lost may have happened: the batch's events,
        looked for under the head lock, tell.
        """
        began = time.perf_counter()
        sent = Batch(self.floor, False, ())
        while any(waiting.wanted for waiting in batch):
            try:
                sent.pieces = sent.pieces or await self._sealed(batch)
                decided = await self.commits.commit(sent)
            except Exception as error:  # noqa: BLE001 - the writer outlives a defect; its caller is answered no
                if isinstance(error, DatabaseBehind):
                    self.closed = error
                if is_away(error):
                    sent.repeated = True
                    self.durability.failed()
                    await asyncio.sleep(0.05)
                    continue
                await self._refused(batch, error)
                return
            self._settle(batch, decided)
            self.durability.held()
            self.batches, self.committed = self.batches + 1, self.committed + len(batch)
            self.seconds += time.perf_counter() - began
            return

    async def _sealed(self, batch: Sequence[_Waiting]) -> tuple[Piece, ...]:
        """The pieces of a batch, their personal parts sealed.

        Of most, the keys are in memory.
        """
        keys = await of_process(self._db).of(self._db, [Whose.of(waiting.draft.event) for waiting in batch])
        return tuple([waiting.draft.piece(key) for waiting, key in zip(batch, keys, strict=True)])

    def _settle(self, batch: Sequence[_Waiting], decided: Decided) -> None:
        """Tell every caller what the committed transaction decided."""
        index = decided.size
        for place, (waiting, accepted) in enumerate(zip(batch, decided.accepted, strict=True)):
            if accepted:
                waiting.recorded(index)
                index += 1
            else:
                waiting.refused(decided.why_not(place) or GuardMoved())
        self.floor = max(self.floor, index)

    async def _refused(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Find whose event was refused, by halves, and refuse that one alone.

        What is refused once is refused again.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._commit(batch[:middle])
            await self._commit(batch[middle:])
        else:
            batch[0].refused(_answer_to(error))


def _way_to_record(db: Database) -> Commits:
    if db.dialect == "postgresql":
        return PostgresCommits(db)
    return SqliteCommits(db) if db.parent is None else ThroughParent(db.parent)


def _check(writes: Sequence[Write], names: Iterable[str]) -> None:
    """Raises Unstorable: a value can't be kept."""
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
