"""/v1/organizations: the upstream's customers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.subjects import of_process
from broker.base.errors import Forbidden
from broker.base.paging import by
from broker.base.validity import Validity
from broker.care import policies
from broker.credentials import revocation
from broker.erasure import organizations as erasing
from broker.organizations import commands as organizations
from broker.organizations.tables import OrganizationRow
from broker.web.api.fields import (
    Body,
    Cursor,
    Label,
    Limit,
    Line,
    Page,
    Reason,
    ReferencePath,
    View,
    when,
)
from broker.web.api.listing import NameSought, Order, named, rows_of, shown
from broker.web.callers import ByAdminRole, ByAnyRole, ByOperatorOrSecurityRole, ByOperatorRole
from broker.web.idempotency import told

router = APIRouter(prefix="/v1/organizations", tags=["organizations"])


class NewOrganization(Body):
    """A customer organization; the slug never changes."""

    slug: Label
    name: Line


class OrganizationView(View):
    """A customer organization."""

    id: str
    slug: str
    name: str
    state: str
    rotation_days: int | None
    created_at: str | None
    revoked_at: str | None


def show(row: OrganizationRow) -> OrganizationView:
    return OrganizationView(
        id=row.id,
        slug=row.slug,
        name=row.name,
        state=row.state,
        rotation_days=row.rotation_days,
        created_at=when(row.created_at),
        revoked_at=when(row.revoked_at),
    )


@router.post("", summary="Add a customer organization", status_code=201, response_model=OrganizationView)
async def create(body: NewOrganization, call: ByOperatorRole) -> Response:
    """Add a customer organization under a slug of its own; keys are requested of it afterwards."""
    if call.account.organizations is not None:
        raise Forbidden("Your account is limited to some organizations; ask an admin to add this one.")

    async def work(session: AsyncSession) -> OrganizationView:
        return show(await organizations.create(session, call.actor, slug=body.slug, name=body.name, now=call.now))

    return await call.change(body, work, 201)


@router.get("", summary="List organizations")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    state: Annotated[Validity | None, Query()] = None,
    name: NameSought = None,
    order: Order = "oldest",
) -> Page[OrganizationView]:
    """The organizations that you may see; ``name`` is looked for in slugs too."""
    row = OrganizationRow
    filters = by(row.state, state), named(name, row.slug, row.name)
    async with call.services.parts.db.read(call.scope) as session:
        return shown(await rows_of(session, row, filters, limit, cursor, order, row.id), show)


@router.get("/{organization}", summary="Show an organization")
async def one(organization: ReferencePath, call: ByAnyRole) -> OrganizationView:
    """One customer organization, by its id or its slug, with its rotation policy."""
    async with call.services.parts.db.read(call.scope) as session:
        return show(await organizations.find(session, organization))


class Policy(Body):
    """How often the organization's keys are to be replaced; None leaves it to each provider."""

    rotation_days: Annotated[int, Field(ge=1, le=3650)] | None = None


@router.post("/{organization}/policy", summary="Set an organization's rotation policy", response_model=OrganizationView)
async def policy(organization: ReferencePath, body: Policy, call: ByOperatorRole) -> Response:
    """Decide how often the organization's keys are to be replaced."""

    async def work(session: AsyncSession) -> OrganizationView:
        return show(
            await policies.of_organization(
                session, call.actor, organization, rotation_days=body.rotation_days, now=call.now
            )
        )

    return await call.change(body, work)


class NewName(Body):
    """A customer's name, as people read it."""

    name: Line


@router.post("/{organization}/name", summary="Correct an organization's name", response_model=OrganizationView)
async def rename(organization: ReferencePath, body: NewName, call: ByOperatorRole) -> Response:
    """Correct the organization's name; its slug stays."""

    async def work(session: AsyncSession) -> OrganizationView:
        return show(await organizations.rename(session, call.actor, organization, name=body.name, now=call.now))

    return await call.change(body, work)


@router.post("/{organization}/revoke", summary="Revoke an organization", response_model=OrganizationView)
async def revoke(organization: ReferencePath, body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """Cut an organization off, and its credentials: no lease, use or submission under it once this is answered."""
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> OrganizationView:
        return show(
            await revocation.revoke_organization(session, call.actor, organization, reason=body.reason, now=call.now)
        )

    return await call.cut(body, work)


@router.post("/{organization}/erase", summary="Erase an organization", response_model=OrganizationView)
async def erase(organization: ReferencePath, call: ByAdminRole) -> Response:
    """Erase a revoked organization, for good: nobody reads any more who did what for it, and every proof stays valid.

    Its name, its people's addresses and what people wrote of it are deleted.  A legal hold keeps it.
    """
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> OrganizationView:
        return show(await erasing.erase(session, call.actor, organization, now=call.now))

    response = await call.change(None, work)
    of_process(call.services.parts.db).heard(told(response)["id"])
    return response
