"""Customers: the list, and everything of one of them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, later
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow
from broker.grants.shown import GrantState
from broker.leases import days
from broker.leases.listing import LeaseState
from broker.organizations import commands as customers
from broker.web.api import credentials, dependents, exposures, grants, intakes, leases
from broker.web.api import organizations as api
from broker.web.api.fields import Cursor, Line, Reason, Reference, ReferencePath
from broker.web.api.organizations import NewOrganization
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, ByOperatorRole, Call
from broker.web.console import chart
from broker.web.console.forms import Blank, Form, Sent
from broker.web.console.page import Question, Refusal, acted, asked, listing, page, routes
from broker.web.console.timelines import certified

router = routes()

LISTED: Final = 50
# Of what belongs to one customer; the rest is one page away.
FEW: Final = 10


@router.get("/organizations")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    name: Annotated[Line | None, Blank, Query()] = None,
    state: Annotated[Validity | None, Blank, Query()] = None,
) -> Response:
    """Customers, by name or state."""
    found = await api.listed(call, LISTED, cursor, state, name)
    async with call.services.parts.db.read(call.scope) as session:
        keys = await _keys(session, [each.id for each in found.items])
    return listing(call, "organizations.html", found, cursor, {"name": name, "state": state}, keys=keys)


async def _keys(session: AsyncSession, whose: list[str]) -> dict[str, int]:
    """How many credentials in force each of these has."""
    row = CredentialRow
    query = select(row.organization_id, func.count()).where(
        row.organization_id.in_(whose), row.state == Validity.ACTIVE
    )
    return {each[0]: each[1] for each in await session.execute(query.group_by(row.organization_id))}


@router.get("/organizations/new")
async def new(call: ByOperatorRole) -> Response:
    """The form of a new customer."""
    return _new(call, Form({}))


def _new(call: Call, given: Form, refusal: Refusal | None = None) -> Response:
    return page(call, "organization_new.html", refusal=refusal, slug=given.one("slug"), name=given.one("name"))


@router.post("/organizations/new")
async def create(call: ByOperatorRole, form: Sent) -> Response:
    """Add a customer."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, form, refusal)

    async def work() -> object:
        return await api.create(form.read(NewOrganization), call)

    return await acted(work, f"/console/organizations/{form.one('slug').strip()}", again)


@router.get("/organizations/{organization}")
async def one(organization: ReferencePath, call: ByAnyRole) -> Response:
    """Everything of one customer: keys, rights, leases, requests, uses by day."""
    view = await api.one(organization, call)
    whose = Reference(view.id)
    parts = call.services.parts
    held = await credentials.listed(call, FEW, organization=whose, order="newest")
    async with parts.db.read(call.scope) as session:
        row = await customers.find(session, organization)
        since = later(call.now, -chart.DAYS * DAY_MS)
        bars = chart.bars(await days.of_organization(session, row.id, since), call.now)
        certificates = await certified(session, [each.id for each in held.items])
    return page(
        call,
        "organization.html",
        view=view,
        credentials=held,
        certificates=certificates,
        grants=await grants.listed(call, FEW, organization=whose, state=GrantState.ACTIVE, order="newest"),
        leases=await leases.listed(
            call, call.services, FEW, organization=whose, state=LeaseState.ACTIVE, order="newest"
        ),
        requests=await intakes.listed(call, FEW, organization=whose, order="newest"),
        incidents=await exposures.listed(call, FEW, organization=whose, order="newest"),
        bars=bars,
        chart=chart,
    )


@router.get("/organizations/{organization}/revoke")
async def ask_to_revoke(organization: ReferencePath, call: ByOperatorOrSecurityRole) -> Response:
    """What stops with a customer, before it is asked."""
    return await _ask(call, organization)


async def _ask(call: Call, organization: Reference, refusal: Refusal | None = None) -> Response:
    view, cut = await api.one(organization, call), await dependents.of_organization(organization, call)
    says = (
        f"Cuts off {view.name} ({view.slug}) for good, with all of its keys: no lease, use or submission from then on.",
        "Keys are not revoked at the upstream by this; the customer does that.",
    )
    back = f"/console/organizations/{view.id}"
    return asked(call, Question(f"Revoke {view.slug}?", says, f"Revoke {view.slug}", back, cut), refusal)


@router.post("/organizations/{organization}/revoke")
async def revoke(organization: ReferencePath, call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Cut a customer off."""

    async def again(refusal: Refusal) -> Response:
        return await _ask(call, organization, refusal)

    async def work() -> object:
        return await api.revoke(organization, form.read(Reason), call)

    return await acted(work, f"/console/organizations/{organization}", again)
