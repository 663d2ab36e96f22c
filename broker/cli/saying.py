"""A server that says when it serves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from broker.base.ending import handling


class SayingServer(uvicorn.Server):
    """A server that says when it serves, and returns when it is told to end.

    Uvicorn's own raises the signal again, and then whoever runs it would close nothing.
    """

    def __init__(self, config: uvicorn.Config, says: Callable[[], None]) -> None:
        super().__init__(config)
        self._says = says

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._says()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with handling(self.handle_exit):
            yield
