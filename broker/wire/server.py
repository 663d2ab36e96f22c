"""HTTP/1.1 as it comes in: the protocol class that uvicorn is given in place of its own.

uvicorn keeps what is about processes, sockets and the application's life.  This module has a connection from its first
byte to its last.  What it accepts and refuses stands in :mod:`broker.wire`.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from broker.wire.cycle import App, Cycle, Scope
from broker.wire.deadline import Deadline
from broker.wire.framing import Bounds, Malformed
from broker.wire.reply import problem_of
from broker.wire.request import Head, Refused, malformed, read_head, too_large, uri_too_long

_log = structlog.get_logger()

# ASGI extensions: the fields with their names as they were sent, and the request's target.
AS_SENT: Final = "keybroker.headers"
TARGET: Final = "keybroker.target"

_HEAD_END: Final = b"\r\n\r\n"
_HELD_MAX: Final = 65_536  # of what nobody has asked for yet, before its sender has to wait
_LINGER_S: Final = 2.0
_TAKEN_LEAST: Final = 1_024  # bytes a second, of an answer that is taken slowly
_EMPTY_LINES_MAX: Final = 8  # before a request
_REFUSED_SHARE: Final = 8  # one more for so many connections, to be told that it is one too many
_HEAD: Final = Bounds(size=65_536, fields=100)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stranger may take.  Times are in seconds.

    ``head_seconds`` count from a head's first byte, and from the beginning of a connection.  ``body_seconds`` count
    from the end of the head; an answer, too, may stand still for its reader so long.  They don't count if the address
    begins with ``streamed``: that application bounds its bodies itself.  An idle connection is kept for
    ``idle_seconds``, which have to be more than any proxy in front keeps it.
    """

    head: Bounds = _HEAD
    head_seconds: float = 10
    body_seconds: float = 30
    idle_seconds: float = 75
    connections: int = 2_000
    streamed: bytes = b"/proxy/"


class Connection(asyncio.Protocol):
    """One connection, with requests one after another.

    Each request is handed to the application once its head is whole.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: Mapping[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app: App = config.loaded_app
        self._root_path = config.root_path
        self._app_state = app_state
        self.server_state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._limits = limits or Limits()
        self._transport: asyncio.Transport
        self._peers: dict[str, Any] = {}
        self._held = bytearray()
        self._searched = 0  # so much of what is held was searched for the end of a head
        self._cycle: Cycle | None = None
        self._paused = False
        self._ending = False
        self._writable: asyncio.Future[None] | None = None
        self._deadline = Deadline(self._loop, self._overdue)
        self._expected = (0.0, 0)  # since when, and how much was to be taken then
        self._empty_lines = 0
        self._context: contextvars.Context

    # What the event loop calls, and uvicorn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A stranger came: listen to them, tell them that there are too many, or cut them off."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._context = contextvars.copy_context()
        self._peers = {
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        }
        most, present = self._limits.connections, len(self.server_state.connections)
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # declared as uvicorn's own classes
        if present >= most + most // _REFUSED_SHARE + 1:
            self.abort()
        elif present >= most:
            text = "This broker has as many connections as it may; try again."
            self.refuse(Refused(503, "too_many_connections", "Too many connections", text))
        else:
            self._expect_within(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The stranger left, or was made to."""
        self.server_state.connections.discard(self)
        self._ending = True
        self._deadline.end()
        if self._cycle is not None:
            self._cycle.left()
        self._let_write()

    def eof_received(self) -> bool:
        """The stranger sends no more, and is taken for gone, as nothing else would tell."""
        if self._cycle is not None and not self._cycle.answered:
            self._cycle.left()
        self._ending = True
        self._expect_end()
        return False

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._ending:
            return
        if self._cycle is not None and self._cycle.reading:
            data = self._read_body(self._cycle, data)
        if not data:
            return
        self._held += data
        if self._cycle is None:
            self._read_head()
        elif len(self._held) > _HELD_MAX:  # requests before their time
            self._pause()

    def pause_writing(self) -> None:
        """The stranger takes what it is sent more slowly than it comes."""
        if self._writable is None:
            self._writable = self._loop.create_future()
        self._watch()

    def resume_writing(self) -> None:
        """The stranger has taken most of it."""
        self._let_write()
        self._watch()

    def shutdown(self) -> None:
        """The server ends: an idle connection ends at once, another after its answer."""
        if self._cycle is None:
            self._close()
        elif self._cycle.answered:  # and only the rest of its body still comes
            self._linger(unread=True)
        else:
            self._cycle.keep_alive = False

    # What a cycle calls

    async def drained(self) -> None:
        """Wait for as long as what was sent is not taken."""
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def write(self, data: bytes) -> None:
        """Send ``data``, unless the connection is ending."""
        if not self._ending:
            self._transport.write(data)

    def wanted(self) -> None:
        """The application waits for more of the body."""
        self._unpause()

    def answered(self, cycle: Cycle) -> None:
        """The answer is whole: go on to the next request, or end."""
        self.server_state.total_requests += 1
        if not cycle.keep_alive:
            self._linger(unread=cycle.reading)
        elif cycle.reading:  # the rest of its body is dropped as it comes
            self._unpause()
            self._watch()
        else:
            self._next()

    def abort(self) -> None:
        """Break the answer off, so that nobody takes it for a whole one."""
        self._ending = True
        if self._cycle is not None and self._cycle.until_close:  # only a reset tells then; it may cost what came before
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def refuse(self, refused: Refused) -> None:
        """Answer with a problem (RFC 9457) and end.

        An answer that has begun is broken off instead.
        """
        begun = self._cycle is not None and self._cycle.started
        head_only = self._cycle is not None and self._cycle.head.method == "HEAD"
        if self._cycle is not None:
            self._cycle.left()
        if begun:
            self.abort()
            return
        _log.info("wire.refused", status=refused.status, code=refused.code)
        self.write(problem_of(refused, self.server_state.default_headers, head_only=head_only))
        self._linger(unread=True)

    # Reading

    def _read_head(self) -> None:
        """Begin the next request once its head is whole."""
        while self._held.startswith(b"\r\n"):  # RFC 9112 §2.2
            del self._held[:2]
            self._empty_lines += 1
        if self._empty_lines > _EMPTY_LINES_MAX:
            self.refuse(malformed(f"more than {_EMPTY_LINES_MAX} empty lines stand before it"))
            return
        size = self._limits.head.size
        end = self._held.find(_HEAD_END, max(0, self._searched - 3))
        if end > size or (end < 0 and len(self._held) > size):
            only_first_line = self._held.find(b"\r\n", 0, size) < 0
            self.refuse(uri_too_long(self._limits.head) if only_first_line else too_large(self._limits.head))
        elif end < 0:
            if self._held and not self._searched:
                self._expect_within(self._limits.head_seconds)
            self._searched = len(self._held)
        else:
            head = bytes(self._held[:end])
            del self._held[: end + 4]
            self._searched = self._empty_lines = 0
            self._begin(head)

    def _begin(self, data: bytes) -> None:
        try:
            # call (1) what can be read in two ways is refused
            head = read_head(data, self._limits.head)
        except Refused as refused:
            self.refuse(refused)
            return
        streamed = head.target.startswith(self._limits.streamed)
        cycle = self._cycle = Cycle(self, head, streamed=streamed, default=self.server_state.default_headers)
        self._watch()
        if cycle.reading and self._held:
            came = bytes(self._held)
            self._held.clear()
            self._held += self._read_body(cycle, came)
        if self._ending:
            return
        # A request that came before its time begins within the previous one's task, whose context isn't its own.
        task = self._loop.create_task(cycle.run(self._app, self._scope(head)), context=self._context.copy())
        task.add_done_callback(self.server_state.tasks.discard)
        self.server_state.tasks.add(task)

    def _scope(self, head: Head) -> Scope:
        raw_path, _, query = head.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            **self._peers,
            "root_path": self._root_path,
            "method": head.method,
            "path": self._root_path + head.path,
            "raw_path": self._root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": head.fields,
            "state": dict(self._app_state),
            "extensions": {AS_SENT: head.sent, TARGET: head.target},
        }

    def _read_body(self, cycle: Cycle, data: bytes) -> bytes:
        """Take a body's bytes; returns what came after it."""
        body = cycle.head.body
        assert body is not None
        try:
            part = body.feed(data)
        except Malformed as error:
            self.refuse(malformed(str(error)))
            return b""
        if cycle.came(part, last=body.over) > _HELD_MAX:
            self._pause()
        if not body.over:
            return b""
        if not cycle.answered:
            self._watch()
            return body.rest
        self._held += body.rest
        self._next()
        return b""

    def _next(self) -> None:
        """Request and answer have ended; begin the next one if it has come."""
        self._cycle = None
        self._unpause()
        self._watch()
        if self._held and not self._ending:
            self._read_head()

    def _pause(self) -> None:
        if not self._paused and not self._ending:
            self._transport.pause_reading()
            self._paused = True

    def _unpause(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
            self._paused = False

    # Ending

    def _linger(self, *, unread: bool) -> None:
        """End once the answer was read.

        If this closed over unread bytes, TCP would reset the answer away (RFC 9112 §9.6).
        """
        if not unread and not self._held:
            self._close()
            return
        self._ending = True
        self._unpause()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._expect_end()

    def _close(self) -> None:
        self._ending = True
        self._transport.close()
        self._expect_end()

    def _expect_end(self) -> None:
        """Expect that the rest is taken, or that the stranger ends too."""
        unsent = self._transport.get_write_buffer_size()
        self._expect_within(self._limits.body_seconds if unsent else _LINGER_S)

    def _let_write(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # Time

    def _watch(self) -> None:
        """Expect what has to come next: that an answer is taken, a body or a head comes, or nothing."""
        if self._ending:
            return
        cycle = self._cycle
        ours = cycle is None or cycle.answered or not cycle.streamed
        if ours and (self._writable is not None or (cycle is not None and cycle.reading)):
            self._expect_within(self._limits.body_seconds)
        elif cycle is None:
            self._expect_within(self._limits.head_seconds if self._held else self._limits.idle_seconds)
        else:
            self._deadline.lift()

    def _expect_within(self, seconds: float) -> None:
        self._expected = (seconds, self._transport.get_write_buffer_size())
        self._deadline.within(seconds)

    def _overdue(self) -> None:
        seconds, before = self._expected
        if 0 < self._transport.get_write_buffer_size() <= before - seconds * _TAKEN_LEAST:
            self._expect_within(self._limits.body_seconds)  # it is being taken, if slowly
            return
        cycle = self._cycle
        late = "head" if cycle is None and self._held else "body" if cycle is not None and not cycle.started else ""
        if self._ending or self._writable is not None or (cycle is not None and cycle.started):
            self.abort()
        elif late:
            text = f"The request's {late} did not come in time."
            self.refuse(Refused(408, "request_timeout", "Request Timeout", text))
        else:
            self._close()


def _address(name: object) -> tuple[str, int] | None:
    """What ASGI wants of a socket's name."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
