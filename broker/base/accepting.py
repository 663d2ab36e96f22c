"""An event loop that leaves connections to other processes.

It accepts one, and then none for a moment.  Several processes listen on one socket.  Libuv accepts all that wait at
once: of 32 connections that came together one process got all, for as long as they were kept alive, and the others
idled.  The moment is there for another process to wake up; who has much to do comes back later, and gets fewer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import uvloop

# What accept(2) may say of a connection that has gone, or that another process has taken.
_NONE_THERE = (BlockingIOError, InterruptedError, ConnectionAbortedError)
# So long nothing is accepted after a connection; and once the process has no descriptor left for one.
MOMENT_S = 0.001
REST_S = 1.0

Factory = Callable[[], asyncio.Protocol]


class Loop(uvloop.Loop):
    """Libuv's loop but for that; what listens is a socket which is there already."""

    async def create_server(  # type: ignore[override]  # only what uvicorn calls it with
        self, protocol_factory: Factory, *, sock: socket.socket, ssl: None, backlog: int
    ) -> asyncio.Server:
        """Serve whoever connects to ``sock``."""
        assert ssl is None, "whoever stands in front speaks TLS"
        sock.setblocking(False)
        sock.listen(backlog)
        return cast("asyncio.Server", _Accepting(self, sock, protocol_factory))  # as far as it is used


class _Accepting:
    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Factory) -> None:
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self._tasks: set[asyncio.Task[Any]] = set()
        self._resting: asyncio.TimerHandle | None = None
        self._begin()

    def close(self) -> None:
        """Accept nothing any more."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._sock)

    async def wait_closed(self) -> None:
        """Wait for those that were being accepted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._resting = self._loop.call_later(seconds, self._begin)

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except _NONE_THERE:
            return
        except OSError as error:  # no descriptor, or no memory: what waits goes on waiting
            self._rest(REST_S)
            self._loop.call_exception_handler({"message": "a connection can't be accepted", "exception": error})
            return
        self._rest(MOMENT_S)
        connection.setblocking(False)
        with suppress(OSError):  # it has gone
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._factory, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
