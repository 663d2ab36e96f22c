"""/v1/trusts and /v1/issuers: jobs that prove themselves by the tokens of their platforms."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.base.errors import NotFound
from broker.base.paging import by
from broker.base.validity import Validity
from broker.formats.ids import Reference, TrustId
from broker.identity import workloads
from broker.identity.federation import trusts
from broker.identity.federation.tables import IssuerRow, TrustRow
from broker.issuers.files import IssuerFile
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    Line,
    Moment,
    Note,
    Page,
    Reason,
    View,
    milliseconds,
    when,
)
from broker.web.api.fields import Reference as ReferenceField
from broker.web.api.listing import Order, WorkloadSought, rows_of, shown
from broker.web.callers import ByAdminRole, ByAnyRole, ByOperatorOrSecurityRole, Call
from broker.web.services import Services

router = APIRouter(prefix="/v1", tags=["trusts"])

Claims = Annotated[dict[Label | Line, Annotated[list[Line], Field(max_length=20)]], Field(max_length=20)]


class UnknownIssuer(NotFound):
    """No such issuer is declared."""

    code = "unknown_issuer"


class NewTrust(Body):
    """Which tokens are a job's: for each claim the values of which one has to be there, exactly."""

    workload: ReferenceField
    issuer: Label
    claims: Claims
    networks: Annotated[list[Line], Field(max_length=20, default_factory=list)]
    expires_at: Moment | None = None
    note: Note = ""


class TrustView(View):
    """A trust; ``warnings`` tell what of its values may be meant otherwise than it is taken."""

    id: str
    workload: str
    issuer: str
    claims: dict[str, list[str]]
    networks: list[str]
    state: str
    note: str
    created_by: str
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    warnings: list[str]


class IssuerView(View):
    """An issuer as its file declares it, and whether its tokens count."""

    id: str
    preset: str
    issuer: str
    audience: str
    shared: bool
    state: Literal["active", "suspended"]
    required: list[list[str]]
    suspended_at: str | None


def show(row: TrustRow, issuer: IssuerFile | None) -> TrustView:
    """The answer's view of a trust."""
    return TrustView(
        id=row.id,
        workload=row.workload_id,
        issuer=row.issuer,
        claims=row.claims,
        networks=row.networks,
        state=row.state,
        note=row.note,
        created_by=row.created_by,
        created_at=when(row.created_at),
        expires_at=when(row.expires_at),
        revoked_at=when(row.revoked_at),
        warnings=issuer.kind.warnings(row.claims) if issuer else [f"No issuer {row.issuer} is declared any more."],
    )


def _declared(services: Services, issuer: str) -> IssuerFile:
    if found := services.federation.issuers.get(issuer):
        return found
    raise UnknownIssuer("There is no such issuer; `broker issuer list` shows those that are declared.")


@router.post("/trusts", summary="Trust a platform's tokens", status_code=201, response_model=TrustView)
async def create(body: NewTrust, call: ByAdminRole) -> Response:
    """Trust the tokens of an issuer that say just this to be a job's."""
    call.insist_on_a_fresh_person()
    issuer = _declared(call.services, body.issuer)

    async def work(session: AsyncSession) -> TrustView:
        row = await trusts.create(
            session,
            call.actor,
            await workloads.find(session, Reference(body.workload)),
            issuer,
            claims=body.claims,
            networks=body.networks,
            expires_at=milliseconds(body.expires_at),
            note=body.note,
            now=call.now,
        )
        return show(row, issuer)

    return await call.change(body, work, 201, scope=EVERY_TENANT)


@router.get("/trusts", summary="List trusts")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    workload: WorkloadSought = None,
    issuer: Annotated[Label | None, Query(description="Only of this issuer.")] = None,
    state: Annotated[Validity | None, Query()] = None,
    order: Order = "oldest",
) -> Page[TrustView]:
    """Every trust."""
    row = TrustRow
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        whose = (await workloads.find(session, workload)).id if workload else None
        filters = by(row.workload_id, whose), by(row.issuer, issuer), by(row.state, state)
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
    return shown(found, lambda each: show(each, call.services.federation.issuers.get(each.issuer)))


@router.post("/trusts/{trust_id}/revoke", summary="Revoke a trust", response_model=TrustView)
async def revoke(trust_id: IdPath[TrustId], body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """End a trust: what was proved by it ends with the answer."""

    async def work(session: AsyncSession) -> TrustView:
        row = await trusts.revoke(session, call.actor, trust_id, reason=body.reason, now=call.now)
        return show(row, call.services.federation.issuers.get(row.issuer))

    return await call.cut(body, work, scope=EVERY_TENANT)


@router.get("/issuers", summary="List issuers")
async def issuers(call: ByAnyRole) -> Page[IssuerView]:
    """The declared issuers."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        states = {one.id: await session.get(IssuerRow, one.id) for one in call.services.federation.issuers}
    return Page(items=[_view(call, one, states[one.id]) for one in call.services.federation.issuers], next=None)


def _view(call: Call, one: IssuerFile, row: IssuerRow | None) -> IssuerView:
    suspended = row.suspended_at if row else None
    return IssuerView(
        id=one.id,
        preset=one.preset,
        issuer=one.issuer,
        audience=one.audience or call.services.options.public_url,
        shared=one.shared,
        state="suspended" if suspended else "active",
        required=[list(group) for group in (*one.kind.required, *((name,) for name in one.required.claims))],
        suspended_at=when(suspended),
    )


@router.post("/issuers/{issuer}/suspend", summary="Suspend an issuer", response_model=IssuerView)
async def suspend(issuer: Label, body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """Have no token of an issuer count: what it proved ends with the answer."""
    one = _declared(call.services, issuer)

    async def work(session: AsyncSession) -> IssuerView:
        row = await trusts.suspend(session, call.actor, one, reason=body.reason, now=call.now)
        return _view(call, one, row)

    return await call.cut(body, work, scope=EVERY_TENANT)


@router.post("/issuers/{issuer}/resume", summary="Resume an issuer", response_model=IssuerView)
async def resume(issuer: Label, body: Reason, call: ByAdminRole) -> Response:
    """Have an issuer's tokens count again; what ended stays ended."""
    call.insist_on_a_fresh_person()
    one = _declared(call.services, issuer)

    async def work(session: AsyncSession) -> IssuerView:
        row = await trusts.resume(session, call.actor, one, reason=body.reason, now=call.now)
        return _view(call, one, row)

    return await call.change(body, work, scope=EVERY_TENANT)
