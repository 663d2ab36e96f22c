"""Serve an ASGI application on a port of this machine for as long as a context is open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

_NOT_STARTED = "the application did not start"


@asynccontextmanager
async def running(
    app: ASGIApp,
    *,
    port: int = 0,
    bound: socket.socket | None = None,
    lifespan: Literal["on", "off"] = "off",
    protocol: Callable[..., asyncio.Protocol] | None = None,
) -> AsyncIterator[str]:
    """The base URL of ``app``, served until the context closes.

    Args:
        app: the application.
        port: of 127.0.0.1; 0 takes any free one.
        bound: a socket that listens already, in place of ``port``; it is closed with the context.
        lifespan: whether ``app`` is told of its beginning and end.
        protocol: speaks HTTP in place of uvicorn's own.

    Raises:
        OSError: the port is taken.
        RuntimeError: the application did not start.
    """
    with bound or socket.create_server(("127.0.0.1", port)) as listening:
        host, number = listening.getsockname()
        more: dict[str, Any] = {"http": protocol} if protocol is not None else {}
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan=lifespan,
            server_header=False,
            timeout_graceful_shutdown=_ENDS_WITHIN_S,
            **more,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(_serve(server, listening))
        try:
            while not server.started:
                await asyncio.wait({serving}, timeout=0.005)
                if serving.done() and not server.started:
                    await serving
                    raise RuntimeError(_NOT_STARTED)
            yield f"http://{host}:{number}"
        finally:
            server.should_exit = True
            await serving


# Calls whose caller left may sleep for a minute, as faults ask for. Nobody waits for their answers.
_ENDS_WITHIN_S = 5


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    try:
        await server.serve(sockets=[listening])
    except SystemExit:
        # If it left a task, it would end the whole event loop, past every handler of the caller.
        raise RuntimeError(_NOT_STARTED) from None
