"""Grants: who can use whose keys, asked from either side; approving and taking back."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response

from broker.formats.ids import GrantId, Reference
from broker.grants.shown import GrantState
from broker.web.api import dependents
from broker.web.api import grants as api
from broker.web.api.fields import Cursor, IdPath, Label, Reason
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, BySecurityRole, Call
from broker.web.console.forms import Blank, Sent, providers
from broker.web.console.page import Question, Refusal, acted, asked, listing, page, routes
from broker.web.console.people import named

router = routes()

LISTED: Final = 50


@router.get("/grants")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Blank, Query()] = None,
    workload: Annotated[Reference | None, Blank, Query()] = None,
    provider: Annotated[Label | None, Blank, Query()] = None,
    state: Annotated[GrantState | None, Blank, Query()] = None,
) -> Response:
    """Who can use a customer's key, and what a job can use."""
    found = await api.listed(call, LISTED, cursor, organization, workload, provider, state=state, order="newest")
    sought = {"organization": organization, "workload": workload, "provider": provider, "state": state}
    return listing(
        call,
        "grants.html",
        found,
        cursor,
        sought,
        states=[(each.value, each.value) for each in GrantState],
        providers=providers(call),
    )


@router.get("/grants/{grant_id}")
async def one(grant_id: IdPath[GrantId], call: ByAnyRole) -> Response:
    """One grant, with what it allows."""
    return await _one(call, grant_id)


async def _one(call: Call, grant_id: GrantId, refusal: Refusal | None = None) -> Response:
    view = await api.one(grant_id, call)
    return page(
        call, "grant.html", view=view, names=await named(call, [view.created_by, view.approved_by]), refusal=refusal
    )


@router.post("/grants/{grant_id}/approve")
async def approve(grant_id: IdPath[GrantId], call: BySecurityRole) -> Response:
    """Let a grant that waits be used, as a second person."""

    async def again(refusal: Refusal) -> Response:
        return await _one(call, grant_id, refusal)

    return await acted(lambda: api.approve(grant_id, call), f"/console/grants/{grant_id}", again)


@router.get("/grants/{grant_id}/revoke")
async def ask_to_revoke(grant_id: IdPath[GrantId], call: ByOperatorOrSecurityRole) -> Response:
    """What stops with a grant, before it is asked."""
    return await _revoking(call, grant_id)


async def _revoking(call: Call, grant_id: GrantId, refusal: Refusal | None = None) -> Response:
    view, cut = await api.one(grant_id, call), await dependents.of_grant(grant_id, call)
    says = (
        f"Takes the right to keys of {view.organization_slug} back from {view.workload_name}.",
        "There is no lease or use under it from then on.",
        "Another grant of the same job may give it the right, too.",
    )
    question = Question("Revoke this grant?", says, "Revoke the grant", f"/console/grants/{grant_id}", cut)
    return asked(call, question, refusal)


@router.post("/grants/{grant_id}/revoke")
async def revoke(grant_id: IdPath[GrantId], call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Take a grant back."""

    async def again(refusal: Refusal) -> Response:
        return await _revoking(call, grant_id, refusal)

    return await acted(lambda: api.revoke(grant_id, form.read(Reason), call), f"/console/grants/{grant_id}", again)
