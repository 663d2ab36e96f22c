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
    host: str = "127.0.0.1",
    port: int = 0,
    lifespan: Literal["on", "off"] = "off",
    protocol: Callable[..., asyncio.Protocol] | None = None,
) -> AsyncIterator[str]:
    """The base URL of ``app``, served until the context closes.

    Args:
        app: the application.
        host: the address to listen on.
        port: 0 takes any free one.
        lifespan: whether ``app`` is told of its beginning and end.
        protocol: speaks HTTP in place of uvicorn's own.

    Raises:
        OSError: the port is taken.
        RuntimeError: the application did not start.
    """
    with socket.create_server((host, port)) as bound:
        address = f"http://{host}:{bound.getsockname()[1]}"
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
        serving = asyncio.create_task(_serve(server, bound))
        try:
            while not server.started:
                await asyncio.wait({serving}, timeout=0.005)
                if serving.done() and not server.started:
                    await serving
                    raise RuntimeError(_NOT_STARTED)
            yield address
        finally:
            server.should_exit = True
            await serving


# Calls whose caller left may sleep for a minute, as faults ask for. Nobody waits for their answers.
_ENDS_WITHIN_S = 5


async def _serve(server: uvicorn.Server, bound: socket.socket) -> None:
    try:
        await server.serve(sockets=[bound])
    except SystemExit:
        # If it left a task, it would end the whole event loop, past every handler of the caller.
        raise RuntimeError(_NOT_STARTED) from None
