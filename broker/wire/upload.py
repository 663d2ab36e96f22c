"""A body on its way out: its framing, and a way to hear an upstream that breaks off early."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress


async def framed(body: AsyncIterator[bytes], length: int | None) -> AsyncIterator[bytes]:
    """What is sent of ``body``.

    If its ``length`` was declared, it is sent as it is, else in chunks (RFC 9112 §7.1).

    Raises:
        ConnectionResetError: it is not as long as declared; no byte too many was given.
        Exception: what ``body`` raises.
    """
    left = length or 0
    async for part in body:
        if length is not None:
            left -= len(part)
            if left < 0:
                break
            yield part
        elif part:  # an empty chunk would end the body, and what follows be read as the next request
            yield b"%x\r\n%b\r\n" % (len(part), part)
    if left:
        raise ConnectionResetError("the body is not as long as it was said to be")
    if length is None:
        yield b"0\r\n\r\n"


class LastWord:
    """A second handle of a connection's socket.

    An upstream that answers early and breaks off may still be heard by it (RFC 9112 §9.5).  It can't be through TLS,
    nor if no handle is left.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._handle: int | None = None
        sock = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("ssl_object") is None:
            with suppress(OSError):
                self._handle = os.dup(sock.fileno())

    def read(self) -> Iterator[bytes]:
        """What the kernel still holds of what the upstream said."""
        if self._handle is None:
            return
        sock, self._handle = socket.socket(fileno=self._handle), None
        with sock, suppress(OSError):
            sock.setblocking(False)
            while data := sock.recv(65_536):
                yield data

    def forget(self) -> None:
        """Close the handle: nothing more is to be heard."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
