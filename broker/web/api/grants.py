"""/v1/grants: who may use what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AwareDatetime, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.grants import granting
from broker.grants.policy import Mode
from broker.grants.tables import GrantRow
from broker.identity import workloads
from broker.organizations import tenants
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    Page,
    Reason,
    Reference,
    View,
    after,
    page,
    when,
)
from broker.web.session import SECURED, ByAnyone, ByEither, ByOperator

router = APIRouter(prefix="/v1/grants", tags=["grants"], dependencies=SECURED)


class NewGrant(Body):
    """A right for one job, over one or more organizations; one grant is made for each of them."""

    workload: Reference
    organizations: Annotated[list[Reference], Field(min_length=1, max_length=100)]
    provider: Label
    label: Annotated[Label | None, Field(description="One credential's label; left out, every label.")] = None
    modes: Annotated[list[Mode], Field(min_length=1, max_length=2)]
    max_ttl: Annotated[int, Field(ge=1, le=granting.LONGEST_TTL_S, description="Seconds a lease may last in all.")] = (
        3600
    )
    purpose_required: bool = False
    expires_at: AwareDatetime | None = None


class GrantView(View):
    """A right of one job to one organization's key."""

    id: str
    organization: str
    workload: str
    provider: str
    label: str | None
    modes: list[str]
    max_ttl: int
    purpose_required: bool
    expires_at: str | None
    state: str
    created_at: str | None
    revoked_at: str | None


class Granted(View):
    """The grants that were made."""

    items: list[GrantView]


def show(row: GrantRow) -> GrantView:
    """The row as answers show it."""
    return GrantView(
        id=row.id,
        organization=row.organization_id,
        workload=row.workload_id,
        provider=row.provider,
        label=row.label,
        modes=row.modes,
        max_ttl=row.max_ttl,
        purpose_required=row.purpose_required,
        expires_at=when(row.expires_at),
        state=row.state,
        created_at=when(row.created_at),
        revoked_at=when(row.revoked_at),
    )


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


@router.post("", status_code=201, response_model=Granted)
async def create(body: NewGrant, call: ByOperator) -> Response:
    """Give a job a right to keys of these organizations: all of them, or none."""
    call.services.catalog.get(body.provider)

    async def work(session: AsyncSession) -> Granted:
        wanted = dict.fromkeys([(await tenants.find_active(session, ref)) for ref in body.organizations])
        rows = await granting.create(
            session,
            call.actor,
            workload=await workloads.find(session, body.workload),
            organizations=list(wanted),
            provider=body.provider,
            label=body.label,
            modes=body.modes,
            max_ttl=body.max_ttl,
            purpose_required=body.purpose_required,
            expires_at=_ms(body.expires_at),
            now=call.now,
        )
        return Granted(items=[show(row) for row in rows])

    return await call.change(body, work, 201)


@router.get("")
async def listed(
    call: ByAnyone,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Query()] = None,
    workload: Annotated[Reference | None, Query()] = None,
) -> Page[GrantView]:
    """Grants, of one organization or job where named."""
    query = select(GrantRow).where(GrantRow.id > after(cursor)).order_by(GrantRow.id).limit(limit + 1)
    async with call.services.db.read(call.scope) as session:
        if organization is not None:
            query = query.where(GrantRow.organization_id == (await tenants.find(session, organization)).id)
        if workload is not None:
            query = query.where(GrantRow.workload_id == (await workloads.find(session, workload)).id)
        rows = (await session.scalars(query)).all()
    return page(rows, limit, show, lambda row: row.id)


@router.get("/{grant_id}")
async def one(grant_id: IdPath, call: ByAnyone) -> GrantView:
    """One grant."""
    async with call.services.db.read(call.scope) as session:
        return show(await granting.find(session, grant_id))


@router.post("/{grant_id}/revoke", response_model=GrantView)
async def revoke(grant_id: IdPath, body: Reason, call: ByEither) -> Response:
    """Take a grant back: no lease or use under it once this is answered."""

    async def work(session: AsyncSession) -> GrantView:
        return show(await granting.revoke(session, call.actor, grant_id, note=body.reason, now=call.now))

    return await call.change(body, work)
