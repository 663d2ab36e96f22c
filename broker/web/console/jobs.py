"""Jobs, and what each can use."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response

from broker.base.validity import Validity
from broker.formats.ids import Reference
from broker.grants.shown import GrantState
from broker.leases.listing import LeaseState
from broker.web.api import dependents, grants, leases, trusts
from broker.web.api import workloads as api
from broker.web.api.fields import Cursor, Line, Reason, ReferencePath
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, Call
from broker.web.console.forms import Blank, Sent
from broker.web.console.page import Question, Refusal, acted, asked, listing, page, routes

router = routes()

LISTED: Final = 50
FEW: Final = 20


@router.get("/jobs")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    name: Annotated[Line | None, Blank, Query()] = None,
    state: Annotated[Validity | None, Blank, Query()] = None,
) -> Response:
    """Jobs, by name or state."""
    found = await api.listed(call, LISTED, cursor, state, name)
    sought = {"name": name, "state": state}
    return listing(
        call,
        "jobs.html",
        found,
        cursor,
        sought,
    )


@router.get("/jobs/{workload}")
async def one(workload: ReferencePath, call: ByAnyRole) -> Response:
    """One job: what it can use, and what it holds now."""
    view = await api.one(workload, call)
    its = Reference(view.id)
    return page(
        call,
        "job.html",
        view=view,
        grants=await grants.listed(call, FEW, workload=its, state=GrantState.ACTIVE, order="newest"),
        waiting=await grants.listed(call, FEW, workload=its, waiting=True, order="newest"),
        trusts=await trusts.listed(call, FEW, workload=its, state=Validity.ACTIVE, order="newest"),
        leases=await leases.listed(call, call.services, FEW, workload=its, state=LeaseState.ACTIVE, order="newest"),
    )


@router.get("/jobs/{workload}/revoke")
async def ask_to_revoke(workload: ReferencePath, call: ByOperatorOrSecurityRole) -> Response:
    """What a job can't use any more, before it is asked."""
    return await _revoking(call, workload)


async def _revoking(call: Call, workload: Reference, refusal: Refusal | None = None) -> Response:
    view, cut = await api.one(workload, call), await dependents.of_workload(workload, call)
    says = (
        f"Ends the job {view.name} for good: no token, lease or use by it from then on.",
        "The keys go on working for others. What this job can't use any more:",
    )
    return asked(
        call, Question(f"Revoke {view.name}?", says, f"Revoke {view.name}", f"/console/jobs/{view.id}", cut), refusal
    )


@router.post("/jobs/{workload}/revoke")
async def revoke(workload: ReferencePath, call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """End a job."""

    async def again(refusal: Refusal) -> Response:
        return await _revoking(call, workload, refusal)

    return await acted(lambda: api.revoke(workload, form.read(Reason), call), f"/console/jobs/{workload}", again)
