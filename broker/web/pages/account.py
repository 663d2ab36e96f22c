"""``/console/account``: where somebody is signed in, and with what.

Its buttons ask the API.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from broker.base.db import EVERY_TENANT
from broker.identity import passkeys, sessions
from broker.identity.oidc import people
from broker.web.api.identities import view as identity_view
from broker.web.api.passkeys import view as passkey_view
from broker.web.api.sessions import view as session_view
from broker.web.callers import ByAnyRole, Call
from broker.web.pages.login import rendered
from broker.web.pages.signed_in import ForThoseSignedIn

router = APIRouter(include_in_schema=False, route_class=ForThoseSignedIn)


@router.get("/console/account")
async def account(call: ByAnyRole) -> Response:
    """One's own sessions, passkeys and identities."""
    return rendered(call.services, "account", **await _shown(call))


async def _shown(call: Call) -> dict[str, Any]:
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        own = await passkeys.of_account(session, call.account.id)
        known = await people.of_account(session, call.account.id)
        where = await sessions.listed(session, call.account.id, call.now)
    return {
        "account": call.account,
        "roles": sorted(call.account.roles),
        "passkeys": [passkey_view(row) for row in own],
        "identities": [identity_view(row) for row in known],
        "sessions": [session_view(row, call.account.session) for row in reversed(where)],
    }
