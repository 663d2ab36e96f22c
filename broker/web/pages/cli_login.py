"""``/login/cli``: a person at the browser lets a command line act as them (RFC 8252).

The button can't be left out: any page may open this one, and any program may wait at a port.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field, ValidationError

from broker.base.db import EVERY_TENANT
from broker.base.errors import Invalid, Unauthenticated
from broker.base.pairing import code_of
from broker.identity import enrolment, sessions
from broker.identity.sessions import SignedIn, Way
from broker.identity.tables import AccountRow
from broker.web.api.fields import Body
from broker.web.api.forms import Form
from broker.web.callers import ByAnyRole, Call, ReauthenticationNeeded, operator_of
from broker.web.pages.login import browser_session, rendered
from broker.web.services import Wired

router = APIRouter(include_in_schema=False)

_WORDS = "is not what a command line asks; take the address that `broker login` prints"


class Asking(Body):
    """What a command line asks by, where it waits, and what it says that it is called."""

    port: Annotated[int, Field(ge=1_024, le=65_535)]
    state: Annotated[str, Form(r"^[A-Za-z0-9_-]{16,64}$", _WORDS)]
    challenge: Annotated[str, Form(r"^[A-Za-z0-9_-]{43}$", _WORDS)]
    host: Annotated[str, Form(r"^[A-Za-z0-9.-]{1,64}$", _WORDS)]

    def back(self, **brought: str) -> RedirectResponse:
        """To the command line, on this machine alone."""
        query = urlencode({**brought, "state": self.state})
        return RedirectResponse(f"http://127.0.0.1:{self.port}/?{query}", 303)


@router.get("/login/cli")
async def ask(asking: Annotated[Asking, Query()], request: Request, wired: Wired) -> Response:
    """The page that asks whoever is signed in, and just proved who they are."""
    to = quote(f"/login/cli?{urlencode(asking.model_dump())}", safe="")
    try:
        call = await operator_of(request, wired)
        call.insist_on_a_fresh_person()
    except ReauthenticationNeeded:
        return RedirectResponse(f"/login/again?to={to}", 303)
    except Unauthenticated:
        return RedirectResponse(f"/login?to={to}", 303)
    shown = rendered(
        wired,
        "cli",
        asking=asking,
        code=code_of(asking.challenge),
        name=call.account.name,
        address=call.actor.address,
    )
    policy = shown.headers["Content-Security-Policy"]
    # Browsers hold a form to this also where the answer leads on.
    there = f"form-action 'self' http://127.0.0.1:{asking.port}"
    shown.headers["Content-Security-Policy"] = policy.replace("form-action 'self'", there)
    return shown


@router.post("/login/cli")
async def answer(request: Request, call: ByAnyRole) -> Response:
    """Hand the session's person over to the command line, or tell it that they don't want that."""
    fields: dict[str, Any] = dict(parse_qsl((await request.body()).decode("latin-1")))
    allowed = fields.pop("allow", "") == "yes"
    try:
        asking = Asking.model_validate(fields)
    except ValidationError:
        raise Invalid("This isn't what the page asked; run `broker login` again.") from None
    if not allowed:
        return asking.back(refused="1")
    call.insist_on_a_fresh_person()
    return asking.back(code=await _code(call, asking.challenge))


async def _code(call: Call, challenge: str) -> str:
    present = browser_session(call)
    async with call.services.parts.db.write(EVERY_TENANT) as session:
        await sessions.insist(session, present, call.now)
        row = await sessions.of(session, present)
        account = await session.get_one(AccountRow, call.account.id)
        proof = SignedIn(Way(row.way), row.authenticated_at, row.issuer, row.issuer_session)
        key = call.services.parts.keys.token_hash
        return enrolment.hand_over(session, key, account, proof, challenge, call.now)
