"""Sign-in by an identity provider: the way there and back, and what it tells by itself.

Of what a provider or anybody else wrote into an address, nothing is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from broker.base.db import EVERY_TENANT
from broker.base.errors import BrokerError
from broker.identity import sessions
from broker.identity.oidc.logout import LogoutRefused
from broker.identity.oidc.pending import LASTS_MS
from broker.identity.oidc.refusals import SignInRefused
from broker.identity.oidc.sign_in import Returned, Wish
from broker.identity.sessions import Client, Device
from broker.identity.tables import SessionRow
from broker.web import cookies
from broker.web.callers import address, agent
from broker.web.pages.login import rendered
from broker.web.pages.returns import HOME, target
from broker.web.services import Services, Wired

router = APIRouter(tags=["sign-in"])

_CODE_MAX: Final = 4_096
_PURPOSE: Final = "sign-in"
_Asked = Annotated[str | None, Query(max_length=_CODE_MAX)]


@router.get("/login/oidc/{provider}", include_in_schema=False)
async def leave(
    provider: str, request: Request, wired: Wired, to: _Asked = None, again: Annotated[bool, Query()] = False
) -> Response:
    """Send the browser to the provider."""
    row = await _present(request, wired) if again else None
    kept = _kept(request, wired)
    wish = Wish(provider, address(request), kept, None if row is None else row.id, target(to or HOME))
    try:
        begun = await wired.sign_in.begin(wish)
    except BrokerError as refused:
        return _refused(wired, refused)
    response = RedirectResponse(begun.url, 303)
    cookies.keep(response, wired.options.public_url, begun.browser, LASTS_MS, purpose=_PURPOSE)
    return response


@router.get("/login/callback", include_in_schema=False)
async def come_back(
    request: Request, wired: Wired, state: _Asked = None, code: _Asked = None, iss: _Asked = None
) -> Response:
    """Take the browser that the provider sent back, and sign its person in."""
    row, kept = await _present(request, wired), _kept(request, wired)
    device = Device(Client.BROWSER, address(request), agent(request))
    try:
        finished = await wired.sign_in.finish(Returned(state, code, iss), kept, device, row.id if row else None)
    except BrokerError as refused:
        return _refused(wired, refused)
    response = RedirectResponse(finished.destination, 303)
    cookies.signed_in(response, finished.token, wired.options.public_url)
    cookies.forget(response, wired.options.public_url, purpose=_PURPOSE)
    return response


@router.get("/login/left/{provider}", response_class=HTMLResponse, include_in_schema=False)
async def left(provider: str, wired: Wired) -> Response:
    """Say that the session here has ended, and lead to the provider's own sign-out."""
    try:
        client = wired.sign_in.client(provider)
    except BrokerError as refused:
        return _refused(wired, refused)
    text = "Your session here has ended. At your identity provider you may still be signed in."
    links = [("/login", "Sign in again")]
    if where := await client.logout_url():
        links.insert(0, (where, f"Sign out at {client.provider.title}"))
    return _page(wired, "You are signed out", text, links)


@router.post("/logout/backchannel", include_in_schema=False)
async def logged_out(request: Request, wired: Wired) -> Response:
    """End the sessions that a provider says are over (OpenID Connect Back-Channel Logout 1.0)."""
    fields = parse_qsl((await request.body()).decode("ascii", "replace"), keep_blank_values=True)
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise LogoutRefused
    await wired.logout.take(tokens[0])
    return Response(status_code=200)


async def _present(request: Request, wired: Services) -> SessionRow | None:
    """The session that the browser has already."""
    token = cookies.token(request, wired.options.public_url)
    if token is None:
        return None
    async with wired.parts.db.read(EVERY_TENANT) as session:
        return await sessions.find(session, wired.parts.keys.token_hash, token, wired.parts.clock())


def _kept(request: Request, wired: Services) -> str | None:
    """What the browser has kept of an earlier sign-in."""
    return request.cookies.get(cookies.name(wired.options.public_url, _PURPOSE))


def _refused(wired: Services, refused: BrokerError) -> HTMLResponse:
    title = refused.title if isinstance(refused, SignInRefused) else "You can't sign in this way"
    return _page(wired, title, refused.public, [("/login", "To the sign-in page")], refused.status)


def _page(wired: Services, title: str, text: str, links: Sequence[tuple[str, str]], status: int = 200) -> HTMLResponse:
    page = rendered(wired, "oidc", title=title, text=text, links=links)
    page.status_code = status
    return page
