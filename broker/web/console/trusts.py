"""Trusts in platforms' tokens, taken back; a job's page shows them."""

from __future__ import annotations

from fastapi.responses import Response

from broker.formats.ids import TrustId
from broker.web.api import trusts as api
from broker.web.api.fields import IdPath, Reason
from broker.web.callers import ByOperatorOrSecurityRole, Call
from broker.web.console.forms import Sent
from broker.web.console.page import Question, Refusal, acted, asked, routes

router = routes()


@router.get("/trusts/{trust_id}/revoke")
async def ask_to_revoke(trust_id: IdPath[TrustId], call: ByOperatorOrSecurityRole) -> Response:
    """What stops with a trust, before it is asked."""
    return await _revoking(call, trust_id)


async def _revoking(call: Call, trust_id: TrustId, refusal: Refusal | None = None) -> Response:
    view = await api.one(trust_id, call)
    binds = ", ".join(f"{name} = {' or '.join(values)}" for name, values in view.claims.items())
    says = (
        f"No token of {view.issuer} that says this is a proof of {view.workload_name} any more: {binds}.",
        "The leases and calls that it has by this trust end at once. Its keys and other trusts go on working.",
    )
    question = Question("Revoke this trust?", says, "Revoke the trust", f"/console/jobs/{view.workload}")
    return asked(call, question, refusal)


@router.post("/trusts/{trust_id}/revoke")
async def revoke(trust_id: IdPath[TrustId], call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Take a trust back."""
    view = await api.one(trust_id, call)

    async def again(refusal: Refusal) -> Response:
        return await _revoking(call, trust_id, refusal)

    return await acted(lambda: api.revoke(trust_id, form.read(Reason), call), f"/console/jobs/{view.workload}", again)
