"""/v1/bootstrap and /v1/operators: people's accounts."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.subjects import of_process
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.base.validity import Validity
from broker.erasure import accounts as erasing
from broker.formats.ids import OperatorId
from broker.identity import accounts, operators
from broker.identity.principal import Role
from broker.identity.tables import AccountRow
from broker.organizations import commands as organizations
from broker.web.api.fields import Body, Cursor, IdPath, Limit, Line, Page, Reference, View, after, page, when
from broker.web.api.listing import NameSought
from broker.web.callers import ByAdminRole, ByAnyRole, BySecurityRole, address
from broker.web.services import Wired

router = APIRouter(prefix="/v1", tags=["operators"])


class Bootstrap(Body):
    """The one-time token that was given out on the server, and the admin's name."""

    token: Annotated[str, Field(max_length=100)]
    name: Line


class NewOperator(Body):
    """A named account; ``organizations`` limits it to some customers, as it must where your own is limited."""

    name: Line
    roles: Annotated[list[Role], Field(min_length=1, max_length=3)]
    organizations: Annotated[list[Reference], Field(max_length=1000)] | None = None


class OperatorView(View):
    """An account, never its token."""

    id: str
    name: str
    roles: list[str]
    organizations: list[str] | None
    state: str
    created_by: str
    approved_by: str | None
    created_at: str | None
    expires_at: str | None


class OperatorCreated(View):
    """A new account and its token, shown this once."""

    operator: OperatorView
    token: str


def show(row: AccountRow, now: Millis) -> OperatorView:
    """The answer's view of a row; if the broker didn't write it, the account may do nothing."""
    if not row.genuine:
        state = "revoked" if row.state == Validity.REVOKED else "altered"
        blank: dict[str, Any] = {
            "roles": [],
            "organizations": [],
            "approved_by": None,
            "created_at": None,
            "expires_at": None,
        }
        return OperatorView.model_validate({"id": row.id, "name": row.name, "state": state, "created_by": "", **blank})
    return OperatorView(
        id=row.id,
        name=row.name,
        roles=row.roles,
        organizations=row.organizations,
        state=operators.state_of(row, now),
        created_by=row.created_by,
        approved_by=row.approved_by,
        created_at=when(row.created_at),
        expires_at=when(row.expires_at),
    )


@router.post("/bootstrap", summary="Make an admin with a one-time token", status_code=201)
async def bootstrap(body: Bootstrap, request: Request, wired: Wired) -> OperatorCreated:
    """Make an admin with the one-time token that the first start, or `broker operator recover`, gave out."""
    async with wired.parts.db.read(EVERY_TENANT) as session:
        await operators.check_bootstrap(session, wired.parts.keys.token_hash, body.token, wired.parts.clock())
    async with wired.parts.db.write(EVERY_TENANT) as session:
        row, token = await operators.bootstrap(
            session,
            wired.parts.keys.token_hash,
            address(request),
            bootstrap_token=body.token,
            name=body.name,
            now=wired.parts.clock(),
        )
    with suppress(OSError):  # it was printed, or the file is another replica's; the token in it is spent
        wired.options.one_time_token_file.unlink()
    return OperatorCreated(operator=show(row, wired.parts.clock()), token=token)


@router.post(
    "/operators",
    summary="Make an operator's account",
    status_code=201,
    response_model=OperatorCreated,
)
async def create(body: NewOperator, call: ByAdminRole) -> Response:
    """Make an account; the token is shown this once."""
    limited_to = None
    if body.organizations is not None:
        async with call.services.parts.db.read(call.scope) as session:
            limited_to = [(await organizations.find(session, reference)).id for reference in body.organizations]

    async def work(session: AsyncSession) -> OperatorCreated:
        row, token = await operators.create(
            session,
            call.services.parts.keys.token_hash,
            call.actor,
            call.scope,
            name=body.name,
            roles=body.roles,
            organizations=limited_to,
            approval=call.services.options.approval,
            now=call.now,
        )
        return OperatorCreated(operator=show(row, call.now), token=token)

    return await call.change(body, work, 201, scope=EVERY_TENANT)


@router.get("/operators", summary="List operators' accounts")
async def listed(
    call: ByAdminRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    state: Annotated[Literal["active", "waiting", "expired", "revoked", "altered"] | None, Query()] = None,
    name: NameSought = None,
) -> Page[OperatorView]:
    """Every account within your own limits."""
    now = call.now
    async with call.services.parts.db.read(call.scope) as session:
        rows = await accounts.listed(session, call.scope, after=after(cursor))
    shown = [show(row, now) for row in rows if name is None or name.lower() in row.name.lower()]
    found = [one for one in shown if state in {None, one.state}]
    return page(found, limit, lambda one: one, lambda one: one.id)


@router.get("/operators/me", summary="Show your own account")
async def me(call: ByAnyRole) -> OperatorView:
    """The account whose token this is, with its roles, its limits and when the token ends."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        return show(await session.get_one(AccountRow, call.account.id), call.now)


@router.post("/operators/me/renew", summary="Renew your own token", response_model=OperatorCreated)
async def renew(call: ByAnyRole) -> Response:
    """Make a new token for your own account, shown this once; the previous one works for an hour more."""

    async def work(session: AsyncSession) -> OperatorCreated:
        row, token = await operators.renew(session, call.services.parts.keys.token_hash, call.actor, call.now)
        return OperatorCreated(operator=show(row, call.now), token=token)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator_id}/approve",
    summary="Approve an admin's account",
    response_model=OperatorView,
)
async def approve(operator_id: IdPath[OperatorId], call: BySecurityRole) -> Response:
    """Let an admin's account that waits work, as a second person: not from an account of whoever asked for it."""

    async def work(session: AsyncSession) -> OperatorView:
        return show(await operators.approve(session, call.actor, call.scope, operator_id, now=call.now), call.now)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator_id}/revoke",
    summary="Revoke an operator's account",
    response_model=OperatorView,
)
async def revoke(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """End an account; its token stops working with the answer."""

    async def work(session: AsyncSession) -> OperatorView:
        return show(await operators.revoke(session, call.actor, call.scope, operator_id, now=call.now), call.now)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator_id}/erase",
    summary="Erase the person of an account",
    response_model=OperatorView,
)
async def erase(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """Erase the person whose account has ended, for good: nobody reads any more who they were, or from where they came.

    The account's id stays, as a pseudonym, and every proof stays valid.  A legal hold keeps them.
    """

    async def work(session: AsyncSession) -> OperatorView:
        return show(await erasing.erase(session, call.actor, call.scope, operator_id, now=call.now), call.now)

    response = await call.change(None, work, scope=EVERY_TENANT)
    of_process(call.services.parts.db).heard(operator_id)
    return response
