"""Ways to a sink.

What is sent without an error was taken.  After an error nobody knows, and it is sent again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from broker.base import closed
from broker.base.clock import Clock, rfc3339
from broker.base.outbound import Outbound, Unreachable, checked, resolved
from broker.siem.sinks import File, Https, Sink, Syslog, tls_of
from broker.wire.client import Unreadable

# How long a receiver may take for one thing: to be reached, to take, to confirm.
_LONGEST_S: Final = 20.0
# Security and authorization messages, informational (RFC 5424 §6.2.1).
_PRIORITY: Final = 10 * 8 + 6
_TAIL: Final = 65_536


class NotTaken(Exception):
    """The sink didn't take a batch, or didn't say so; the text says why, and names no secret."""


class Sender(Protocol):
    """One sink's."""

    async def send(self, lines: Sequence[bytes]) -> None:
        """Send lines, each without its end; raises NotTaken."""
        ...


def sender_of(sink: Sink, outbound: Outbound, clock: Clock) -> Sender:
    """What sends to a sink."""
    if isinstance(sink, Https):
        return OverHttps(sink, outbound)
    return OverSyslog(sink, clock) if isinstance(sink, Syslog) else ToFile(sink, clock)


class OverHttps:
    """Posts a batch as NDJSON."""

    def __init__(self, sink: Https, outbound: Outbound) -> None:
        self._sink, self._outbound = sink, outbound
        self._tls = None if sink.ca_file is None else tls_of(sink.ca_file)

    async def send(self, lines: Sequence[bytes]) -> None:
        """Post them; raises NotTaken."""
        sink, body = self._sink, b"".join(line + b"\n" for line in lines)
        headers = [("Content-Type", "text/plain" if sink.format == "cef" else "application/x-ndjson")]
        try:
            if sink.authorization_file is not None:
                # Read each time, so that it may be changed at leisure.
                headers.append(("Authorization", closed.read(sink.authorization_file).decode().strip()))
            async with self._outbound.call(
                "POST", sink.url, headers=headers, body=body, private=sink.private, tls=self._tls
            ) as answer:
                status = answer.status
        except (Unreachable, Unreadable) as error:
            raise NotTaken(f"no answer ({error})") from None
        except (OSError, closed.OpenToOthers, ValueError):
            raise NotTaken(
                "authorization_file can't be used; it has to be one line that only its owner reads"
            ) from None
        if not 200 <= status < 300:
            raise NotTaken(f"answered {status}")


class OverSyslog:
    """Sends a batch over a connection of its own, whose end the receiver confirms.

    Syslog has no answers.  A receiver that ended the connection in order had read what came before.
    """

    def __init__(self, sink: Syslog, clock: Clock) -> None:
        self._sink, self._clock = sink, clock
        self._tls = tls_of(sink.ca_file)

    async def send(self, lines: Sequence[bytes]) -> None:
        """Send them; raises NotTaken."""
        sink, now = self._sink, rfc3339(self._clock())
        head = f"<{_PRIORITY}>1 {now} {_hostname()} keybroker - audit - \ufeff".encode()
        framed = b"".join(b"%d %b" % (len(head) + len(line), head + line) for line in lines)
        try:
            find = resolved(sink.host, sink.port) if sink.private else checked(resolved, sink.host, sink.port)
            addresses = [info[4][:2] for info in await find]
            await asyncio.to_thread(self._deliver, addresses[0], framed)
        except (Unreachable, OSError) as error:  # ssl's errors are of this kind too
            raise NotTaken(f"no connection ({type(error).__name__})") from None

    def _deliver(self, address: tuple[Any, ...], framed: bytes) -> None:
        plain = socket.create_connection(address, timeout=_LONGEST_S)
        with plain, self._tls.wrap_socket(plain, server_hostname=self._sink.host) as secured:
            secured.sendall(framed)
            # One that ends without TLS's own words has all the same read everything: else it would be a reset.
            with suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
                secured.unwrap().close()


class ToFile:
    """Appends a batch to a file, durably.

    The file is opened again for each batch, so that it may be moved away meanwhile, as ``logrotate`` does.  A batch is
    in it whole, or not at all: what is left of one that was cut short is taken out.
    """

    def __init__(self, sink: File, clock: Clock) -> None:
        self._sink, self._clock = sink, clock

    async def send(self, lines: Sequence[bytes]) -> None:
        """Append them; raises NotTaken."""
        day = datetime.fromtimestamp(self._clock() / 1000, UTC).date().isoformat()
        path = self._sink.path.with_name(self._sink.path.name.replace("{date}", day))
        try:
            await asyncio.to_thread(append, path, b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise NotTaken(f"can't be written ({error.strerror})") from None


def append(path: Path, data: bytes, write: Callable[[int, bytes], int] = os.write) -> None:
    """Append whole lines to a file, durably; raises OSError, and then nothing was appended."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end = _whole(descriptor)
        os.ftruncate(descriptor, end)
        try:
            while data:
                data = data[write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
        if end == 0:
            _keep_name(path)
    finally:
        os.close(descriptor)


def _whole(descriptor: int) -> int:
    """Where the last whole line of a file ends."""
    at = os.fstat(descriptor).st_size
    while at:
        start = max(0, at - _TAIL)
        found = os.pread(descriptor, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _keep_name(path: Path) -> None:
    """Make the name of a new file durable, too."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _hostname() -> str:
    """This machine's name as syslog has it."""
    name = "".join(character for character in socket.gethostname() if "!" <= character <= "~")
    return name[:255] or "-"
