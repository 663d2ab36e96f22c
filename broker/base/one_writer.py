"""SQLite's one writer for several processes: their parent.

SQLite would let whoever polls at the right moment go first, and each commit would wait for the disk alone.  Here the
parent of all workers decides.  It writes the record's batches of all of them itself, those that wait together in one
transaction.  Whoever writes otherwise asks it for a turn, and has the database's write lock then without a rival.

Turns are order, no safety: that is SQLite's own lock.  A worker that dies gives its turn back, as its socket closes.
One that keeps it for too long is passed over.  Workers whose parent died are told so by their sockets, and end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import uvloop

from broker.base import refusal
from broker.base.faults import is_away, is_contradiction, is_refused_value
from broker.base.link import Link, Word
from broker.base.sqlite import BUSY_S, SqliteConnection
from broker.base.statements import Transaction

_log = structlog.get_logger()

Write = Callable[[Transaction, bytes], bytes]


class Asked(NamedTuple):
    """What a worker waits for: that ``batch`` is written, or the turn if there is none."""

    link: Link
    ticket: int
    batch: bytes | None = None


class Order:
    """Who is next.

    Batches of the record go together.  Record and others alternate where both wait.  So, however many ask for something
    else, the record waits for one transaction at most; nor does it keep others out.
    """

    def __init__(self) -> None:
        self._batches: list[Asked] = []
        self._record: deque[Asked] = deque()
        self._others: deque[Asked] = deque()
        self._others_next = False

    def ask(self, asked: Asked, *, record: bool) -> None:
        """Queue up."""
        if asked.batch is not None:
            self._batches.append(asked)
        else:
            (self._record if record else self._others).append(asked)

    def withdraw(self, leaves: Callable[[Asked], bool]) -> None:
        """Forget those who wait no more."""
        self._batches = [asked for asked in self._batches if not leaves(asked)]
        self._record = deque(asked for asked in self._record if not leaves(asked))
        self._others = deque(asked for asked in self._others if not leaves(asked))

    def next(self) -> Sequence[Asked]:
        """All batches that wait, or one who has the turn; empty if nobody waits."""
        waits = bool(self._batches or self._record)
        if self._others and (self._others_next or not waits):
            self._others_next = False
            return [self._others.popleft()]
        self._others_next = waits
        if self._batches:
            batches, self._batches = self._batches, []
            return batches
        return [self._record.popleft()] if self._record else []


class OneWriter:
    """The parent's side, in a thread of its own.

    Args:
        file: SQLite's.
        write: carries a batch out in a transaction, which may hold others as well, and returns the answer.
    """

    def __init__(self, file: Path, write: Write) -> None:
        self._connection = SqliteConnection(file)
        self._write = write
        self._order = Order()
        self._holder: Asked | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._due = False
        self._links: set[Link] = set()
        self._joining: set[asyncio.Task[Any]] = set()
        # A worker makes a pair of sockets, and passes one of it in at the entrance, which all workers inherit.
        self._door, self.entrance = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    @contextmanager
    def running(self) -> Iterator[socket.socket]:
        """Write for whoever comes in at the entrance, until the context ends."""
        started, ends = threading.Event(), list[Callable[[], object]]()

        async def run() -> None:
            loop, end = asyncio.get_running_loop(), asyncio.Event()
            ends.append(lambda: loop.call_soon_threadsafe(end.set))
            loop.add_reader(self._door.fileno(), self._let_in, loop)
            started.set()
            await end.wait()
            loop.remove_reader(self._door.fileno())
            for link in self._links:
                link.close()
            self._connection.close()

        thread = threading.Thread(target=lambda: uvloop.run(run()), name="one-writer", daemon=True)
        thread.start()
        started.wait()
        try:
            yield self.entrance
        finally:
            ends[0]()
            thread.join()
            self._door.close()
            self.entrance.close()

    def _let_in(self, loop: asyncio.AbstractEventLoop) -> None:
        _, (passed,), _, _ = socket.recv_fds(self._door, 1, 1)
        link = Link(self._came, self._left)
        self._links.add(link)
        joining = loop.create_task(loop.create_unix_connection(lambda: link, sock=socket.socket(fileno=passed)))
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)

    def _came(self, link: Link, word: int, ticket: int, body: bytes) -> None:
        if word == Word.OVER:
            self._leaves(lambda asked: asked.link is link and asked.ticket == ticket)
        elif word == Word.WRITE:
            self._order.ask(Asked(link, ticket, body), record=True)
        else:
            self._order.ask(Asked(link, ticket), record=word == Word.RECORDS_TURN)
        self._soon()

    def _left(self, link: Link) -> None:
        self._links.discard(link)
        self._leaves(lambda asked: asked.link is link)
        self._soon()

    def _leaves(self, leaves: Callable[[Asked], bool]) -> None:
        self._order.withdraw(leaves)
        if self._holder is not None and leaves(self._holder):
            self._take_back()

    def _soon(self) -> None:
        """Decide once all that has come by now was read."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._due = False
        while self._holder is None and (chosen := self._order.next()):
            if chosen[0].batch is None:
                self._give(chosen[0])
            else:
                self._write_all(chosen)

    def _give(self, asked: Asked) -> None:
        self._holder = asked
        self._overdue = asyncio.get_running_loop().call_later(BUSY_S, self._pass_over)
        asked.link.send(Word.GO, asked.ticket)

    def _take_back(self) -> None:
        assert self._overdue is not None
        self._overdue.cancel()
        self._holder = None

    def _pass_over(self) -> None:
        _log.warning("sqlite.turn_not_given_back")
        self._take_back()
        self._soon()

    def _write_all(self, batches: Sequence[Asked]) -> None:
        """Write batches in one transaction.

        If that is refused, each has its own: so whose fault it is is found.
        """
        try:
            answers = self._connection.run(
                lambda transaction: [self._write(transaction, asked.batch or b"") for asked in batches]
            )
        except Exception as error:  # noqa: BLE001 - told to who asked, who judges it
            if len(batches) > 1 and not is_away(error):
                for asked in batches:
                    self._write_all([asked])
                return
            if not (is_away(error) or is_contradiction(error) or is_refused_value(error)):
                _log.error("sqlite.batch_failed", error=type(error).__name__, exc_info=error)
            for asked in batches:
                asked.link.send(Word.REFUSED, asked.ticket, refusal.packed(error))
            return
        for asked, answer in zip(batches, answers, strict=True):
            asked.link.send(Word.WRITTEN, asked.ticket, answer)
