"""/v1/identities: whose account somebody at an identity provider has."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT
from broker.formats.ids import IdentityId
from broker.identity.oidc import people
from broker.identity.oidc.tables import IdentityRow
from broker.web.api.fields import AccountPath, Body, Cursor, IdPath, Limit, Line, Page, View, after, page
from broker.web.api.whose import WhoseSought, whose
from broker.web.callers import ByAdminRole, ByAnyRole

router = APIRouter(prefix="/v1", tags=["operators"])


class NewIdentity(Body):
    """Somebody at an identity provider."""

    provider: Annotated[Line, Field(description="Its id, as the file of BROKER_SIGN_IN_FILE has it.")]
    subject: Annotated[Line, Field(description="What the provider calls them in `sub`; no name, no address.")]


class IdentityView(View):
    """Whose account somebody at an identity provider has."""

    id: str
    operator: str
    issuer: str
    subject: str
    created_at: str


def view(row: IdentityRow) -> IdentityView:
    """The answer's view of an identity."""
    return IdentityView(
        id=row.id,
        operator=row.account_id,
        issuer=row.issuer,
        subject=row.subject,
        created_at=rfc3339(row.created_at),
    )


@router.get("/identities", summary="List identities at identity providers")
async def listed(
    call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "", operator: WhoseSought = None
) -> Page[IdentityView]:
    """Whom identity providers know you as, or as an admin somebody else within your limits."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        account = await whose(session, call, operator)
        rows = await people.of_account(session, account, after=after(cursor))
    return page(rows, limit, view, lambda row: row.id)


@router.post("/identities/{identity_id}/unlink", summary="Unlink an identity", response_model=IdentityView)
async def unlink(identity_id: IdPath[IdentityId], call: ByAdminRole) -> Response:
    """End the link of somebody at an identity provider to an account that is not yours; its sessions end.

    The account keeps its roles.  If somebody signs in by the provider again, they are another account's.
    """
    call.insist_on_a_fresh_person()
    declared = {one.provider.issuer: one.provider.id for one in call.services.sign_in.clients.values()}

    async def work(session: AsyncSession) -> IdentityView:
        row = await people.identity(session, identity_id)
        provider = declared.get(row.issuer, "")
        return view(await people.unlink(session, call.actor, call.scope, row, provider, call.now))

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator}/identity",
    summary="Link somebody at an identity provider to an account",
    response_model=IdentityView,
)
async def link(operator: AccountPath, body: NewIdentity, call: ByAdminRole) -> Response:
    """Let somebody at an identity provider have an account that is there already.

    They sign in to it from now on, and what the provider says of them replaces its roles.
    """
    call.insist_on_a_fresh_person()
    provider = call.services.sign_in.client(body.provider).provider

    async def work(session: AsyncSession) -> IdentityView:
        return view(
            await people.link(
                session,
                call.actor,
                call.scope,
                operator,
                provider,
                subject=body.subject,
                approval=call.services.options.approval,
                now=call.now,
            )
        )

    return await call.change(body, work, scope=EVERY_TENANT)
