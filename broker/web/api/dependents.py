"""…/dependents: what stops, and for whom, if an organization, key, job or grant is revoked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.credentials import versions
from broker.formats.ids import CredentialId, GrantId
from broker.grants import commands as grants
from broker.grants import jobs
from broker.grants.tables import GrantRow
from broker.leases import dependents
from broker.leases.dependents import Cut
from broker.organizations import commands as organizations
from broker.web.api.fields import IdPath, ReferencePath, View
from broker.web.api.names import job_names
from broker.web.callers import ByAnyRole, Call

router = APIRouter(prefix="/v1")

NAMED = 20


class DependentsView(View):
    """What stops: ask for it before you revoke."""

    credentials: Annotated[int, Field(description="Credentials that are in force.")]
    versions: Annotated[int, Field(description="Their keys that work, or wait for a decision.")]
    grants: Annotated[int, Field(description="Grants in force that give a right to them.")]
    open_leases: int
    workloads: Annotated[
        list[str],
        Field(
            description=f"Names of jobs that leased or used a key of these lately, the latest first; {NAMED} at most."
        ),
    ]
    workloads_total: int
    days: Annotated[int, Field(description="So many days are lately.")]


async def _view(session: AsyncSession, call: Call, cut: Cut) -> DependentsView:
    found = await dependents.of(session, cut, call.now)
    latest = found.workloads[:NAMED]
    names = await job_names(session, latest)
    return DependentsView(
        credentials=found.credentials,
        versions=found.versions,
        grants=found.grants,
        open_leases=found.open_leases,
        workloads=[names[each] or each for each in latest],
        workloads_total=len(found.workloads),
        days=dependents.DAYS,
    )


@router.get(
    "/organizations/{organization}/dependents", tags=["organizations"], summary="What stops with an organization"
)
async def of_organization(organization: ReferencePath, call: ByAnyRole) -> DependentsView:
    """What stops, and for which jobs, if this organization is revoked: all keys, grants and leases of it."""
    async with call.services.parts.db.read(call.scope) as session:
        row = await organizations.find(session, organization)
        return await _view(session, call, dependents.organization(row.id))


@router.get("/credentials/{credential_id}/dependents", tags=["credentials"], summary="What stops with a credential")
async def of_credential(credential_id: IdPath[CredentialId], call: ByAnyRole) -> DependentsView:
    """What stops, and for which jobs, if this credential is revoked.

    Grants are those that give a right to it.  One that covers every label goes on giving a right to the others.
    """
    async with call.services.parts.db.read(call.scope) as session:
        row = await versions.get_credential(session, credential_id)
        return await _view(session, call, dependents.credential(row))


@router.get("/workloads/{workload}/dependents", tags=["workloads"], summary="What stops with a job")
async def of_workload(workload: ReferencePath, call: ByAnyRole) -> DependentsView:
    """What a job, by id or name, can't use any more if it is revoked: the keys that its grants give a right to.

    The keys themselves go on working for others.
    """
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        row = await jobs.find(session, call.account, workload, now=call.now)
    async with call.services.parts.db.read(call.scope) as session:
        return await _view(session, call, dependents.workload(row.id, call.now))


async def of_grants(grant_ids: Sequence[GrantId], call: Call) -> DependentsView:
    """What stops if all of these grants are revoked at once, as far as the caller sees them."""
    async with call.services.parts.db.read(call.scope) as session:
        rows = await session.scalars(select(GrantRow).where(GrantRow.id.in_(grant_ids)))
        return await _view(session, call, dependents.together([dependents.grant(row) for row in rows]))


@router.get("/grants/{grant_id}/dependents", tags=["grants"], summary="What stops with a grant")
async def of_grant(grant_id: IdPath[GrantId], call: ByAnyRole) -> DependentsView:
    """What the job of this grant can't use any more if it is revoked, unless another grant gives it a right too."""
    async with call.services.parts.db.read(call.scope) as session:
        return await _view(session, call, dependents.grant(await grants.find(session, grant_id)))
