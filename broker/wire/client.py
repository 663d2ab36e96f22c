"""HTTP/1.1 as it goes out: one connection to an upstream, one exchange at a time.

A request is sent once.  The caller, who has it on the record, decides whether it is sent again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Final, cast

from multidict import CIMultiDict

from broker.wire.answer import Head, end_of_head, identity, read_head
from broker.wire.codings import Decoder, decodable
from broker.wire.framing import Bounds, Malformed, TooMuch, UntilClose
from broker.wire.upload import LastWord, framed

ANSWER_BOUNDS: Final = Bounds(size=65_536, fields=256)
_HELD_MAX: Final = 262_144  # of a body that nobody has asked for yet, before its sender has to wait
_INTERIM_MAX: Final = 16
_LAST_WORD_S: Final = 1.0


class NoAnswer(Exception):
    """Not one byte of an answer came; the text names what happened."""


class Unreadable(Exception):
    """An answer came that can't be read; the text says why and repeats nothing of it."""


class BrokenOff(Unreadable):
    """An answer's body ended before its end."""


class Answer:
    """What the upstream answered, its body to be read once.

    ``headers`` are those that came, less those that spoke of a coding that is undone here.  ``coded`` names the codings
    that are left on the body.
    """

    __slots__ = ("_decoder", "_exchange", "_first", "_pieces", "coded", "headers", "status")

    def __init__(self, exchange: Exchange, head: Head) -> None:
        self._exchange = exchange
        self.status = head.status
        codings = [*head.content, *head.transfer]
        self.coded = b"" if decodable(codings) else b", ".join(codings)
        self._decoder = Decoder(codings) if codings and not self.coded else None
        self._pieces: Iterator[bytes] = iter(())
        self._first: bytes | None = None
        fields = identity(head.fields) if self._decoder else head.fields
        # Bytes that are not UTF-8 come out as what str.encode takes back.
        self.headers = CIMultiDict(
            [(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in fields]
        )

    @property
    def bodiless(self) -> bool:
        """Whether no body comes, whatever the fields say."""
        return self._exchange.bodiless

    async def part(self) -> bytes | None:
        """The next part of the body, decoded if it can be; None at its end.

        Raises:
            BrokenOff: it ended before its end.
            Unreadable: its framing or coding is broken, or it decodes to too much.
        """
        if self._decoder is None:
            return await self._exchange.body()
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._decoded(self._decoder)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises as :meth:`part`."""
        while (part := await self.part()) is not None:
            yield part

    async def begin(self) -> None:
        """Decode the beginning of a coded body.

        So a body that isn't in its coding is found before it is handed on.

        Raises:
            BrokenOff, Unreadable: as :meth:`part`.
        """
        if self._decoder is not None:
            self._first = await self._decoded(self._decoder)

    async def _decoded(self, decoder: Decoder) -> bytes | None:
        try:
            while (piece := next(self._pieces, None)) is None:
                if (part := await self._exchange.body()) is None:
                    if not self.bodiless:
                        decoder.finish()
                    return None
                self._pieces = decoder.feed(part)
        except Malformed as error:
            raise Unreadable(str(error)) from None
        return piece


class Exchange(asyncio.Protocol):
    """A connection, and the exchange that is on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bounds: Bounds = ANSWER_BOUNDS) -> None:
        self._loop = loop
        self._bounds = bounds
        self._transport: asyncio.Transport
        self._method = b""
        self._held = bytearray()
        self._searched = 0
        self._interim = 0
        self._silent = True  # not one byte of an answer came yet
        self._head: Head | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._whole = False  # the answer, with its body
        self._error: BaseException | None = None
        self._sending: asyncio.Task[None] | None = None
        self._last_word: LastWord | None = None  # while a long body is sent
        self._sent = True
        self.closed = False
        self.handed_over = False  # to TLS
        self.rests_until = 0.0

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The upstream was reached."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; what the upstream said before that counts."""
        self.closed = True
        if self._last_word is not None and not (self._whole or self._error):
            for data in self._last_word.read():
                self.data_received(data)
        self._forget_last_word()
        self._over(exc)
        self.resume_writing()

    def eof_received(self) -> bool:
        """The upstream sends no more.  Its answer has ended, whatever it still waits for."""
        self.closed = True
        self._over(None, well=_told_well(self._transport))
        if self._transport.get_write_buffer_size():  # else it would stay for as long as an upload isn't taken
            self._loop.call_soon(self._transport.abort)
        return False

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer came."""
        if self._whole or self._error is not None or not self._method:
            self.close()  # nobody asked: whose answer would the next one be?
            return
        self._silent = False
        try:
            if self._head is None:
                data = self._read_head(data)
            if data and self._head is not None:
                self._read_body(self._head, data)
        except Malformed as error:
            self._fail(Unreadable(str(error)))

    def pause_writing(self) -> None:
        """The upstream takes what it is sent more slowly than it comes."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The upstream has taken most of it."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # An exchange

    async def ask(
        self, method: str, head: bytes, body: AsyncIterator[bytes] | bytes | None, length: int | None
    ) -> Answer:
        """Send a request and wait for the head of its answer.

        Args:
            method: as in ``head``.
            head: the whole of it, its framing and the empty line included.
            body: what follows; chunked here if ``length`` is None.
            length: what the head declares of it.

        Raises:
            NoAnswer, Unreadable: as they say.
            Exception: what ``body`` raised.
        """
        if self.closed:  # before anything was asked
            raise NoAnswer("the connection was closed")
        self._begin(method)
        if body is None or isinstance(body, bytes):
            self._transport.write(head + body if body else head)
        else:
            self._sent = False
            self._last_word = LastWord(self._transport)
            self._transport.write(head)
            self._sending = self._loop.create_task(self._send(body, length))
        return Answer(self, await self._answer_head())

    def _begin(self, method: str) -> None:
        self._method, self._head, self._whole, self._error = method.encode("ascii"), None, False, None
        self._interim = self._searched = 0
        self._silent = True

    async def _answer_head(self) -> Head:
        while (head := self._head) is None:
            if self._error is not None:
                raise self._error
            await self._something()
        return head

    def given_up(self, why: str) -> NoAnswer | Unreadable:
        """What to raise if nobody waits for the answer any more."""
        return NoAnswer(why) if self._silent else Unreadable(f"it did not come in time ({why})")

    @property
    def bodiless(self) -> bool:
        """Whether the answer has no body."""
        return self._head is not None and self._head.body is None

    async def body(self) -> bytes | None:
        """The next part of the answer's body; None at its end."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._whole:
                return None
            self._unpause()
            await self._something()
        part = self._parts.popleft() if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return part

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow.

        It may if this one is whole on both sides and nothing is left over.
        """
        kept = self._head is not None and self._head.keep_alive
        sent = self._sent and not self._transport.get_write_buffer_size()
        return self._whole and sent and kept and not (self.closed or self._held or self._error)

    @property
    def kept_by_upstream(self) -> float:
        """How many seconds the upstream says that it keeps an idle connection.

        Infinity if it doesn't say.
        """
        return self._head.kept if self._head is not None else 0

    def rest(self, until: float) -> None:
        """Have the connection wait for another exchange, until then."""
        self._method, self._parts, self._size, self.rests_until = b"", deque(), 0, until
        self._unpause()

    async def secured(self, tls: ssl.SSLContext, name: str) -> Exchange:
        """This connection with TLS from now on.

        TLS is with whoever is at the end of the tunnel that the connection has become.
        """
        self.handed_over = True
        inside = Exchange(self._loop, self._bounds)
        try:
            transport = await self._loop.start_tls(self._transport, inside, tls, server_hostname=name)
        except BaseException:
            self.close()
            raise
        if transport is None:
            raise NoAnswer("the connection was closed")
        inside.connection_made(transport)
        return inside

    def close(self) -> None:
        """End the connection, whatever is still being sent on it."""
        self.closed = True
        if self._sending is not None:
            self._sending.cancel()
        self._forget_last_word()
        self._transport.abort()

    # Sending

    async def _send(self, body: AsyncIterator[bytes], length: int | None) -> None:
        try:
            async for part in framed(body, length):
                if self.closed:
                    return
                self._transport.write(part)
                if self._writable is not None:
                    await asyncio.shield(self._writable)
            self._sent = True
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits for the answer
            if not self._whole:
                self._fail(error)
        finally:
            self._forget_last_word()

    def _forget_last_word(self) -> None:
        if self._last_word is not None:
            self._last_word.forget()
            self._last_word = None

    # Reading

    def _read_head(self, data: bytes) -> bytes:
        """Look for the head, and return what follows it."""
        self._held += data
        while self._head is None:
            span = end_of_head(self._held, self._searched)
            if len(self._held) > self._bounds.size and (span is None or span[0] > self._bounds.size):
                raise TooMuch(f"its head is longer than {self._bounds.size} bytes")
            if span is None:
                self._searched = len(self._held)
                return b""
            head = read_head(bytes(self._held[: span[0]]), self._method, self._bounds)
            del self._held[: span[1]]
            self._searched = 0
            if head.interim:
                self._interim += 1
                if self._interim > _INTERIM_MAX:
                    raise TooMuch("too many interim answers came")
                continue
            self._head = head
        rest = bytes(self._held)
        self._held.clear()
        if self._head.body is None or self._head.body.over:
            self._held += rest
            self._end()
            return b""
        self._wake()
        return rest

    def _read_body(self, head: Head, data: bytes) -> None:
        assert head.body is not None
        part = head.body.feed(data)
        if part:
            self._parts.append(part)
            self._size += len(part)
        if head.body.over:
            self._held += head.body.rest
            self._end()
            return
        if self._size > _HELD_MAX and not self._paused:
            self._transport.pause_reading()
            self._paused = True
        if part:
            self._wake()

    def _end(self) -> None:
        self._whole = True
        self._wake()

    def _over(self, exc: Exception | None, *, well: bool = False) -> None:
        """No more will come; ``well`` says that the upstream itself told so."""
        if self._whole or self._error is not None or not self._method:
            self._wake()
        elif self._head is None:
            said = type(exc).__name__ if exc is not None else "the connection was closed"
            self._fail(NoAnswer(said) if self._silent else Unreadable("it was broken off within its head"))
        elif well and isinstance(self._head.body, UntilClose):
            self._end()
        else:
            self._fail(BrokenOff("it was broken off within its body"))

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _something(self) -> None:
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _unpause(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False


def _told_well(transport: asyncio.Transport) -> bool:
    """Whether the upstream itself told the end: through TLS only its close_notify does.

    RFC 9112 §9.8.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        return not tls.read(1)
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:
        return False
