"""One request and its answer, as an application sees them (ASGI 3).

The body is handed on as it comes, the answer is sent as it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog

from broker.wire.framing import Field
from broker.wire.reply import head_of
from broker.wire.request import Head, Refused

_log = structlog.get_logger()

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY: Final = frozenset({204, 304})
_OURS: Final = frozenset({b"connection", b"transfer-encoding"})
_FAILED: Final = Refused(
    500,
    "internal",
    "Internal error",
    "Something went wrong on our side and was logged; nothing was revealed. Try again.",
)


class Line(Protocol):
    """The connection that a cycle is on."""

    async def drained(self) -> None:
        """Wait for as long as what was sent is not taken."""

    def write(self, data: bytes) -> None:
        """Send ``data``."""

    def wanted(self) -> None:
        """The application waits for more of the body."""

    def answered(self, cycle: Cycle) -> None:
        """The answer is whole."""

    def abort(self) -> None:
        """Break the answer off, so that nobody takes it for a whole one."""

    def refuse(self, refused: Refused) -> None:
        """Answer with a problem in the application's place."""


class Cycle:
    """A request whose head is whole.

    * ``streamed``: the application bounds its body and time.
    * ``reading``: its body is not whole yet.
    * ``started``: its answer has begun.
    * ``answered``: its answer is whole.
    * ``until_close``: its answer ends with the connection.
    """

    __slots__ = (
        "_body", "_body_size", "_chunked", "_default", "_first", "_gone", "_left", "_line", "_told", "_waiting",
        "answered", "expects_continue", "head", "keep_alive", "reading", "started", "streamed", "until_close",
    )  # fmt: skip

    def __init__(self, line: Line, head: Head, *, streamed: bool, default: list[Field]) -> None:
        self._line = line
        self._default = default
        self.head = head
        self.streamed = streamed
        self.keep_alive = head.keep_alive
        self.expects_continue = head.expects_continue
        self.reading = head.body is not None
        self.started = False
        self.answered = False
        self.until_close = False
        self._body: list[bytes] = []
        self._body_size = 0
        self._told = False  # that the body is whole
        self._gone = False
        self._waiting: asyncio.Future[None] | None = None
        self._first = b""  # the answer's head, until the first of its body goes along with it
        self._chunked = False
        self._left: int | None = None  # so much of the answer's declared length is still to come

    async def run(self, app: App, scope: Scope) -> None:
        """Have the request answered.  An answer that the application doesn't end well is broken off."""
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - logged, and told without a word of it
            _log.error("request.aborted", error=type(error).__name__)
        except BaseException:
            self._break_off()
            raise
        if self._first and not self.answered:  # that an answer began must be seen: silence may be asked again
            self._send_head()
            await asyncio.sleep(0)
        self._break_off()

    def _break_off(self) -> None:
        if self.answered or self._gone:
            return
        if self.started:
            self._line.abort()
        else:
            self._line.refuse(_FAILED)

    def came(self, part: bytes, *, last: bool) -> int:
        """Take more of the body; returns how many bytes of it wait to be asked for."""
        self.reading = not last
        if self.answered:  # nobody will ask
            self._body.clear()
            return 0
        if part:
            self._body.append(part)
            self._body_size += len(part)
        self._wake()
        return self._body_size

    def left(self) -> None:
        """Whoever asked is gone."""
        self._gone, self.reading = True, False
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _something(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    async def receive(self) -> Message:
        """The next part of the body.  After it: that whoever asked is gone or answered."""
        if not self._told:
            if self.expects_continue and self.reading and not self._body and not self.started:
                self._line.write(_CONTINUE)
            self.expects_continue = False
            while self.reading and not (self._body or self._gone or self.answered):
                self._line.wanted()
                await self._something()
            if not (self._gone or self.answered):
                body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                self._body_size = 0
                self._told = not self.reading
                return {"type": "http.request", "body": body, "more_body": self.reading}
        while not (self._gone or self.answered):
            await self._something()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the answer's head, or the next part of its body.

        Raises:
            RuntimeError: the application breaks ASGI, or its answer HTTP; it is then broken off.
        """
        if message.get("body"):  # without one nothing grows; and an application that has said all must not wait
            await self._line.drained()
        if self._gone:
            return
        if not self.started:
            self._start(message["status"], message.get("headers", ()))
        elif self.answered:
            raise RuntimeError("the answer is whole already")
        else:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, status: int, headers: Iterable[Field]) -> None:
        fields = [*self._default]
        length: int | None = None
        for name, value in headers:
            lower = name.lower()
            if lower == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
            elif lower == b"content-length":
                length = int(value)
            elif lower != b"transfer-encoding":
                fields.append((name, value))
        if length is not None and status != HTTPStatus.NO_CONTENT:
            fields.append((b"content-length", b"%d" % length))
        self._left = 0 if status in _NO_BODY or self.head.method == "HEAD" else length
        if self._left is None:
            fields += self._framing()
        if self.expects_continue and self.reading and not self._body:
            self.keep_alive = False  # nobody told whether its body still comes: what comes could be the next request
        if not self.keep_alive:
            fields.append((b"connection", b"close"))
        self._first = head_of(status, fields)
        self.started = True
        # Most bodies follow at once, and go out with their head; a stream's head doesn't wait for its body.
        asyncio.get_running_loop().call_soon(self._send_head)

    def _framing(self) -> list[Field]:
        """The fields that frame a body whose length nobody knows (RFC 9112 §6.3)."""
        if self.head.version == "1.1":
            self._chunked = True
            return [(b"transfer-encoding", b"chunked")]
        self.keep_alive, self.until_close = False, True
        return []

    def _send_head(self) -> None:
        if self._first and not self._gone:
            self._line.write(self._first)
        self._first = b""

    def _go_on(self, body: bytes, *, more: bool) -> None:
        if self.head.method == "HEAD":
            body = b""
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer is not as long as it says")
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        if self._first:
            body, self._first = self._first + body, b""
        if body:
            self._line.write(body)
        if not more:
            self.answered = True
            self._wake()
            self._line.answered(self)
