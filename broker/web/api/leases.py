"""/v1/leases: short-lived access."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Scope
from broker.base.paging import Cut, Sheet
from broker.formats.ids import LeaseId, OrganizationId, WorkloadId
from broker.grants import jobs
from broker.grants.commands import LONGEST_TTL_S
from broker.grants.policy import AccessRequest, AccessTarget, Mode
from broker.identity.workloads import NoSuchWorkload
from broker.leases.lease import Lease, lease_of
from broker.leases.leasing import ANOTHER_KEY, Issued, LeaseDenied
from broker.leases.listing import LeaseState, Sought, state_of
from broker.leases.tables import LeaseRow
from broker.organizations import commands as organizations
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    Note,
    Page,
    Reason,
    Reference,
    View,
    after,
    parsed,
    when,
    whole,
)
from broker.web.api.listing import Order, OrganizationSought, ProviderSought, WorkloadSought, shown
from broker.web.api.names import JobName, Slug, job_names, slugs_of
from broker.web.callers import (
    WORKLOAD,
    ByOperatorOrSecurityRole,
    ByWorkload,
    ByWorkloadOrAnyRole,
    Call,
    WorkloadCall,
    workload_of_token,
)
from broker.web.idempotency import checked_key
from broker.web.middleware import header
from broker.web.services import Services, Wired, services

router = APIRouter(prefix="/v1/leases", tags=["leases"])
_in_json = msgspec.json.Encoder().encode

Seconds = Annotated[int, Field(ge=1, le=LONGEST_TTL_S, description="Seconds; capped by the grant.")]


class NewLease(Body):
    """What a job asks for."""

    organization: Reference
    provider: Label
    label: Label = "default"
    mode: Literal["use", "reveal"] = "use"
    purpose: Note = ""
    ttl: Seconds | None = None
    grant: Annotated[str, Field(max_length=80, description="One of several grants; left out, the broadest.")] = ""
    bound: Annotated[
        bool, Field(description="The lease is of use only with DPoP proofs of the access token's key.")
    ] = False


class Renewal(Body):
    """For how long from now; left out, five minutes."""

    ttl: Seconds | None = None


class LeaseView(View):
    """A lease; its token is shown only when it is issued."""

    id: str
    organization: str
    workload: str
    grant: str
    credential: str
    version: int
    provider: str
    label: str
    mode: str
    purpose: str
    bound: Annotated[bool, Field(description="Whether its token needs a DPoP proof with each call.")]
    state: Annotated[
        str, Field(description="`active`, `expired`, `ended` or `revoked`; a cut-off above it shows there.")
    ]
    issued_at: str | None
    expires_at: str | None
    renewable_until: str | None
    ended_at: str | None


class NamedLease(LeaseView):
    """A lease with the names of its organization and job."""

    organization_slug: Slug
    workload_name: JobName


class LeaseIssued(View):
    """A new lease, its token and where to use it; `key` only for mode `reveal`."""

    lease: LeaseView
    organization_slug: Annotated[str, Field(description="With the lease's own fields, what was asked for.")]
    token: str
    expires_at: str | None
    proxy_url: str
    fingerprint: str
    last4: str
    key: str | None = None


def show(lease: Lease, now: Millis) -> LeaseView:
    return LeaseView(**_fields(lease, now))


def _fields(lease: Lease, now: Millis) -> dict[str, Any]:
    """The fields of a :class:`LeaseView`, in their order."""
    return {
        "id": lease.id,
        "organization": lease.organization_id,
        "workload": lease.workload_id,
        "grant": lease.grant_id,
        "credential": lease.credential_id,
        "version": lease.version,
        "provider": lease.provider,
        "label": lease.label,
        "mode": lease.mode,
        "purpose": lease.purpose,
        "bound": lease.jkt is not None,
        "state": state_of(lease, now),
        "issued_at": when(lease.issued_at),
        "expires_at": when(lease.expires_at),
        "renewable_until": when(lease.until),
        "ended_at": when(lease.ended_at),
    }


def _issued(issued: Issued, wired: Services) -> bytes:
    """A :class:`LeaseIssued` in JSON.

    None is made and checked: the values are the broker's own.
    """
    lease = issued.lease
    shown = _fields(lease, wired.parts.clock())
    answer = {
        "lease": shown,
        "organization_slug": issued.slug,
        "token": issued.token,
        "expires_at": shown["expires_at"],
        "proxy_url": f"{wired.options.public_url}/proxy/{lease.organization_id}/{lease.provider}",
        "fingerprint": issued.key.fingerprint,
        "last4": issued.key.last4,
        "key": None if issued.revealed is None else issued.revealed.reveal_text(),
    }
    return _in_json(answer)


_ISSUE = {
    "security": [{"HTTPBearer": [WORKLOAD]}],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": NewLease.model_json_schema()}},
    },
    "parameters": [
        {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 128}}
    ],
}


@router.post("", summary="Lease a key", status_code=201, response_model=LeaseIssued, openapi_extra=_ISSUE)
async def issue(request: Request) -> Response:
    """Lease a key: to use it through the proxy, or (where granted) to see it."""
    # The hottest route. FastAPI's dependency solver would take most of its time, so it does the same by hand.
    wired = await services(request)
    caller = await workload_of_token(request, wired)
    body = parsed(NewLease, await whole(request.receive))
    # lease (3) what is asked for, as one value
    target = AccessTarget(caller.workload.id, body.organization, body.provider, body.label)
    wanted = AccessRequest(
        target,
        Mode(body.mode),
        body.purpose,
        body.ttl,
        body.grant,
        via=caller.workload.via,
        jkt=caller.workload.jkt,
        bound=body.bound,
    )
    key = checked_key(header(request.scope, b"idempotency-key"))
    issued = _issued(await wired.leasing.issue(caller.actor, wanted, idempotency_key=key), wired)
    # lease (13) the answer
    return Response(issued, 201, media_type="application/json")


@router.get("", summary="List leases")
async def listed(
    caller: ByWorkloadOrAnyRole,
    wired: Wired,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    workload: WorkloadSought = None,
    provider: ProviderSought = None,
    state: Annotated[LeaseState | None, Query()] = None,
    order: Order = "oldest",
) -> Page[NamedLease]:
    """A job's own leases, or for an operator those of the organizations they see, by the time of their issue."""
    now, cut = wired.parts.clock(), Cut(limit, after(cursor), order == "newest")
    async with wired.parts.db.read(_scope(caller)) as session:
        whose, by = await _named(session, caller, organization, workload)
        if organization is not None and whose is None:
            return Page(items=[], next=None)
        found = await wired.leasing.page(session, Sought(by, whose, provider, state), cut, now=now)
        views = await _with_names(session, found.rows, now)
    return shown(Sheet(views, found.next), lambda view: view)


async def _with_names(session: AsyncSession, leases: Sequence[Lease], now: Millis) -> list[NamedLease]:
    # A job that reads this named these organizations itself: it was told their slugs with the leases.
    slugs, names = await slugs_of(session, leases), await job_names(session, (lease.workload_id for lease in leases))
    return [
        NamedLease(
            **dict(show(lease, now)),
            organization_slug=slugs[lease.organization_id],
            workload_name=names[lease.workload_id],
        )
        for lease in leases
    ]


async def several(call: Call, lease_ids: Sequence[LeaseId]) -> list[NamedLease]:
    """Those of these leases that the caller sees, oldest first."""
    async with call.services.parts.db.read(call.scope) as session:
        rows = await session.scalars(select(LeaseRow).where(LeaseRow.id.in_(lease_ids)).order_by(LeaseRow.issued_at))
        counted = [call.services.leasing.counted(lease_of(row)) for row in rows]
        return await _with_names(session, counted, call.now)


async def _named_one(caller: WorkloadCall | Call, wired: Services, lease: Lease) -> NamedLease:
    async with wired.parts.db.read(_scope(caller)) as session:
        return (await _with_names(session, [lease], wired.parts.clock()))[0]


def _scope(caller: WorkloadCall | Call) -> Scope:
    # A job sees its own leases, of whichever tenants its grants covered: limited by workload, not by tenant.
    return caller.scope if isinstance(caller, Call) else EVERY_TENANT


async def _named(
    session: AsyncSession, caller: WorkloadCall | Call, organization: Reference | None, workload: Reference | None
) -> tuple[OrganizationId | None, WorkloadId | None]:
    """Whose leases are asked for, and by which job.

    None stands for any, or for an organization that isn't there.

    An operator is told of a misspelt name.  A job just has no lease of such an organization.

    Raises:
        UnknownOrganization, NoSuchWorkload: there is none for the caller; for a job, it isn't itself.
    """
    if isinstance(caller, WorkloadCall):
        if workload not in {None, caller.workload.id, caller.workload.name}:
            raise NoSuchWorkload
        whose = None if organization is None else await organizations.id_of(session, organization)
        return whose, caller.workload.id
    whose = await organizations.sought(session, organization)
    return whose, None if workload is None else (await jobs.known(session, caller.account, workload)).id


@router.get("/{lease_id}", summary="Show a lease")
async def one(lease_id: IdPath[LeaseId], caller: ByWorkloadOrAnyRole, wired: Wired) -> NamedLease:
    """One lease, for the job that has it, or for an operator who sees its organization."""
    return await _named_one(caller, wired, await _find(lease_id, caller, wired))


@router.post("/{lease_id}/renew", summary="Renew a lease")
async def renew(lease_id: IdPath[LeaseId], body: Renewal, caller: ByWorkload, wired: Wired) -> LeaseView:
    """Extend a lease that still stands; never beyond what its grant allows in all."""
    lease = await _find(lease_id, caller, wired)
    if lease.jkt not in {None, caller.workload.jkt}:
        raise LeaseDenied(ANOTHER_KEY)
    return show(await wired.leasing.renew(caller.actor, lease, body.ttl), wired.parts.clock())


@router.post("/{lease_id}/end", summary="Give a lease back")
async def end(lease_id: IdPath[LeaseId], caller: ByWorkload, wired: Wired) -> LeaseView:
    """Give a lease back; its token stops working with the answer."""
    lease = await _find(lease_id, caller, wired)
    ended = await wired.leasing.end(caller.actor, lease, kind="lease.ended", reason="")
    await wired.in_flight.drained(lease.id)
    return show(ended, wired.parts.clock())


@router.post("/{lease_id}/revoke", summary="Revoke a lease")
async def revoke(lease_id: IdPath[LeaseId], body: Reason, call: ByOperatorOrSecurityRole) -> NamedLease:
    """Cut one lease off; its token stops working with the answer."""
    wired = call.services
    lease = await _find(lease_id, call, wired)
    ended = await wired.leasing.end(call.actor, lease, kind="lease.revoked", reason=body.reason)
    await wired.in_flight.drained(lease.id)
    return await _named_one(call, wired, ended)


async def _find(lease_id: LeaseId, caller: WorkloadCall | Call, wired: Services) -> Lease:
    if isinstance(caller, WorkloadCall):
        return await wired.leasing.find(lease_id, workload_id=caller.workload.id)
    return await wired.leasing.find(lease_id, scope=caller.scope)
