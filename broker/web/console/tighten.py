"""Least privilege: what a grant was really used for, and narrowing it to that."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import Response

from broker.base.errors import Conflict
from broker.formats.ids import GrantId
from broker.grants import uses
from broker.web.api import grants as api
from broker.web.api.fields import IdPath
from broker.web.api.grants import Days, Tighten, TightenedView
from broker.web.callers import ByOperatorOrSecurityRole, ByOperatorRole, Call
from broker.web.console.forms import Sent
from broker.web.console.page import Refusal, acted, page, refusal_of, routes
from broker.web.console.rules import lines_of, of_lines

router = routes()


@router.get("/grants/{grant_id}/tighten")
async def ask_to_tighten(
    grant_id: IdPath[GrantId], call: ByOperatorOrSecurityRole, days: Annotated[Days, Query()] = uses.DAYS
) -> Response:
    """The rules that cover what a grant was used for beside its own, and what stops with them."""
    return await _asking(call, grant_id, days)


async def _asking(call: Call, grant_id: GrantId, days: int, refusal: Refusal | None = None) -> Response:
    view = await api.one(grant_id, call)
    found: TightenedView | None = None
    unused = False
    try:
        found = await api.tightened(grant_id, call, days)
    except uses.GrantUnused:
        unused = True
    except Conflict as error:
        refusal = refusal or await refusal_of(error)
    return page(
        call,
        "tighten.html",
        view=view,
        found=found,
        before=lines_of(found.present) if found else [],
        after=lines_of(found.rules) if found else [],
        unused=unused,
        days=days,
        refusal=refusal,
    )


@router.post("/grants/{grant_id}/tighten")
async def tighten(
    grant_id: IdPath[GrantId], call: ByOperatorRole, form: Sent, days: Annotated[Days, Query()] = uses.DAYS
) -> Response:
    """Narrow a grant to the rules that were shown."""

    async def again(refusal: Refusal) -> Response:
        return await _asking(call, grant_id, days, refusal)

    async def work() -> Response:
        return await api.tighten(grant_id, form.read(Tighten, days=days, rules=of_lines(form.one("rules"))), call)

    return await acted(work, f"/console/grants/{grant_id}", again)
