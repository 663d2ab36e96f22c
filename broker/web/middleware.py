"""Around every request: an id, a cap on the body, safe headers, one log line and its metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.base.errors import TooLarge
from broker.formats import ids
from broker.web.errors import problem

_log = structlog.get_logger()

BODY_MAX = 65_536
PROXY_BODY_MAX = 10 * 1_048_576

_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Metrics:
    """Counters without tenants, ids or paths: routes and statuses only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "keybroker_requests_total", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram("keybroker_request_seconds", "Time to answer.", ["route"], registry=self.registry)


class Edge:
    """ASGI middleware.  ``hsts`` is set where the public address is https."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, hsts: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._fixed = dict(_HEADERS)
        if hsts:
            self._fixed["Strict-Transport-Security"] = "max-age=63072000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        request_id = ids.new("req")
        scope.setdefault("state", {})["request_id"] = request_id

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._fixed.items():
                    headers.setdefault(name, value)
            await send(message)

        limit = PROXY_BODY_MAX if scope["path"].startswith("/proxy/") else BODY_MAX
        declared = Headers(scope=scope).get("content-length", "")
        try:
            if declared.isdecimal() and int(declared) > limit:
                await _too_large(limit)(scope, receive, sending)
            else:
                await self._app(scope, _Capped(receive, limit), sending)
        finally:
            self._note(scope, status, time.perf_counter() - started, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unrouted")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        _log.info(
            "request", method=method, route=route, status=status, ms=round(seconds * 1000, 1), request_id=request_id
        )


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Capped:
    """A ``receive`` that raises TooLarge at the cap, for bodies that don't declare their length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self._limit = limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLarge(_advice(self._limit))
        return message


def _too_large(limit: int) -> ASGIApp:
    return problem(413, TooLarge.code, TooLarge.title, _advice(limit))


def _advice(limit: int) -> str:
    return f"The body is capped at {limit} bytes; send less."
