"""Giving a job a right to customers' keys."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi.responses import RedirectResponse, Response

from broker.grants.commands import LONGEST_TTL_S
from broker.web.api import grants as api
from broker.web.api.grants import NewGrant
from broker.web.callers import ByOperatorRole, Call
from broker.web.console.forms import Form, Sent, Written, once, providers, written
from broker.web.console.page import Refusal, answered, page, routes
from broker.web.console.rules import of_lines
from broker.web.idempotency import told

router = routes()

_SHORTEST_FORM: Final = {"modes": ["use"], "max_ttl": ["3600"]}


@router.get("/grants/new")
async def new(
    call: ByOperatorRole,
    workload: Written = "",
    organizations: Written = "",
    provider: Written = "",
    label: Written = "",
    rules: Written = "",
) -> Response:
    """The form of a grant, with what is known of it."""
    known = written(workload=workload, organizations=organizations, provider=provider, label=label, rules=rules)
    return _new(call, Form({**_SHORTEST_FORM, **known.fields}))


def _new(call: Call, given: Form, refusal: Refusal | None = None) -> Response:
    presets: dict[str, list[str]] = {}
    for each in call.services.parts.catalog:
        for name in each.presets:
            presets.setdefault(name, []).append(each.title)
    return page(
        call,
        "grant_new.html",
        given=given,
        providers=providers(call),
        presets=sorted(presets.items()),
        longest_ttl=LONGEST_TTL_S,
        once=once(),
        refusal=refusal,
    )


@router.post("/grants/new")
async def create(call: ByOperatorRole, form: Sent) -> Response:
    """Give the right, then show the grant; several are shown as a list."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, form, refusal)

    async def work() -> Response:
        return await api.create(form.read(NewGrant, **_more(form)), form.once(call))

    async def lead(response: Response) -> Response:
        made = told(response)["items"]
        one = f"/console/grants/{made[0]['id']}"
        return RedirectResponse(one if len(made) == 1 else f"/console/grants?workload={made[0]['workload']}", 303)

    return await answered(work, lead, again)


def _more(form: Form) -> dict[str, Any]:
    """What the API has as lists and groups, from fields that are lines and single values."""
    rate = {name: form.one(f"rate_{name}") for name in ("uses", "seconds")}
    day = form.one("expires_at")
    return {
        "organizations": re.findall(r"[^\s,]+", form.one("organizations")),
        "modes": list(form.every("modes")),
        "presets": list(form.every("presets")),
        "rules": of_lines(form.one("rules")),
        "rate": rate if any(rate.values()) else None,
        "expires_at": f"{day}T00:00:00Z" if day else None,
    }
