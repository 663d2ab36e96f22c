"""The pages that people sign in with, and the JSON that their script speaks.

One-time links keep their secret in the fragment, so a program that opens links spends none: a button does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden
from broker.base.shown import shown
from broker.formats.ids import SessionId
from broker.identity import enrolment, passkeys, relying_party, sessions
from broker.identity.sessions import Client, Device, SignedIn
from broker.identity.tables import AccountRow, SessionRow
from broker.web import cookies
from broker.web.api.fields import Body, Line, View
from broker.web.api.passkeys import PasskeyView
from broker.web.api.passkeys import view as passkey_view
from broker.web.callers import ByAnyRole, Call, address, agent
from broker.web.pages import ceremony_cookie
from broker.web.pages.intake import CSP
from broker.web.pages.other_ways import after_sign_out, other_ways
from broker.web.pages.returns import HOME, target
from broker.web.services import Services, Wired

router = APIRouter(tags=["sign-in"])

_HEADERS: Final = {
    "Content-Security-Policy": CSP.replace("form-action 'none'", "form-action 'self'"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": (
        "publickey-credentials-get=(self), publickey-credentials-create=(self), "
        "camera=(), microphone=(), geolocation=()"
    ),
    "X-Robots-Tag": "noindex",
}
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["shown"] = shown
To = Annotated[str, Query(max_length=1_000)]
Answer = Annotated[dict[str, Any], Field(description="What the browser's passkey answered, as its toJSON() has it.")]


class NotInABrowser(Forbidden):
    """A page's script asks this, and who asks is no browser."""

    code = "browser_needed"
    title = "Only a browser may do this"

    def __init__(self) -> None:
        super().__init__("Passkeys are proved in a browser. On a command line, `broker login` opens one.")


class Link(Body):
    """A one-time link to an account."""

    secret: Annotated[str, Field(max_length=100, description="What stands in the link behind the #.")]


class Proof(Body):
    """A passkey's proof."""

    answer: Answer


class NewPasskey(Body):
    """A passkey that the browser has made, and what its owner calls it."""

    answer: Answer
    name: Line


class Entered(View):
    """Who is signed in; the session's token is in the cookie."""

    operator: str


@router.get("/login", response_class=HTMLResponse, include_in_schema=False)
async def sign_in(wired: Wired, to: To = HOME) -> HTMLResponse:
    """The page to sign in on."""
    return rendered(wired, "sign-in", to=target(to), ways=other_ways(wired, target(to), again=False))


@router.get("/login/again", response_class=HTMLResponse, include_in_schema=False)
async def sign_in_again(wired: Wired, to: To = HOME) -> HTMLResponse:
    """The page on which somebody who is signed in proves that it is they who sit there."""
    return rendered(wired, "again", to=target(to), ways=other_ways(wired, target(to), again=True))


@router.get("/login/link", response_class=HTMLResponse, include_in_schema=False)
async def link_page(wired: Wired) -> HTMLResponse:
    """The page of one-time links: the same for all, as servers don't see which."""
    return rendered(wired, "link", to=HOME)


@router.get("/logout", response_class=HTMLResponse, include_in_schema=False)
async def sign_out_page(wired: Wired) -> HTMLResponse:
    """The page that asks: an address that signs out by itself could be put into any picture."""
    return rendered(wired, "sign-out")


@router.post("/logout", include_in_schema=False)
async def sign_out(request: Request, wired: Wired) -> Response:
    """End the browser's session, if it has one."""
    if not (token := cookies.token(request, wired.options.public_url)):
        return RedirectResponse("/login", 303)
    async with wired.parts.db.write(EVERY_TENANT) as session:
        ended = await _end_previous(session, wired, token, "signed_out")
    response = RedirectResponse(await after_sign_out(wired, ended.issuer if ended else ""), 303)
    cookies.forget(response, wired.options.public_url)
    return response


def rendered(wired: Services, page: str, **given: Any) -> HTMLResponse:
    """A page that people sign in with; ``given`` is what its template shows."""
    party = relying_party.RelyingParty.at(wired.options.public_url)
    made = _TEMPLATES.get_template(f"{page}.html").render(
        page=page,
        vendor=wired.options.vendor_name,
        logo=wired.options.vendor_logo is not None,
        no_passkeys="" if party else relying_party.mend(wired.options.public_url),
        **given,
    )
    return HTMLResponse(made, headers=_HEADERS)


@router.post("/login/link", summary="Sign in with a one-time link")
async def use_link(body: Link, request: Request, wired: Wired) -> Response:
    """Sign the browser in with the secret of a one-time link, which is spent by that."""
    cookies.refuse_cross_site(request, wired.options.public_url)
    key, now = wired.parts.keys.token_hash, wired.parts.clock()
    async with wired.parts.db.read(EVERY_TENANT) as session:  # so that no stranger takes a writer
        await enrolment.check(session, key, body.secret, now)
    async with wired.parts.db.write(EVERY_TENANT) as session:
        account, proof = await enrolment.redeem(session, key, body.secret, now)
        token = await _begun(session, wired, request, account, proof)
    return _entered(wired, account, token)


@router.post("/login/passkey/begin", summary="Begin to sign in with a passkey")
async def begin(request: Request, wired: Wired) -> Response:
    """What the browser asks its passkeys (PublicKeyCredentialRequestOptions, as JSON)."""
    cookies.refuse_cross_site(request, wired.options.public_url)
    return _ceremony(wired)


@router.post("/login/passkey/finish", summary="Sign in with a passkey")
async def finish(body: Proof, request: Request, wired: Wired) -> Response:
    """Sign the browser in whose passkey proves whose it is."""
    cookies.refuse_cross_site(request, wired.options.public_url)
    proof_of = await wired.passkeys.shown(
        body.answer, ceremony_cookie.holder(request, wired.options.public_url), address(request)
    )
    async with wired.parts.db.write(EVERY_TENANT) as session:
        account, proof = await passkeys.use(session, proof_of, _device(request), wired.parts.clock())
        token = await _begun(session, wired, request, account, proof)
    return _entered(wired, account, token)


@router.post("/login/again/begin", summary="Begin to prove again that it is you")
async def begin_again(call: ByAnyRole) -> Response:
    """What the browser asks the passkeys of whoever is signed in."""
    browser_session(call)
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        mine = [row.credential_id for row in await passkeys.of_account(session, call.account.id)]
    return _ceremony(call.services, mine)


@router.post("/login/again/finish", summary="Prove again that it is you")
async def finish_again(body: Proof, request: Request, call: ByAnyRole) -> Response:
    """Take the proof that it is still the same person; the session goes on under another token."""
    wired, session_id = call.services, browser_session(call)
    proof_of = await wired.passkeys.shown(
        body.answer, ceremony_cookie.holder(request, wired.options.public_url), address(request)
    )
    async with wired.parts.db.write(EVERY_TENANT) as session:
        account, proof = await passkeys.use(session, proof_of, _device(request), call.now, by=call.account.id)
        row = await session.get_one(SessionRow, session_id)
        _, token = await sessions.renew(session, wired.parts.keys.token_hash, row, proof, call.now)
    return _entered(wired, account, token)


@router.post("/login/passkey/add/begin", summary="Begin to make a passkey")
async def begin_adding(call: ByAnyRole) -> Response:
    """What the browser makes a passkey of (PublicKeyCredentialCreationOptions, as JSON)."""
    call.insist_on_a_fresh_person()
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        account = await session.get_one(AccountRow, call.account.id)
        return JSONResponse(await call.services.passkeys.offer(session, account, browser_session(call)))


@router.post("/login/passkey/add/finish", summary="Keep a passkey", response_model=PasskeyView)
async def finish_adding(body: NewPasskey, call: ByAnyRole) -> Response:
    """Keep a passkey that the browser has made; from now on it signs its owner in."""
    call.insist_on_a_fresh_person()
    made = call.services.passkeys.made(body.answer, browser_session(call))

    async def work(session: AsyncSession) -> PasskeyView:
        row = await passkeys.add(session, call.actor, call.account.id, made, name=body.name, now=call.now)
        return passkey_view(row)

    return await call.change(body, work, scope=EVERY_TENANT)


def _device(request: Request) -> Device:
    return Device(Client.BROWSER, address(request), agent(request))


def browser_session(call: Call) -> SessionId:
    """The browser's session; raises NotInABrowser if it is another client's."""
    if call.account.session is None or call.account.session.client != Client.BROWSER:
        raise NotInABrowser
    return call.account.session.id


async def _begun(session: AsyncSession, wired: Services, request: Request, account: AccountRow, proof: SignedIn) -> str:
    """A new session in place of the one that the browser had; its token."""
    if token := cookies.token(request, wired.options.public_url):
        await _end_previous(session, wired, token, "signed_in_anew")
    key, now = wired.parts.keys.token_hash, wired.parts.clock()
    return (await sessions.begin(session, key, account, proof, _device(request), now))[1]


async def _end_previous(session: AsyncSession, wired: Services, token: str, reason: str) -> SessionRow | None:
    key, now = wired.parts.keys.token_hash, wired.parts.clock()
    if (row := await sessions.find(session, key, token, now)) is None:
        return None
    return await sessions.end_own(session, row, now, reason=reason)


def _entered(wired: Services, account: AccountRow, token: str) -> Response:
    response = JSONResponse({"operator": account.id})
    cookies.signed_in(response, token, wired.options.public_url)
    ceremony_cookie.forget(response, wired.options.public_url)
    return response


def _ceremony(wired: Services, allowed: Sequence[bytes] = ()) -> Response:
    """Begin a ceremony, bound to a secret that only this browser has."""
    holder = ceremony_cookie.new()
    response = JSONResponse(wired.passkeys.ask(holder, allowed))
    ceremony_cookie.keep(response, holder, wired.options.public_url)
    return response
