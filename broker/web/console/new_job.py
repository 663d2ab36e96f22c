"""Registering a job by the public half of a key pair that its people made."""

from __future__ import annotations

from typing import Any

from fastapi.responses import RedirectResponse, Response
from pydantic_core import from_json

from broker.base.errors import Invalid
from broker.identity.workloads import public_key_set
from broker.web.api import workloads as api
from broker.web.api.workloads import NewWorkload
from broker.web.callers import ByOperatorRole, Call
from broker.web.console.forms import Form, Sent, once
from broker.web.console.page import Refusal, answered, page, routes
from broker.web.idempotency import told

router = routes()


@router.get("/jobs/new")
async def new(call: ByOperatorRole) -> Response:
    """The form of a new job."""
    return _new(call, Form({}))


def _new(call: Call, given: Form, refusal: Refusal | None = None) -> Response:
    return page(call, "job_new.html", name=given.one("name"), keys=_shown(given), once=once(), refusal=refusal)


@router.post("/jobs/new")
async def create(call: ByOperatorRole, form: Sent) -> Response:
    """Register a job, then show its page."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, form, refusal)

    async def work() -> Response:
        return await api.create(form.read(NewWorkload, jwks=_key_set(form)), form.once(call))

    async def lead(response: Response) -> Response:
        return RedirectResponse(f"/console/jobs/{told(response)['id']}", 303)

    return await answered(work, lead, again)


def _key_set(form: Form) -> dict[str, Any]:
    """What was pasted as a JWK Set; a key alone is a set of one."""
    try:
        read = from_json(form.one("jwks"))
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Invalid("jwks: paste a public key as JSON: a JWK, or a JWK Set.")
    return read if "keys" in read else {"keys": [read]}


def _shown(given: Form) -> str:
    """What was pasted, to be sent again; nothing if it isn't known to be public."""
    try:
        public_key_set(_key_set(given))
    except Invalid:
        return ""
    return given.one("jwks")
