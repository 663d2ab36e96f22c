"""/v1/operators/{operator}/identity: whose account somebody at an identity provider has."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import EVERY_TENANT
from broker.identity.oidc import people
from broker.web.api.fields import AccountPath, Body, Line, View
from broker.web.callers import ByAdminRole

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
        row = await people.link(session, call.actor, call.scope, operator, provider, subject=body.subject, now=call.now)
        return IdentityView(id=row.id, operator=row.account_id, issuer=row.issuer, subject=row.subject)

    return await call.change(body, work, scope=EVERY_TENANT)
