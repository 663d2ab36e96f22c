"""What a running broker serves: its API behind the edge, its probes, and how HTTP is spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from broker.app import Broker, running
from broker.base.ending import told
from broker.base.parent import Parent
from broker.config import Settings
from broker.proxy.in_flight import InFlightCalls
from broker.web import console, errors
from broker.web.api import ROUTERS, description, health, leases
from broker.web.middleware import Direct, Edge
from broker.web.pages import account, cli_login, device_login, evidence, login, oidc, reference
from broker.web.pages import intake as intake_pages
from broker.web.pages import status as status_pages
from broker.web.proxy import Forwarding
from broker.web.services import Services
from broker.wire.framing import Bounds
from broker.wire.server import Connection, Limits

# The framework's own would export addresses, queries and errors' texts wherever the environment says.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class Served:
    """A broker that lives as long as its ASGI lifespan.

    It is for servers that start processes by themselves.  The lifespan ends once the broker is closed: a server may end
    its process the moment that it hears so.
    """

    def __init__(self, settings: Settings, *, with_worker: bool, parent: Parent | None = None) -> None:
        self._settings = settings
        self._parent = parent
        self._with_worker = with_worker
        self._edge: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan that every other one lies within."""
        if scope["type"] != "lifespan":
            assert self._edge is not None
            await self._edge(scope, receive, send)
            return
        last: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                last.append(message)
            else:
                await send(message)

        async with running(self._settings, parent=self._parent) as broker:
            _, self._edge = asgi(broker, with_worker=self._with_worker)
            await self._edge(scope, receive, sending)
        for message in last:
            await send(message)


def asgi(broker: Broker, *, with_worker: bool) -> tuple[FastAPI, Edge]:
    """The API over a running broker, and the same behind its edge, which is what is served.

    ``with_worker`` also does the periodic work in this process.
    """

    services = broker.services

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(broker.worker.run(), name="worker") if with_worker else None
        with _draining(services.in_flight):
            yield
        if working is not None:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working

    app = api(lifespan)
    app.state.services = services
    direct = Direct(app, {("POST", "/v1/leases"): leases.issue}, Forwarding(services))
    return app, _edge(direct, services)


def api(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The API without what answers it: enough to be described."""
    app = description.Described(
        title="Keybroker",
        version=description.VERSION,
        summary="Short-lived, audited access to the API keys that customers share.",
        description=description.WHOLE,
        openapi_tags=description.tags(),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to wherever the request's Host header says
        lifespan=lifespan,
        telemetry=_NO_TELEMETRY,
        responses={
            code: {
                "description": "A problem (RFC 9457).",
                "content": {"application/problem+json": {"schema": errors.PROBLEM}},
            }
            for code in ("4XX", "5XX")
        },
    )
    errors.install(app)
    customers = (intake_pages.router, status_pages.router, evidence.router)
    people = (login.router, cli_login.router, device_login.router, oidc.router, account.router, *console.ROUTERS)
    for router in (*ROUTERS, *customers, *people, reference.router):
        app.include_router(router)
    return app


@contextmanager
def _draining(in_flight: InFlightCalls) -> Iterator[None]:
    """Drain the calls as soon as the process is told to end.

    Its server waits for requests meanwhile.
    """
    loop, ending = asyncio.get_running_loop(), list[asyncio.Task[None]]()

    def begin() -> None:
        if not ending:
            ending.append(loop.create_task(in_flight.end(in_flight.limits.drain_seconds), name="drain"))

    with told(lambda: loop.call_soon_threadsafe(begin)):
        yield
    for task in ending:
        task.cancel()


def protocol(settings: Settings) -> Callable[..., asyncio.Protocol]:
    """What speaks HTTP on a connection, within the bounds of the settings."""
    limits = Limits(
        head=Bounds(settings.http_head_bytes, settings.http_request_fields),
        idle_seconds=settings.http_idle_seconds,
        connections=settings.http_connections,
    )
    return partial(Connection, limits=limits)


def probes(broker: Broker) -> ASGIApp:
    """A process's probes and metrics alone.

    They are served on a port of their own, and are all that a worker's process serves.
    """
    app = FastAPI(
        title="Keybroker's probes",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.services = broker.services
    app.include_router(health.router)
    return _edge(app, broker.services)


def _edge(app: ASGIApp, services: Services) -> Edge:
    return Edge(
        app,
        services.metrics,
        closed=lambda: services.parts.audit.closed,
        hsts=services.options.public_url.startswith("https:"),
        refusals=services.options.refusals,
    )
