"""/v1/issuers: who signs the tokens that jobs bring."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden, NotFound
from broker.identity.federation import trusts
from broker.identity.federation.tables import IssuerRow
from broker.issuers.files import IssuerFile
from broker.web.api.fields import Cursor, Label, Limit, Page, Reason, View, after, page, when
from broker.web.callers import ByAdminRole, ByAnyRole, ByOperatorOrSecurityRole, Call
from broker.web.services import Services

router = APIRouter(prefix="/v1/issuers", tags=["issuers"])

IssuerPath = Annotated[Label, Path(description="Id.")]


class UnknownIssuer(NotFound):
    """No such issuer is declared."""

    code = "unknown_issuer"

    def __init__(self) -> None:
        super().__init__(
            "There is no such issuer; `broker issuer list` shows those that are declared, and `broker issuer add` "
            "writes the file of another."
        )


class IssuerState(StrEnum):
    """Whether an issuer's tokens count."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class IssuerView(View):
    """An issuer as its file declares it, and whether its tokens count.

    Every trust binds at least one claim of each group of ``required``.  ``answered_at`` and ``failing_since`` are what
    this broker knows of its keys; it asks for them when a token comes.
    """

    id: str
    preset: str
    title: str
    issuer: str
    audience: str
    shared: bool
    once: bool
    lifetime_s: int
    algorithms: list[str]
    claims: list[str]
    required: list[list[str]]
    digest: str
    state: IssuerState
    suspended_at: str | None
    answered_at: str | None
    failing_since: str | None


def declared(services: Services, issuer: str) -> IssuerFile:
    """The issuer of that id; raises UnknownIssuer."""
    if found := services.federation.issuers.get(issuer):
        return found
    raise UnknownIssuer


def show(services: Services, one: IssuerFile, row: IssuerRow | None) -> IssuerView:
    suspended = row.suspended_at if row else None
    heard = services.federation.signer(one).heard
    return IssuerView(
        id=one.id,
        preset=one.preset,
        title=one.kind.title,
        issuer=one.issuer,
        audience=one.audience or services.options.public_url,
        shared=one.shared,
        once=one.once,
        lifetime_s=one.lifetime_s,
        algorithms=list(one.algorithms),
        claims=[claim.name for claim in one.kind.claims],
        required=[list(group) for group in (*one.kind.required, *((name,) for name in one.required.claims))],
        digest=one.digest(),
        state=IssuerState.SUSPENDED if suspended else IssuerState.ACTIVE,
        suspended_at=when(suspended),
        answered_at=when(heard.at),
        failing_since=when(heard.failing_since),
    )


@router.get("", summary="List issuers")
async def listed(call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "") -> Page[IssuerView]:
    """Every issuer that is declared by a file, bundled or your own."""
    position = after(cursor)
    rest = [one for one in call.services.federation.issuers if one.id > position]
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        rows = await session.scalars(select(IssuerRow).where(IssuerRow.id.in_([one.id for one in rest[:limit]])))
        states = {row.id: row for row in rows}
    return page(rest, limit, lambda one: show(call.services, one, states.get(one.id)), lambda one: one.id)


@router.get("/{issuer}", summary="Show an issuer")
async def one(issuer: IssuerPath, call: ByAnyRole) -> IssuerView:
    """One declared issuer: whose tokens they are, what a trust of it has to bind, and whether they count."""
    found = declared(call.services, issuer)
    return await _present(call, found)


async def _present(call: Call, found: IssuerFile) -> IssuerView:
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        return show(call.services, found, await session.get(IssuerRow, found.id))


@router.post("/{issuer}/suspend", summary="Suspend an issuer", response_model=IssuerView)
async def suspend(issuer: IssuerPath, body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """Have no token of an issuer count: what it proved ends with the answer."""
    _insist_on_every_customer(call)
    found = declared(call.services, issuer)
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        row = await session.get(IssuerRow, found.id)

    async def work(session: AsyncSession) -> IssuerView:
        return show(
            call.services,
            found,
            await trusts.suspend(session, call.actor, found, reason=body.reason, now=call.now),
        )

    return await call.cut(body, work, row.era if row else found.id, scope=EVERY_TENANT)


@router.post("/{issuer}/resume", summary="Resume an issuer", response_model=IssuerView)
async def resume(issuer: IssuerPath, body: Reason, call: ByAdminRole) -> Response:
    """Have an issuer's tokens count again; what ended stays ended."""
    call.insist_on_a_fresh_person()
    _insist_on_every_customer(call)
    found = declared(call.services, issuer)

    async def work(session: AsyncSession) -> IssuerView:
        return show(
            call.services,
            found,
            await trusts.resume(session, call.actor, found, reason=body.reason, now=call.now),
        )

    return await call.change(body, work, scope=EVERY_TENANT)


@router.post("/{issuer}/refresh", summary="Ask an issuer for its keys", response_model=IssuerView)
async def refresh(issuer: IssuerPath, call: ByOperatorOrSecurityRole) -> Response:
    """Have every broker ask an issuer for its keys again before it takes the next token.

    A key that was withdrawn verifies nothing from then on.  If the issuer gives no usable answer, what it said before
    stays, and ``failing_since`` says so.
    """
    _insist_on_every_customer(call)
    found, federation = declared(call.services, issuer), call.services.federation

    async def work() -> IssuerView:
        async with call.services.parts.db.write(EVERY_TENANT) as session:
            row = await trusts.refresh(session, call.actor, found, now=call.now)
        federation.heed(found, row)
        await federation.signer(found).look()  # outside of the transaction: it may take seconds
        return show(call.services, found, row)

    return await call.act(None, work)


def _insist_on_every_customer(call: Call) -> None:
    if call.account.organizations is not None:
        raise Forbidden("Jobs of every customer use an issuer: this needs an account that isn't limited to some.")
