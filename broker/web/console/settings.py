"""What the broker goes by, and the accounts and deliveries that wait for somebody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import integrating, log_keys
from broker.audit.series import epochs
from broker.audit.tables import WitnessRow
from broker.base.db import EVERY_TENANT
from broker.formats.ids import DeliveryId
from broker.identity import operators as identity
from broker.identity.principal import Role
from broker.identity.tables import SigningKeyRow
from broker.notifications.lifecycle import DeliveryState
from broker.siem import cursors
from broker.web.api import health, issuers, notices, operators, providers, sign_in_providers, webhooks
from broker.web.api.fields import AccountPath, IdPath, when
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, BySecurityRole, Call
from broker.web.console.page import Refusal, acted, page, routes
from broker.web.console.people import named
from broker.web.idempotency import told

router = routes()

LISTED: Final = 100
FEW: Final = 20


@router.get("/settings")
async def settings(call: ByAnyRole) -> Response:
    """Everything that the broker goes by."""
    return await _settings(call)


async def _settings(call: Call, refusal: Refusal | None = None) -> Response:
    wired, whole = call.services, call.scope == EVERY_TENANT
    sees_deliveries = call.account.may(Role.OPERATOR, Role.SECURITY)
    state = told(await health.readyz(wired, "database"))
    async with wired.parts.db.read(call.scope) as session:
        waiting = await _waiting(session, call)
        log = await _log(session, call) if whole else None
    return page(
        call,
        "settings.html",
        refusal=refusal,
        state=state,
        providers=await providers.listed(call, LISTED),
        issuers=await issuers.listed(call, LISTED),
        sign_in=await sign_in_providers.listed(call, LISTED),
        webhooks=await webhooks.listed(call, FEW),
        dead=await notices.deliveries(call, FEW, state=DeliveryState.DEAD, order="newest") if sees_deliveries else None,
        waiting=waiting,
        names=await named(call, (each.created_by for each in waiting)),
        log=log,
        options=wired.options,
        keystore=type(wired.parts.keystore).__name__,
    )


async def _waiting(session: AsyncSession, call: Call) -> Sequence[operators.OperatorView]:
    """Accounts that wait for a second person, for who can be one."""
    if not call.account.may(Role.SECURITY):
        return []
    return [operators.show(row, call.now) for row in await identity.waiting(session, call.scope, call.now)]


async def _log(session: AsyncSession, call: Call) -> dict[str, Any]:
    """What there is of the log, who cosigns it, who follows it, and which keys sign."""
    keys = call.services.parts.keys
    newest = await integrating.newest(session)
    epoch = (await epochs(session))[-1]
    signing = await session.scalars(select(SigningKeyRow).order_by(SigningKeyRow.created_at.desc()))
    return {
        "size": newest.size if newest else 0,
        "origin": newest.origin if newest else "",
        "sinks": await cursors.places(session),
        "witnesses": [
            {
                "name": row.key.partition("+")[0],
                "size": row.size,
                "cosigned_at": when(row.cosigned_at),
                "word": "contradicts" if row.contradicts is not None else "silent" if row.failing_since else "ok",
            }
            for row in await session.scalars(select(WitnessRow).order_by(WitnessRow.key))
        ],
        "keys": [
            {
                "line": keys.log(epoch, row.number).verifier().line(),
                "begun_at": when(row.begun_at) if row.begun_at else None,
                "good_to": row.good_to,
            }
            for row in await log_keys.keys(session, keys.log(epoch).name)
        ],
        "tokens": [{"kid": row.kid, "created_at": when(row.created_at)} for row in signing],
    }


@router.post("/settings/operators/{operator}/approve")
async def approve(operator: AccountPath, call: BySecurityRole) -> Response:
    """Let an admin's account that waits work, as a second person."""

    async def again(refusal: Refusal) -> Response:
        return await _settings(call, refusal)

    return await acted(lambda: operators.approve(operator, call), "/console/settings", again)


@router.post("/settings/deliveries/{delivery_id}/resend")
async def resend(delivery_id: IdPath[DeliveryId], call: ByOperatorOrSecurityRole) -> Response:
    """Try a delivery again that was given up."""

    async def again(refusal: Refusal) -> Response:
        return await _settings(call, refusal)

    return await acted(lambda: notices.resend(delivery_id, call), "/console/settings", again)
