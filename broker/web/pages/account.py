"""``/console/account``: where somebody is signed in, and with what.

Its buttons ask the API.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from broker.base.db import EVERY_TENANT
from broker.base.errors import Unauthenticated
from broker.identity import passkeys, sessions
from broker.web.api.passkeys import view as passkey_view
from broker.web.api.sessions import view as session_view
from broker.web.callers import ByAnyRole, Call
from broker.web.pages.login import rendered


class _ForThoseSignedIn(APIRoute):
    """A page's route; whoever isn't signed in is led to where they can."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthenticated:
                return RedirectResponse(f"/login?to={self.path}", 303)

        return handle


router = APIRouter(include_in_schema=False, route_class=_ForThoseSignedIn)


@router.get("/console/account")
async def account(call: ByAnyRole) -> Response:
    """One's own sessions and passkeys."""
    return rendered(call.services, "account", **await _shown(call))


async def _shown(call: Call) -> dict[str, Any]:
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        own = await passkeys.of_account(session, call.account.id)
        where = await sessions.listed(session, call.account.id, call.now)
    return {
        "account": call.account,
        "roles": sorted(call.account.roles),
        "passkeys": [passkey_view(row) for row in own],
        "sessions": [session_view(row, call.account.session) for row in reversed(where)],
    }
