"""``/_admin``: what the demo and the tests do to the sandbox, and no customer could."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from broker.sandbox import faults
from broker.sandbox.answers import Refused, error, fields_of, is_text
from broker.sandbox.state import State

_FACILITIES_MAX = 5_000

Handler = Callable[[Request], Awaitable[Response]]


def admin_routes(state: State, token: str) -> Mount:
    """The admin calls over ``state``; each wants ``token`` in ``X-Admin-Token``."""
    admin = _Admin(state)
    calls: list[tuple[str, Handler, str]] = [
        ("/organizations", admin.add_organization, "POST"),
        ("/organizations/{id}/keys", admin.add_key, "POST"),
        ("/keys", admin.mint_key, "POST"),
        ("/keys/{id}", admin.revoke_key, "DELETE"),
        ("/keys/{id}/expire", admin.expire_key, "POST"),
        ("/faults", admin.set_faults, "PUT"),
        ("/requests", admin.seen, "GET"),
    ]
    return Mount("/_admin", routes=[Route(path, _guarded(call, token), methods=[verb]) for path, call, verb in calls])


def _guarded(handler: Handler, token: str) -> Handler:
    async def guarded(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("x-admin-token", "").encode(), token.encode()):
            return error(401, "Missing or wrong X-Admin-Token header")
        return await handler(request)

    return guarded


class _Admin:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add_organization(self, request: Request) -> Response:
        fields = {"name": "Organization", "facilities": 3, **(await fields_of(request) if await request.body() else {})}
        name, facilities = fields.pop("name"), fields.pop("facilities")
        if fields or not is_text(name):
            raise Refused(422, "Fields are name, a non-empty string, and facilities")
        if isinstance(facilities, bool) or not isinstance(facilities, int) or not 0 <= facilities <= _FACILITIES_MAX:
            raise Refused(422, f"facilities must be a whole number from 0 to {_FACILITIES_MAX}")
        organization = self._state.add_organization(name, facilities)
        ids = {kind: list(items) for kind, items in organization.owned.items()}
        return JSONResponse({"id": organization.id, "name": organization.name, **ids}, 201)

    async def add_key(self, request: Request) -> Response:
        organization = self._state.organizations.get(request.path_params["id"])
        if organization is None:
            raise Refused(404, "Resource not found")
        key, text = self._state.add_key(organization)
        return JSONResponse({"id": key.id, "key": text}, 201)

    async def mint_key(self, request: Request) -> Response:
        """A key of the organization of that name, which is made if there is none."""
        name = (await fields_of(request)).get("organization")
        if not is_text(name):
            raise Refused(422, "Field required: organization")
        organization = self._state.organization_named(str(name))
        key, text = self._state.add_key(organization)
        return JSONResponse({"organization": organization.name, "id": key.id, "key": text}, 201)

    async def revoke_key(self, request: Request) -> Response:
        return self._end(request, "revoked")

    async def expire_key(self, request: Request) -> Response:
        return self._end(request, "expired")

    def _end(self, request: Request, state: str) -> Response:
        key = self._state.keys.get(request.path_params["id"])
        if key is None:
            raise Refused(404, "Resource not found")
        if key.state != "revoked":
            key.state = state
        return Response(status_code=204)

    async def set_faults(self, request: Request) -> Response:
        try:
            self._state.faults = faults.read(await fields_of(request))
        except ValueError as wrong:
            raise Refused(422, ascii(str(wrong))[1:-1]) from None
        return Response(status_code=204)

    async def seen(self, _request: Request) -> Response:
        return JSONResponse(list(self._state.requests))
