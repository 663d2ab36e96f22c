"""Leases: live ones, and cutting one or many of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response
from pydantic import Field

from broker.base.errors import Invalid
from broker.formats.ids import LeaseId, Reference
from broker.leases.listing import LeaseState
from broker.web.api import leases as api
from broker.web.api.fields import Body, Cursor, IdPath, Reason
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, Call
from broker.web.console.forms import Blank, Form, Sent
from broker.web.console.page import Refusal, acted, listing, page, routes

router = routes()

LISTED: Final = 50


class Chosen(Body):
    """Which leases are cut."""

    leases: Annotated[list[IdPath[LeaseId]], Field(min_length=1, max_length=LISTED)]


@router.get("/leases")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Blank, Query()] = None,
    workload: Annotated[Reference | None, Blank, Query()] = None,
    state: Annotated[LeaseState | None, Blank, Query()] = LeaseState.ACTIVE,
) -> Response:
    """Leases, newest first; live ones if nothing else is asked for."""
    found = await api.listed(call, call.services, LISTED, cursor, organization, workload, state=state, order="newest")
    sought = {"organization": organization, "workload": workload, "state": state}
    return listing(
        call,
        "leases.html",
        found,
        cursor,
        sought,
        always=("state",),
        states=[(each.value, each.value) for each in LeaseState],
    )


@router.get("/leases/{lease_id}/cut")
async def ask_to_cut(lease_id: IdPath[LeaseId], call: ByOperatorOrSecurityRole) -> Response:
    """What stops with one lease, before it is asked."""
    return await _cutting(call, Form({"lease": [lease_id]}))


async def _cutting(call: Call, given: Form, refusal: Refusal | None = None) -> Response:
    views = await api.several(call, _chosen(given))
    return page(call, "leases_cut.html", views=views, refusal=refusal)


def _chosen(given: Form) -> Sequence[LeaseId]:
    if not given.every("lease"):
        raise Invalid("lease: no lease was chosen; choose one or more in the list of leases.")
    return given.read(Chosen, leases=list(given.every("lease"))).leases


@router.post("/leases/cut")
async def cut(call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Cut the leases off; each one's token stops working with the answer.

    The list sends what was chosen, the page that asks sends that it is ``sure``.
    """
    if not form.one("sure"):
        return await _cutting(call, form)

    async def again(refusal: Refusal) -> Response:
        return await _cutting(call, form, refusal)

    async def work() -> None:
        for each in _chosen(form):
            await api.revoke(each, form.read(Reason), call)

    return await acted(work, "/console/leases", again)


@router.get("/leases/{lease_id}")
async def one(lease_id: IdPath[LeaseId], call: ByAnyRole) -> Response:
    """One lease."""
    return page(call, "lease.html", view=await api.one(lease_id, call, call.services))
