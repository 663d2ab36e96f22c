"""What is around every request.

It gets an id, which its log lines have too.  Its body is capped and its answer has safe headers.  It is logged and
counted.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from broker.base.errors import BrokerError, TooLarge
from broker.base.logs import RequestLog
from broker.base.strangers import Pace, address
from broker.base.tracing import served
from broker.formats import ids
from broker.formats.ids import RequestId
from broker.web.errors import problem, render
from broker.web.metrics import Metrics

if TYPE_CHECKING:
    from broker.base.spans import Arrival

Endpoint = Callable[[Request], Awaitable[Response]]

BODY_MAX = 65_536
# A partner decides how large a batch is, and the other keys in it are anybody's.
_LARGER: Mapping[str, int] = {"/v1/leaks/reports/github": 4 * 1024**2}
PROXY = "/proxy/"
# These are answered even if everything else is refused.
_OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
# Set in a request's scope once its caller, a job or an operator, is known, or lacks no more than a nonce: that is no
# refusal but how each job with a key begins, and costs no more than other open answers.
ESTABLISHED = "established"
# Set in a request's scope if a proof came with it: what the next one has to hold (RFC 9449 §8.2).
NONCE = "dpop_nonce"
_JOB_LEFT = 499  # nginx's word for a client that closed its request

_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Direct:
    """Answers the hottest routes before the framework's own layers.

    Those layers would take most of the time.  The framework declares these routes as well, for the documentation, and
    shares the endpoint: every answer and every error is the same.  The proxy is an application of its own.
    """

    def __init__(self, app: FastAPI, routes: Mapping[tuple[str, str], Endpoint], proxy: ASGIApp) -> None:
        self._app = app
        self._routes = routes
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path", "").startswith(PROXY):
            await self._proxy(scope, receive, send)
            return
        endpoint = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["app"], scope["direct"] = self._app, scope["path"]
        try:
            response = await endpoint(Request(scope, receive))
        except ClientDisconnect:  # before its body was read, so nothing was done
            scope["job_left"] = True
            return
        except Exception as error:  # noqa: BLE001 - rendered in the one shape, as the framework would have it done
            response = await render(error)
        await response(scope, receive, send)


class Edge:
    """The outermost ASGI layer.  ``hsts`` is set if the public address is https.

    While ``closed`` gives an error, that is the answer to everything but probes and metrics.

    Refusals of callers who weren't established leave one after the other, ``refusals`` in a second.  Without that,
    hundreds of connections that ask again as soon as they are answered would keep the process from jobs' calls.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, *, closed: Callable[[], BrokerError | None], hsts: bool, refusals: float
    ) -> None:
        self._app = app
        self._closed = closed
        self._metrics = metrics
        self._log, self._requests = structlog.get_logger().bind(), RequestLog()
        self.pace = Pace(per_second=refusals, burst=20, longest_s=15)
        fixed = {**_HEADERS, **({"Strict-Transport-Security": "max-age=63072000"} if hsts else {})}
        self._fixed = [(name.lower().encode(), value.encode()) for name, value in fixed.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD" and not scope["path"].startswith(PROXY):
            scope, send = {**scope, "method": "GET", "asked": "HEAD"}, _without_content(send)
        host, port = scope.get("client") or ("", 0)
        scope["client"] = (address(host), port)
        request_id = scope["request_id"] = ids.new(ids.RequestId)
        bound = bind_contextvars(request_id=request_id)
        try:
            with served(scope["headers"]) as arrival:
                await self._answer(scope, receive, send, request_id, arrival)
        finally:
            reset_contextvars(**bound)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, request_id: RequestId, arrival: Arrival | None
    ) -> None:
        started, status = time.perf_counter(), 500
        path = scope["path"]
        proxied = path.startswith(PROXY)
        most = _LARGER.get(path, BODY_MAX)

        async def sending(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                status = message["status"]
                if 400 <= status < 500 and not scope.get(ESTABLISHED):
                    started += await self.pace.turn()
                headers = message["headers"] = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers.append((b"x-request-id", request_id.encode()))
                if NONCE in scope and b"dpop-nonce" not in present:
                    headers.append((b"dpop-nonce", scope[NONCE].encode()))
                if proxied:  # in these answers x-request-id belongs to the job and the upstream
                    headers.append((b"x-broker-request-id", request_id.encode()))
                headers += [pair for pair in self._fixed if pair[0] not in present]
            await send(message)

        try:
            if (closed := self._closed()) is not None and path not in _OPEN:
                await (await render(closed))(scope, receive, sending)
            elif proxied:  # the proxy streams, and has caps of its own
                await self._app(scope, receive, sending)
            elif (declared := header(scope, b"content-length") or "").isdecimal() and int(declared) > most:
                await _too_large(most)(scope, receive, sending)
            else:
                await self._app(scope, _Capped(receive, most), sending)
        except Exception:  # noqa: BLE001 - logged where the answer was rendered, or the answer is cut off here
            self._log.error("request.aborted")
        finally:
            status = _JOB_LEFT if scope.get("job_left") else status
            self._note(scope, status, time.perf_counter() - started, request_id, arrival)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: RequestId, arrival: Arrival | None) -> None:
        route = str(scope.get("direct") or getattr(scope.get("route"), "path", "unrouted"))
        asked = scope.get("asked", scope["method"])
        method = asked if asked in _METHODS else "other"
        self._metrics.note(route, method, status, seconds)
        if arrival is not None:
            attributes: dict[str, str | int] = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "keybroker.request_id": request_id,
            }
            arrival.answered(f"{method} {route}", attributes, failed=status >= 500)
        self._requests.answered(method, route, status, seconds, request_id)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of the header ``name``, given in lower case; None if there is none."""
    for given, value in scope["headers"]:
        if given == name:
            return str(value, "latin-1")
    return None


def _without_content(send: Send) -> Send:
    """A ``send`` that answers HEAD like GET, but without the content (RFC 9110 §9.3.2)."""

    async def sending(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sending


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
