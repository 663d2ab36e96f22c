"""A dry run: what a call of a job would get now, and why.

The call is in the address, so that its answer can be passed on.
"""

from __future__ import annotations

from typing import Final

from fastapi.responses import Response

from broker.proxy.use import METHODS
from broker.web.api import grants as api
from broker.web.api.grants import AskedCallBody, DryRunView
from broker.web.callers import ByAnyRole, Call
from broker.web.console.forms import Form, Written, providers, written
from broker.web.console.page import Refusal, answered, page, routes

router = routes()

_METHODS: Final = tuple((each, each) for each in sorted(METHODS))


@router.get("/grants/dry-run")
async def dry_run(
    call: ByAnyRole,
    workload: Written = "",
    organization: Written = "",
    provider: Written = "",
    label: Written = "",
    method: Written = "",
    path: Written = "",
    purpose: Written = "",
    implicit: Written = "",
    bound: Written = "",
) -> Response:
    """The form of a call; once its method is told, with the answer."""
    given = written(
        workload=workload,
        organization=organization,
        provider=provider,
        label=label,
        method=method,
        path=path,
        purpose=purpose,
        implicit=implicit,
        bound=bound,
    )
    if not method:
        return _page(call, given)

    async def work() -> DryRunView:
        return await api.explain(given.read(AskedCallBody, path=given.one("path")), call)

    async def show(found: DryRunView) -> Response:
        return _page(call, given, found=found)

    async def again(refusal: Refusal) -> Response:
        return _page(call, given, refusal=refusal)

    return await answered(work, show, again)


def _page(call: Call, given: Form, *, found: DryRunView | None = None, refusal: Refusal | None = None) -> Response:
    return page(
        call,
        "dry_run.html",
        given=given,
        found=found,
        providers=providers(call),
        methods=_METHODS,
        refusal=refusal,
    )
