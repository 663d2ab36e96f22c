"""/v1/workloads: jobs and their public keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden
from broker.base.paging import by
from broker.base.validity import Validity
from broker.grants import jobs
from broker.identity import workloads
from broker.identity.federation import trusts
from broker.identity.tables import WorkloadRow
from broker.web.api.fields import Body, Cursor, Limit, Name, Page, Reason, ReferencePath, View, when
from broker.web.api.listing import NameSought, Order, named, rows_of, shown
from broker.web.callers import (
    ByAnyRole,
    ByOperatorOrSecurityRole,
    ByOperatorRole,
    ByWorkloadOrOperatorRole,
    WorkloadCall,
)
from broker.web.idempotency import answer
from broker.web.services import Wired

router = APIRouter(prefix="/v1/workloads", tags=["workloads"])


class NewWorkload(Body):
    """A job: a JWK Set of public keys, or nothing that it could lose, or a client secret (development)."""

    name: Name
    jwks: Annotated[dict[str, Any], Field(max_length=8)] | None = None
    client_secret: bool = False
    keyless: Annotated[
        bool, Field(description="It has no key: a trust says by which tokens of its platform it proves itself.")
    ] = False


class NewKey(Body):
    """Another public key of a job (a JWK); its keys from before work for ``overlap_seconds`` more."""

    jwk: Annotated[dict[str, Any], Field(max_length=16)]
    overlap_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 86_400


class WorkloadView(View):
    """A job.  ``key_ids`` are those of its keys that prove something now; ``trusts`` is how many do."""

    id: str
    name: str
    key_ids: list[str]
    has_client_secret: bool
    trusts: int
    state: str
    created_at: str | None
    revoked_at: str | None


class WorkloadCreated(WorkloadView):
    """A new job; ``client_secret`` is shown this once."""

    client_secret: str | None


def _members(row: WorkloadRow, count: int, now: Millis) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "key_ids": [str(key.get("kid")) for key in workloads.keys_at(row, now)["keys"]],
        "has_client_secret": row.secret_hash is not None,
        "trusts": count,
        "state": row.state,
        "created_at": when(row.created_at),
        "revoked_at": when(row.revoked_at),
    }


async def show(session: AsyncSession, row: WorkloadRow, now: Millis) -> WorkloadView:
    """The answer's view of a job."""
    return WorkloadView(**_members(row, (await trusts.counted(session, [row.id], now)).get(row.id, 0), now))


@router.post("", summary="Register a job", status_code=201, response_model=WorkloadCreated)
async def create(body: NewWorkload, call: ByOperatorRole) -> Response:
    """Register a job by its public key, or without one, under a name of its own.

    It may do nothing until it is granted something.
    """
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
            keyless=body.keyless,
            now=call.now,
        )
        return WorkloadCreated(**_members(row, 0, call.now), client_secret=secret)

    return await call.change(body, work, 201, scope=EVERY_TENANT)


@router.get("", summary="List jobs")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    state: Annotated[Validity | None, Query()] = None,
    name: NameSought = None,
    order: Order = "oldest",
) -> Page[WorkloadView]:
    """Every job; for an account that is limited to some customers, those that work for no others."""
    row = WorkloadRow
    filters = by(row.state, state), jobs.within(call.account, call.now), named(name, row.name)
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        counts = await trusts.counted(session, [each.id for each in found.rows], call.now)
    return shown(found, lambda each: WorkloadView(**_members(each, counts.get(each.id, 0), call.now)))


@router.get("/{workload}", summary="Show a job")
async def one(workload: ReferencePath, call: ByAnyRole) -> WorkloadView:
    """One job, by its id or its name, with the ids of its public keys."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        return await show(session, await jobs.find(session, call.account, workload, now=call.now), call.now)


@router.post("/{workload}/keys", summary="Give a job another key pair", response_model=WorkloadView)
async def rotate_key(workload: ReferencePath, body: NewKey, call: ByWorkloadOrOperatorRole, wired: Wired) -> Response:
    """Give a job another key pair under its grants: the job itself, by its id, or an operator.

    An operator can't where a second person approved that the job sees keys.
    """
    if isinstance(call, WorkloadCall):
        async with wired.parts.db.write(EVERY_TENANT) as session:
            now = wired.parts.clock()
            row = await workloads.rotate_own(
                session, call.actor, workload, body.jwk, overlap_s=body.overlap_seconds, now=now
            )
            return answer(await show(session, row, now), 200)
    operator = call

    async def work(session: AsyncSession) -> WorkloadView:
        row = await jobs.rotate_key(
            session,
            operator.account,
            operator.actor,
            workload,
            body.jwk,
            overlap_s=body.overlap_seconds,
            now=operator.now,
        )
        return await show(session, row, operator.now)

    return await operator.change(body, work, scope=EVERY_TENANT)


@router.post("/{workload}/revoke", summary="Revoke a job", response_model=WorkloadView)
async def revoke(workload: ReferencePath, body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """End a job: no token, lease or use by it once this is answered."""

    async def work(session: AsyncSession) -> WorkloadView:
        row = await jobs.end(session, call.account, call.actor, workload, reason=body.reason, now=call.now)
        return await show(session, row, call.now)

    return await call.cut(body, work, scope=EVERY_TENANT)
