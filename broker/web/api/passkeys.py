"""/v1/passkeys: what people sign in with."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT
from broker.formats.ids import PasskeyId
from broker.identity import passkeys
from broker.identity.tables import PasskeyRow
from broker.web.api.fields import Body, Cursor, IdPath, Limit, Line, Page, View, after, page, when
from broker.web.api.whose import WhoseSought, is_seen, whose
from broker.web.callers import ByAnyRole

router = APIRouter(prefix="/v1", tags=["passkeys"])


class PasskeyName(Body):
    """What its owner calls a passkey."""

    name: Line


class PasskeyView(View):
    """A passkey: where it is says its name, and whether its maker keeps a copy says ``backed_up``."""

    id: str
    name: str
    backed_up: bool
    created_at: str
    last_used_at: str | None


def view(row: PasskeyRow) -> PasskeyView:
    """The answer's view of a passkey."""
    return PasskeyView(
        id=row.id,
        name=row.name,
        backed_up=row.backed_up,
        created_at=rfc3339(row.created_at),
        last_used_at=when(row.last_used_at),
    )


@router.get("/passkeys", summary="List passkeys")
async def listed(
    call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "", operator: WhoseSought = None
) -> Page[PasskeyView]:
    """Your own passkeys, or as an admin somebody else's within your limits; the oldest first."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        account = await whose(session, call, operator)
        rows = await passkeys.of_account(session, account, after=after(cursor))
    return page(rows, limit, view, lambda row: row.id)


@router.post("/passkeys/{passkey_id}/rename", summary="Rename a passkey", response_model=PasskeyView)
async def rename(passkey_id: IdPath[PasskeyId], body: PasskeyName, call: ByAnyRole) -> Response:
    """Give a passkey of yours another name, such as that of the device that it is on."""

    async def work(session: AsyncSession) -> PasskeyView:
        row = await passkeys.rename(session, call.actor, call.account.id, passkey_id, name=body.name, now=call.now)
        return view(row)

    return await call.change(body, work, scope=EVERY_TENANT)


@router.post("/passkeys/{passkey_id}/remove", summary="Remove a passkey", response_model=PasskeyView)
async def remove(passkey_id: IdPath[PasskeyId], call: ByAnyRole) -> Response:
    """Remove a passkey of yours, such as one of a device that was lost; your last one stays.

    An admin may remove anybody else's within their limits, the last one too.  Then all sessions of that person end.
    """
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> PasskeyView:
        row = await passkeys.find(session, passkey_id)
        if row.account_id == call.account.id:
            return view(await passkeys.remove(session, call.actor, call.account.id, passkey_id, now=call.now))
        if not await is_seen(session, call, row.account_id):
            raise passkeys.NoSuchPasskey
        return view(await passkeys.take(session, call.actor, row, call.now))

    return await call.change(None, work, scope=EVERY_TENANT)
