"""What every page of the console is made of: frame, headers, and refusals that are pages.

A page is another rendering of the API's own answers.  No page but an event's has a script, and no policy lets run what
stands in a page, so nothing that is shown can become one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from broker.base.errors import BrokerError, NotFound, Unauthenticated
from broker.identity.principal import Role
from broker.web import errors
from broker.web.api.dependents import DependentsView
from broker.web.callers import Call, ReauthenticationNeeded
from broker.web.console import words
from broker.web.idempotency import told

Made = TypeVar("Made")

CSP: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
    "X-Robots-Tag": "noindex",
}
FOR_GOOD: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
SIGN_IN: Final = "/login"
SIGN_IN_AGAIN: Final = "/login/again"
HOME: Final = "/console"

_HERE = Path(__file__).parent
_SHEET = _HERE / "static" / "console.css"


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the navigation, for who has one of ``roles``; for all if none is named."""

    name: str
    path: str
    roles: tuple[Role, ...] = ()


PLACES: Final = (
    Place("Overview", HOME),
    Place("Customers", f"{HOME}/organizations"),
    Place("Keys", f"{HOME}/keys"),
    Place("Requests", f"{HOME}/requests"),
    Place("Jobs", f"{HOME}/jobs"),
    Place("Grants", f"{HOME}/grants"),
    Place("Leases", f"{HOME}/leases"),
    Place("Incidents", f"{HOME}/incidents"),
    Place("Reviews", f"{HOME}/reviews"),
    Place("Audit", f"{HOME}/audit", (Role.SECURITY,)),
    Place("Accounts", f"{HOME}/accounts", (Role.ADMIN,)),
    Place("Settings", f"{HOME}/settings"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done, and what to do about it."""

    title: str
    detail: str
    status: int


# The paths at which there is a page, as their routes have them.
_PAGES: Final[set[str]] = set()


class ConsoleRoute(APIRoute):
    """A route whose refusals are pages; whoever has to sign in, or again, is led there and back."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        super().__init__(path, endpoint, **more)
        if "GET" in (self.methods or ()):
            _PAGES.add(self.path)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with refusals rendered."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ReauthenticationNeeded:
                return RedirectResponse(f"{SIGN_IN_AGAIN}?to={_page_of(self.path, request.url.path)}", 303)
            except Unauthenticated as error:
                if request.method == "GET":
                    return RedirectResponse(f"{SIGN_IN}?to={request.url.path}", 303)
                return _alone(await refusal_of(error))
            except (BrokerError, RequestValidationError, HTTPException, IntegrityError) as error:
                return _alone(await refusal_of(error))

        return handle


def _page_of(route: str, path: str) -> str:
    """The page that a form was on: at its own path, or at the nearest above."""
    while route not in _PAGES:
        route, path = route.rpartition("/")[0], path.rpartition("/")[0]
    return path


def routes() -> APIRouter:
    """A router for a group of pages."""
    return APIRouter(prefix=HOME, include_in_schema=False, route_class=ConsoleRoute)


router, nowhere = routes(), routes()


@router.get("/static/console.css")
async def sheet() -> FileResponse:
    """The one style sheet; its address changes with it."""
    return FileResponse(_SHEET, media_type="text/css", headers=FOR_GOOD)


@nowhere.get("/{_rest:path}")
async def elsewhere(_rest: str) -> Response:
    """The page of an address that has none."""
    raise NotFound("The console has no such page.")


def page(call: Call, template: str, *, refusal: Refusal | None = None, policy: str = CSP, **given: Any) -> HTMLResponse:
    """A page of the console, for who calls; ``given`` is what its template shows.

    With ``refusal`` it says on top why something was not done, and has that status.  ``policy`` says what may run.
    """
    path = call.route.partition(" ")[2]
    shell = {
        "account": call.account,
        "now": call.now,
        "may": lambda *roles: call.account.may(*map(Role, roles)),
        "places": [place for place in PLACES if not place.roles or call.account.may(*place.roles)],
        "here": next((place.path for place in reversed(PLACES) if path.startswith(place.path)), ""),
        "vendor": call.services.options.vendor_name,
        "refusal": refusal,
    }
    return _rendered(template, refusal.status if refusal else 200, {**given, **shell}, policy)


def listing(
    call: Call,
    template: str,
    found: object,
    cursor: str,
    sought: Mapping[str, object],
    *,
    always: Collection[str] = (),
    **given: Any,
) -> HTMLResponse:
    """A page of a list: what was ``found`` of what was ``sought``, and the way to the next one.

    ``always`` names what its links say also where it is empty, as they would ask for something else without it.
    """
    asked_for = {name: value or "" for name, value in sought.items()}
    query = urlencode({name: value for name, value in asked_for.items() if value or name in always})
    return page(call, template, found=found, first=not cursor, query=query, sought=asked_for, **given)


def _alone(refusal: Refusal) -> HTMLResponse:
    """A refusal on a page of its own, for who may not even be known."""
    return _rendered("refused.html", refusal.status, {"refusal": refusal})


def _rendered(template: str, status: int, given: Mapping[str, Any], policy: str = CSP) -> HTMLResponse:
    shown = _templates().get_template(template).render(sheet=f"{HOME}/static/console.css?v={_digest()}", **given)
    return HTMLResponse(shown, status, {"Content-Security-Policy": policy, **_HEADERS})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before something is done that can't be undone.

    ``says`` has a sentence each of what happens.  ``button`` names the act, ``back`` is the page to go back to.  With
    ``cut`` it tells what stops and for whom, with ``reason`` it asks why, for the record.  A repeat is known
    by ``once``.
    """

    title: str
    says: Sequence[str]
    button: str
    back: str
    cut: DependentsView | None = None
    reason: bool = True
    danger: bool = True
    once: str = ""


def asked(call: Call, question: Question, refusal: Refusal | None = None) -> HTMLResponse:
    """The page that asks."""
    return page(call, "asked.html", question=question, refusal=refusal)


async def acted(
    work: Callable[[], Awaitable[object]], then: str, again: Callable[[Refusal], Awaitable[Response]]
) -> Response:
    """Do what a form asks for, then lead to ``then``.

    Where it is refused, ``again`` shows the form and why.
    """

    async def lead(_: object) -> Response:
        return RedirectResponse(then, 303)

    return await answered(work, lead, again)


async def answered(
    work: Callable[[], Awaitable[Made]],
    then: Callable[[Made], Awaitable[Response]],
    again: Callable[[Refusal], Awaitable[Response]],
) -> Response:
    """As :func:`acted`, where what was made is shown by ``then``."""
    try:
        made = await work()
    except Unauthenticated:
        raise
    except (BrokerError, RequestValidationError, IntegrityError) as error:
        return await again(await refusal_of(error))
    return await then(made)


async def refusal_of(error: Exception) -> Refusal:
    """The refusal as the API would tell it."""
    said = told(await errors.render(error))
    return Refusal(said["title"], said["detail"], said["status"])


@cache
def _digest() -> str:
    return hashlib.sha256(_SHEET.read_bytes()).hexdigest()[:12]


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=words.visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.FILTERS)
    return made
