"""/v1/workloads: jobs and their public keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden
from broker.grants import jobs
from broker.identity import workloads
from broker.identity.tables import WorkloadRow
from broker.web.api.fields import Body, Cursor, Limit, Name, Page, Reason, ReferencePath, View, page, when
from broker.web.api.listing import rows_of
from broker.web.callers import SECURED, ByAnyRole, ByOperatorOrSecurityRole, ByOperatorRole

router = APIRouter(prefix="/v1/workloads", tags=["workloads"], dependencies=SECURED)


class NewWorkload(Body):
    """A job: a JWK Set of public keys, or a client secret where this deployment allows them (development)."""

    name: Name
    jwks: Annotated[dict[str, Any], Field(max_length=8)] | None = None
    client_secret: bool = False


class WorkloadView(View):
    """A job."""

    id: str
    name: str
    key_ids: list[str]
    has_client_secret: bool
    state: str
    created_at: str | None
    revoked_at: str | None


class WorkloadCreated(WorkloadView):
    """A new job; ``client_secret`` is shown this once."""

    client_secret: str | None


def _members(row: WorkloadRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "key_ids": [str(key.get("kid")) for key in row.jwks["keys"]],
        "has_client_secret": row.secret_hash is not None,
        "state": row.state,
        "created_at": when(row.created_at),
        "revoked_at": when(row.revoked_at),
    }


def show(row: WorkloadRow) -> WorkloadView:
    return WorkloadView(**_members(row))


@router.post("", status_code=201, response_model=WorkloadCreated)
async def create(body: NewWorkload, call: ByOperatorRole) -> Response:
    """Register a job."""
    if body.client_secret and not call.services.options.allow_client_secrets:
        raise Forbidden(
            "Client secrets are for development only and off here (BROKER_ALLOW_CLIENT_SECRETS); register a public key."
        )

    async def work(session: AsyncSession) -> WorkloadCreated:
        row, secret = await workloads.create(
            session,
            call.actor,
            name=body.name,
            jwks=body.jwks,
            secret_hash_key=call.services.parts.keys.token_hash if body.client_secret else None,
            now=call.now,
        )
        return WorkloadCreated(**_members(row), client_secret=secret)

    return await call.change(body, work, 201, scope=EVERY_TENANT)


@router.get("")
async def listed(call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "") -> Page[WorkloadView]:
    """Every job; for an account that is limited to some customers, those that work for no others."""
    query = jobs.within(select(WorkloadRow), call.account, call.now)
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        rows = await rows_of(session, query, WorkloadRow.id, limit, cursor)
    return page(rows, limit, show, lambda row: row.id)


@router.get("/{workload}")
async def one(workload: ReferencePath, call: ByAnyRole) -> WorkloadView:
    """One job, by id or name."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        return show(await jobs.find(session, call.account, workload, now=call.now))


@router.post("/{workload}/revoke", response_model=WorkloadView)
async def revoke(workload: ReferencePath, body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """End a job: no token, lease or use by it once this is answered."""

    async def work(session: AsyncSession) -> WorkloadView:
        row = await jobs.end(session, call.account, call.actor, workload, reason=body.reason, now=call.now)
        return show(row)

    return await call.cut(body, work, scope=EVERY_TENANT)
