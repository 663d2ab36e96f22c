"""From a connected socket to a connection of ours."""

from __future__ import annotations

import asyncio
import socket

from broker.wire.client import Exchange
from broker.wire.framing import Bounds


async def adopted(sock: socket.socket, bounds: Bounds) -> Exchange:
    """An exchange on a connected socket.

    The socket is no longer the caller's, whatever happens.

    This isn't interrupted.  If it were, loops would differ in whether the socket, its handle or both are theirs.  A
    handle that was closed twice may be another connection's by then.
    """
    loop = asyncio.get_running_loop()
    making = loop.create_task(loop.create_connection(lambda: Exchange(loop, bounds), sock=sock))
    try:
        return (await asyncio.shield(making))[1]
    except asyncio.CancelledError:
        making.add_done_callback(_abandon)
        raise


def _abandon(making: asyncio.Task[tuple[asyncio.Transport, Exchange]]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result()[1].close()
