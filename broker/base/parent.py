"""A worker's side of :mod:`broker.base.one_writer`: its parent, which writes."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from broker.base import refusal
from broker.base.link import Link, Word
from broker.base.sqlite import BUSY_S


class ParentGone(ConnectionError):
    """The parent doesn't answer: whether it wrote what it was asked to is not known."""


class Parent:
    """The parent, once :meth:`join` was called in the loop that asks it.

    Args:
        entrance: of the parent's :class:`~broker.base.one_writer.OneWriter`.
        lost: called if the parent is gone.
    """

    def __init__(self, entrance: socket.socket, lost: Callable[[], None]) -> None:
        self._entrance = entrance
        self._on_loss = lost
        self._tickets = itertools.cycle(range(1 << 32))
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._link: Link | None = None

    async def join(self) -> None:
        """Be one of those that the parent writes for."""
        mine, passed = socket.socketpair()
        with passed:
            socket.send_fds(self._entrance, [b"."], [passed.fileno()])
        link = Link(self._came, self._lost)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=mine)
        self._link = link

    def leave(self) -> None:
        """Ask for nothing any more."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def write(self, batch: bytes) -> bytes:
        """The parent's answer once ``batch`` is written.

        Raises:
            sqlite3.Error, NotWritten: nothing was written.
            ParentGone: it may have been written.
        """
        ticket, answer = self._ask(Word.WRITE, batch)
        try:
            return await answer
        finally:
            self._waiting.pop(ticket, None)

    @asynccontextmanager
    async def turn(self, *, record: bool) -> AsyncIterator[None]:
        """Be the one process that writes.

        Raises:
            ParentGone: it is gone, or silent.
        """
        ticket, go = self._ask(Word.RECORDS_TURN if record else Word.TURN)
        try:
            try:
                async with asyncio.timeout(2 * BUSY_S):
                    await go
            except TimeoutError:
                raise ParentGone("the parent is silent") from None
            yield
        finally:
            self._waiting.pop(ticket, None)
            if self._link is not None:
                self._link.send(Word.OVER, ticket)

    def _ask(self, word: Word, body: bytes = b"") -> tuple[int, asyncio.Future[bytes]]:
        if self._link is None:
            raise ParentGone("the parent is gone")
        ticket = next(self._tickets)
        self._waiting[ticket] = asyncio.get_running_loop().create_future()
        self._link.send(word, ticket, body)
        return ticket, self._waiting[ticket]

    def _came(self, _link: Link, word: int, ticket: int, body: bytes) -> None:
        waiting = self._waiting.get(ticket)
        if waiting is None or waiting.done():
            return
        if word == Word.REFUSED:
            waiting.set_exception(refusal.unpacked(body))
        else:
            waiting.set_result(body)

    def _lost(self, _link: Link) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ParentGone("the parent is gone"))
        if self._link is not None:  # it wasn't left
            self._link = None
            self._on_loss()
