"""The sandbox's HTTP side: the documented API, as a customer's key meets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.sandbox.admin import admin_routes
from broker.sandbox.answers import Refused, error, fields_of, is_text
from broker.sandbox.faults import seconds_to_wait
from broker.sandbox.keys import KeysApi
from broker.sandbox.state import PREFIXES, READ_ONLY, Key, State

_FIELDS = {"name", "type", "facility_id", "description"}
_READS = {"GET", "HEAD"}
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
# Every path takes every method, so that a wrong one is answered, and noted, after the key was looked at.
_EVERY = sorted(_READS | _WRITES | {"OPTIONS"})

Handler = Callable[[Request], Awaitable[Response]]
KeyHandler = Callable[[Request, Key], Awaitable[Response]]


def create_sandbox(admin_token: str, state: State | None = None) -> Starlette:
    """The sandbox as an ASGI application.

    Args:
        admin_token: the token that ``/_admin`` wants in ``X-Admin-Token``.
        state: the data; left out, it is fresh.
    """
    state = State() if state is None else state
    api = _Api(state)
    handlers = {HTTPException: _http_error, Refused: _refused}
    return Starlette(routes=[admin_routes(state, admin_token), *api.routes()], exception_handlers=handlers)


async def _http_error(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    return error(failure.status_code, str(failure.detail), failure.headers)


async def _refused(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, Refused)
    return error(failure.status, failure.message)


class _Api:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        routes = []
        for kind in PREFIXES:
            routes += [
                Route(f"/{kind}", self._keyed(_Collection(self._state, kind)), methods=_EVERY),
                Route(f"/{kind}/{{id}}", self._keyed(_Item(kind)), methods=_EVERY),
            ]
        keys = KeysApi(self._state)
        routes += [
            Route("/api-keys", self._keyed(keys.collection), methods=_EVERY),
            Route("/api-keys/{id}", self._keyed(keys.item), methods=_EVERY),
        ]
        return [*routes, Route("/{path:path}", self._keyed(_nowhere), methods=_EVERY)]

    def _keyed(self, handler: KeyHandler) -> Handler:
        async def keyed(request: Request) -> Response:
            text = request.headers.get("x-api-key")
            key = self._state.key_of(text) if text else None
            self._note(request, key)
            faults = self._state.faults
            await asyncio.sleep(faults.latency_ms / 1000)
            if faults.outage:
                return error(faults.status, "Something went wrong")
            if text is None:
                return error(401, "Missing X-API-Key header")
            if key is None or key.state == "revoked":
                return error(401, "Invalid API key")
            if key.state == "expired":
                return error(401, "API key has expired")
            if wait := seconds_to_wait(key.recent, faults.rate_limit_per_minute):
                return error(429, "Rate limit exceeded", {"Retry-After": str(wait)})
            return await handler(request, key)

        return keyed

    def _note(self, request: Request, key: Key | None) -> None:
        self._state.requests.append(
            {
                "method": request.method,
                "path": request.scope["path"],
                "query": sorted(request.query_params),
                "key": key.id if key else None,
                "headers": sorted(name.lower() for name in request.headers),
            }
        )


class _Collection:
    """All things of one kind that an organization owns."""

    def __init__(self, state: State, kind: str) -> None:
        self._state = state
        self._kind = kind

    async def __call__(self, request: Request, key: Key) -> Response:
        owned = key.organization.owned[self._kind]
        if request.method in _READS:
            return JSONResponse(list(owned.values()))
        _refuse_method(request, self._kind, {"GET", "HEAD", "POST"})
        body = await _asset(request)
        if "name" not in body:
            raise Refused(422, "Field required: name")
        item = {"id": self._state.new_id(PREFIXES[self._kind]), **body}
        owned[item["id"]] = item
        return JSONResponse(item, 201)


class _Item:
    """One thing that an organization owns; another tenant's is not there."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    async def __call__(self, request: Request, key: Key) -> Response:
        _refuse_method(request, self._kind, {"DELETE", "GET", "HEAD", "PATCH"})
        owned = key.organization.owned[self._kind]
        item = owned.get(request.path_params["id"])
        if item is None:
            raise Refused(404, "Resource not found")
        if request.method == "DELETE":
            del owned[item["id"]]
            return Response(status_code=204)
        if request.method == "PATCH":
            item.update(await _asset(request))
        return JSONResponse(item)


async def _nowhere(_request: Request, _key: Key) -> Response:
    return error(404, "Resource not found")


def _refuse_method(request: Request, kind: str, allowed: set[str]) -> None:
    """Refuse a method that the role (403) or the resource (405) doesn't have."""
    if kind in READ_ONLY:
        if request.method in _WRITES:
            raise Refused(403, "The api_user role may only read this resource")
        allowed = _READS
    if request.method not in allowed:
        raise HTTPException(405, "Method Not Allowed", {"Allow": ", ".join(sorted(allowed))})


async def _asset(request: Request) -> dict[str, Any]:
    """The body's fields of a cyber asset; raises Refused (422)."""
    body = await fields_of(request)
    if unknown := sorted(set(body) - _FIELDS):
        raise Refused(422, f"Unknown field: {ascii(unknown[0])[1:-1]}")
    if not all(is_text(value) for value in body.values()):
        raise Refused(422, "Fields must be non-empty strings")
    return body
