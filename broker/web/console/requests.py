"""Requests to customers for keys: the list, one of them, and asking."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response

from broker.formats.ids import IntakeId, Reference
from broker.intake.lifecycle import IntakeState
from broker.web.api import intakes as api
from broker.web.api.fields import Cursor, IdPath
from broker.web.api.intakes import Again, NewIntake
from broker.web.callers import ByAnyRole, ByOperatorRole, Call
from broker.web.console.asking import made
from broker.web.console.forms import Blank, Form, Sent, once, providers
from broker.web.console.page import Question, Refusal, acted, asked, listing, page, routes

router = routes()

LISTED: Final = 50
STATES: Final = tuple((each.value, each.value) for each in IntakeState)
RequestId = IdPath[IntakeId]


@router.get("/requests")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Blank, Query()] = None,
    state: Annotated[IntakeState | None, Blank, Query()] = None,
) -> Response:
    """Requests, newest first."""
    found = await api.listed(call, LISTED, cursor, organization, state=state, order="newest")
    sought = {"organization": organization, "state": state}
    return listing(
        call,
        "requests.html",
        found,
        cursor,
        sought,
        states=STATES,
    )


@router.get("/requests/new")
async def new(call: ByOperatorRole, organization: Annotated[Reference | None, Blank, Query()] = None) -> Response:
    """The form of a request."""
    return _new(call, Form({"organization": [organization]} if organization else {}))


def _new(call: Call, given: Form, refusal: Refusal | None = None) -> Response:
    return page(call, "request_new.html", given=given, providers=providers(call), once=once(), refusal=refusal)


@router.post("/requests/new")
async def create(call: ByOperatorRole, form: Sent) -> Response:
    """Ask a customer for a key; the link is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, form, refusal)

    async def work() -> Response:
        return await api.create(form.read(NewIntake), form.once(call))

    return await made(call, work, again, "/console/requests")


@router.get("/requests/{intake_id}")
async def one(intake_id: RequestId, call: ByAnyRole) -> Response:
    """One request; its link is not shown again."""
    return page(call, "request.html", view=await api.one(intake_id, call))


@router.get("/requests/{intake_id}/remind")
async def ask_to_remind(intake_id: RequestId, call: ByOperatorRole) -> Response:
    """What a reminder changes, before it is made."""
    return await _reminding(call, intake_id)


async def _reminding(call: Call, intake_id: IntakeId, refusal: Refusal | None = None) -> Response:
    return page(call, "remind.html", view=await api.one(intake_id, call), once=once(), refusal=refusal)


@router.post("/requests/{intake_id}/remind")
async def remind(intake_id: RequestId, call: ByOperatorRole, form: Sent) -> Response:
    """Make a new link, with a message that reminds; the previous one stops working."""

    async def again(refusal: Refusal) -> Response:
        return await _reminding(call, intake_id, refusal)

    async def work() -> Response:
        return await api.replace_link(intake_id, form.read(Again), form.once(call))

    return await made(call, work, again, f"/console/requests/{intake_id}", reminds=True)


@router.get("/requests/{intake_id}/cancel")
async def ask_to_cancel(intake_id: RequestId, call: ByOperatorRole) -> Response:
    """What stops with a request, before it is asked."""
    return await _cancelling(call, intake_id)


async def _cancelling(call: Call, intake_id: IntakeId, refusal: Refusal | None = None) -> Response:
    view = await api.one(intake_id, call)
    says = [f"The link that {view.contact} has stops working. No key comes over it any more."]
    if view.rotation:
        says.append("The change of key that it belongs to is given up. A key that is in use stays so.")
    back = f"/console/requests/{intake_id}"
    return asked(call, Question("Cancel this request?", says, "Cancel the request", back, reason=False), refusal)


@router.post("/requests/{intake_id}/cancel")
async def cancel(intake_id: RequestId, call: ByOperatorRole) -> Response:
    """Take an open request back."""

    async def again(refusal: Refusal) -> Response:
        return await _cancelling(call, intake_id, refusal)

    return await acted(lambda: api.cancel(intake_id, call), f"/console/requests/{intake_id}", again)
