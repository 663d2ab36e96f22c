"""What the processes of one broker say to each other.

They have pairs of sockets that nobody else has.  A worker asks, its parent answers.  A frame has a length, a word, the
ticket of what it is about, and a body.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import cast

# A batch of the record is far below.
_LARGEST = 1 << 28
_HEAD = struct.Struct("<IBI")


class Word(IntEnum):
    """What a frame says."""

    # A worker's: write this; I want the writer's turn, for the record or for others; it is over, or no longer wanted.
    WRITE = 1
    RECORDS_TURN = 2
    TURN = 3
    OVER = 4
    # The parent's: it is written, with the answer; it was refused, with the error; the turn is yours.
    WRITTEN = 5
    REFUSED = 6
    GO = 7


class Link(asyncio.Protocol):
    """One end.

    Args:
        came: called with each frame that comes whole: word, ticket, body.
        lost: called once the other end is gone, or said what can't be read.
    """

    def __init__(self, came: Callable[[Link, int, int, bytes], None], lost: Callable[[Link], None]) -> None:
        self._came = came
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def send(self, word: Word, ticket: int, body: bytes = b"") -> None:
        """Say something; to an end that is gone, nothing."""
        if self._transport is not None:
            self._transport.write(_HEAD.pack(len(body), word, ticket) + body)

    def close(self) -> None:
        """Close this end; the other one hears that it is alone."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._transport = None
        self._lost(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            size, word, ticket = _HEAD.unpack_from(self._buffer, at)
            if size > _LARGEST:
                self.close()
                return
            end = at + _HEAD.size + size
            if len(self._buffer) < end:
                break
            self._came(self, word, ticket, bytes(memoryview(self._buffer)[at + _HEAD.size : end]))
            at = end
        del self._buffer[:at]
