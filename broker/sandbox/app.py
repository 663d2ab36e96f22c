"""The sandbox's HTTP side: the documented API, and ``/_admin`` for the demo and the tests."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.sandbox.state import PREFIXES, READ_ONLY, Faults, Key, State

_FIELDS = {"name", "type", "facility_id", "description"}
_WINDOW_S = 60.0

Handler = Callable[[Request], Awaitable[Response]]


def error(status: int, name: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The documented error shape."""
    return JSONResponse({"error": name, "message": message}, status, headers)


def create_sandbox(admin_token: str, state: State | None = None) -> Starlette:
    """The sandbox as an ASGI application.

    Args:
        admin_token: what ``/_admin`` wants in ``X-Admin-Token``.
        state: the data; fresh where left out.
    """
    sandbox = _Sandbox(state or State(), admin_token)
    return Starlette(routes=sandbox.routes(), exception_handlers={HTTPException: _http_error})


async def _http_error(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    names = {404: "Not Found", 405: "Method Not Allowed"}
    return error(failure.status_code, names.get(failure.status_code, "Error"), str(failure.detail))


class _Sandbox:
    def __init__(self, state: State, admin_token: str) -> None:
        self.state = state
        self._admin_token = admin_token

    def routes(self) -> list[Route]:
        routes = [
            Route("/_admin/organizations", self._admin(self.add_organization), methods=["POST"]),
            Route("/_admin/organizations/{id}/keys", self._admin(self.add_key), methods=["POST"]),
            Route("/_admin/keys/{id}", self._admin(self.revoke_key), methods=["DELETE"]),
            Route("/_admin/keys/{id}/expire", self._admin(self.expire_key), methods=["POST"]),
            Route("/_admin/faults", self._admin(self.set_faults), methods=["PUT"]),
            Route("/_admin/requests", self._admin(self.seen), methods=["GET"]),
        ]
        for kind in PREFIXES:
            routes += [
                Route(f"/{kind}", self._api(kind, self.collection), methods=["GET", "POST", "PATCH", "DELETE"]),
                Route(f"/{kind}/{{id}}", self._api(kind, self.item), methods=["GET", "POST", "PATCH", "DELETE"]),
            ]
        return routes

    def _admin(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if not hmac.compare_digest(request.headers.get("x-admin-token", ""), self._admin_token):
                return error(401, "Unauthorized", "Missing or wrong X-Admin-Token header")
            return await handler(request)

        return guarded

    def _api(self, kind: str, handler: Callable[[Request, str, Key], Awaitable[Response]]) -> Handler:
        async def guarded(request: Request) -> Response:
            text = request.headers.get("x-api-key")
            key = self.state.key_of(text) if text else None
            self._note(request, key)
            faults = self.state.faults
            await asyncio.sleep(faults.latency_ms / 1000)
            if faults.outage:
                return error(faults.status, "Internal Server Error", "Something went wrong")
            if text is None:
                return error(401, "Unauthorized", "Missing X-API-Key header")
            if key is None or key.state == "revoked":
                return error(401, "Unauthorized", "Invalid API key")
            if key.state == "expired":
                return error(401, "Unauthorized", "API key has expired")
            if wait := _too_fast(key, faults.rate_limit_per_minute):
                return error(429, "Too Many Requests", "Rate limit exceeded", {"Retry-After": str(wait)})
            return await handler(request, kind, key)

        return guarded

    def _note(self, request: Request, key: Key | None) -> None:
        self.state.requests.append(
            {
                "method": request.method,
                "path": request.url.path,
                "query": sorted(request.query_params),
                "key": key.id if key else None,
                "headers": sorted(name.lower() for name in request.headers),
            }
        )

    async def collection(self, request: Request, kind: str, key: Key) -> Response:
        owned = key.organization.owned[kind]
        if request.method == "GET":
            return JSONResponse(list(owned.values()))
        if kind in READ_ONLY:
            return error(403, "Forbidden", "The api_user role may only read this resource")
        if request.method != "POST":
            return error(405, "Method Not Allowed", "Method Not Allowed")
        body = await _body(request, needs_name=True)
        if isinstance(body, str):
            return error(422, "Unprocessable Entity", body)
        item = {"id": self.state.new_id(PREFIXES[kind]), **body}
        owned[item["id"]] = item
        return JSONResponse(item, 201)

    async def item(self, request: Request, kind: str, key: Key) -> Response:
        owned = key.organization.owned[kind]
        if kind in READ_ONLY and request.method != "GET":
            return error(403, "Forbidden", "The api_user role may only read this resource")
        item = owned.get(request.path_params["id"])
        if item is None:  # also for another tenant's id
            return error(404, "Not Found", "Resource not found")
        if request.method == "DELETE":
            del owned[item["id"]]
            return Response(status_code=204)
        if request.method == "PATCH":
            body = await _body(request, needs_name=False)
            if isinstance(body, str):
                return error(422, "Unprocessable Entity", body)
            item.update(body)
        elif request.method != "GET":
            return error(405, "Method Not Allowed", "Method Not Allowed")
        return JSONResponse(item)

    async def add_organization(self, request: Request) -> Response:
        body = json.loads(await request.body() or b"{}")
        organization = self.state.add_organization(body.get("name", "Organization"), body.get("facilities", 3))
        ids = {kind: list(items) for kind, items in organization.owned.items()}
        return JSONResponse({"id": organization.id, "name": organization.name, **ids}, 201)

    async def add_key(self, request: Request) -> Response:
        organization = self.state.organizations.get(request.path_params["id"])
        if organization is None:
            return error(404, "Not Found", "Resource not found")
        key, text = self.state.add_key(organization)
        return JSONResponse({"id": key.id, "key": text}, 201)

    async def revoke_key(self, request: Request) -> Response:
        return self._set_key(request.path_params["id"], "revoked")

    async def expire_key(self, request: Request) -> Response:
        return self._set_key(request.path_params["id"], "expired")

    def _set_key(self, key_id: str, state: str) -> Response:
        if key_id not in self.state.keys:
            return error(404, "Not Found", "Resource not found")
        self.state.keys[key_id].state = state
        return Response(status_code=204)

    async def set_faults(self, request: Request) -> Response:
        self.state.faults = Faults(**json.loads(await request.body()))
        return Response(status_code=204)

    async def seen(self, _request: Request) -> Response:
        return JSONResponse(list(self.state.requests))


async def _body(request: Request, *, needs_name: bool) -> dict[str, Any] | str:
    """The body's fields, or what is wrong with them."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        return "Body is not valid JSON"
    if not isinstance(body, dict):
        return "Body must be an object"
    if unknown := sorted(set(body) - _FIELDS):
        return f"Unknown field: {unknown[0]}"
    if needs_name and "name" not in body:
        return "Field required: name"
    if any(not isinstance(value, str) or not value for value in body.values()):
        return "Fields must be non-empty strings"
    return body


def _too_fast(key: Key, per_minute: int | None) -> int:
    """Seconds to wait, 0 where the call is within the limit."""
    if per_minute is None:
        return 0
    now = time.monotonic()
    while key.recent and key.recent[0] <= now - _WINDOW_S:
        key.recent.popleft()
    if len(key.recent) >= per_minute:
        return max(1, math.ceil(key.recent[0] + _WINDOW_S - now)) if key.recent else 1
    key.recent.append(now)
    return 0
