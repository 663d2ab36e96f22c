"""``/login/device``: a person lets a command line elsewhere act as them (RFC 8628).

Whoever phishes sends somebody a code and this page's address.  So the code has to be typed, the page says whose command
line it is before it asks, and what the address says is not looked at.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT
from broker.base.errors import BrokerError
from broker.base.pairing import in_two, letters_of
from broker.identity import sessions
from broker.identity.device_sign_in import DeviceSignInOff, NoSuchCode, TooManyCodes
from broker.identity.tables import DeviceSignInRow
from broker.web.callers import ByAnyRole, Call
from broker.web.pages.login import browser_session, rendered
from broker.web.pages.signed_in import ForThoseSignedIn

router = APIRouter(include_in_schema=False, route_class=ForThoseSignedIn)

_MINUTE_MS: Final = 60_000


@router.get("/login/device")
async def ask(call: ByAnyRole) -> Response:
    """The page on which a person types the code."""
    try:
        call.services.device_sign_ins.insist()
    except DeviceSignInOff as off:
        return _said(call, "This is off here", off.public, off.status)
    call.insist_on_a_fresh_person()
    return _asked(call)


@router.post("/login/device")
async def answer(request: Request, call: ByAnyRole) -> Response:
    """Say whose command line shows the code, or let it act as the session's person, or refuse it."""
    call.insist_on_a_fresh_person()
    browser_session(call)
    fields = dict(parse_qsl((await request.body()).decode("latin-1")))
    typed, allow = fields.get("code", ""), fields.get("allow", "")
    try:
        if allow in {"yes", "no"}:
            return await _answered(call, typed, allowed=allow == "yes")
        async with call.services.parts.db.read(EVERY_TENANT) as session:
            row = await call.services.device_sign_ins.waiting(session, call.account.id, typed, call.now)
    except (NoSuchCode, TooManyCodes) as refused:
        return _asked(call, refused)
    return _shown(call, row, in_two(letters_of(typed)))


async def _answered(call: Call, typed: str, *, allowed: bool) -> HTMLResponse:
    devices, present = call.services.device_sign_ins, browser_session(call)
    async with call.services.parts.db.write(EVERY_TENANT) as session:
        await sessions.insist(session, present, call.now)
        row = await devices.waiting(session, call.account.id, typed, call.now)
        await devices.answer(session, row, call.actor, present if allowed else None, call.now)
    if allowed:
        return _said(call, "The command line is signed in", "It shows so within seconds. You can close this page.")
    return _said(call, "It was refused", "Nothing was allowed. You can close this page.")


def _asked(call: Call, wrong: BrokerError | None = None) -> HTMLResponse:
    page = rendered(call.services, "device", wrong=wrong.public if wrong else "")
    page.status_code = wrong.status if wrong else 200
    return page


def _shown(call: Call, row: DeviceSignInRow, code: str) -> HTMLResponse:
    return rendered(
        call.services,
        "device-asks",
        code=code,
        name=call.account.name,
        here=call.actor.address,
        there=row.address,
        agent=row.agent,
        at=rfc3339(row.created_at),
        minutes=max(call.now - row.created_at, 0) // _MINUTE_MS,
    )


def _said(call: Call, title: str, text: str, status: int = 200) -> HTMLResponse:
    page = rendered(call.services, "oidc", title=title, text=text, links=[("/console/account", "Your account")])
    page.status_code = status
    return page
