"""Serve an ASGI application on a port of this machine for as long as a context is open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp


@asynccontextmanager
async def running(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, lifespan: Literal["on", "off"] = "off"
) -> AsyncIterator[str]:
    """The base URL of ``app``, served until the context closes; ``port`` 0 takes any free one."""
    bound = socket.create_server((host, port))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", access_log=False, lifespan=lifespan, server_header=False)
    )
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started:
            await asyncio.sleep(0.005)
            if serving.done():
                await serving
        yield f"http://{host}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        bound.close()
