"""/v1/bootstrap and /v1/operators: people's accounts."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.subjects import of_process
from broker.base.clock import Millis, later, rfc3339
from broker.base.db import EVERY_TENANT
from broker.base.validity import Validity
from broker.erasure import accounts as erasing
from broker.formats.ids import OperatorId
from broker.identity import accounts, enrolment, operators, sessions
from broker.identity.approval import refuse_other_trees
from broker.identity.principal import Role
from broker.identity.sessions import Client, Device, SignedIn, Way
from broker.identity.tables import MACHINE, AccountRow
from broker.organizations import commands as organizations
from broker.web.api.fields import (
    AccountPath,
    Body,
    Cursor,
    IdPath,
    Limit,
    Line,
    Page,
    Reference,
    View,
    after,
    page,
    when,
)
from broker.web.api.listing import NameSought
from broker.web.callers import ByAdminRole, ByAnyRole, BySecurityRole, Call, address, agent
from broker.web.services import Services, Wired

router = APIRouter(prefix="/v1", tags=["operators"])

AccountState = Literal["active", "waiting", "expired", "revoked", "altered"]


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
    """An account, never its token.  Only a machine's ends by itself."""

    id: str
    name: str
    kind: Literal["person", "machine"]
    roles: list[str]
    organizations: list[str] | None
    state: str
    created_by: str
    approved_by: str | None
    created_at: str | None
    expires_at: str | None


class PresentSession(View):
    """The session that asks: when its person last proved in it who they are, and when it ends."""

    id: str
    authenticated_at: str
    ends_at: str


class Me(OperatorView):
    """Your own account; a machine has no session."""

    session: PresentSession | None


class NewMachine(NewOperator):
    """A program's account, whose token ends after so many days."""

    days: Annotated[int, Field(ge=1, le=operators.TOKEN_DAYS)] = operators.TOKEN_DAYS


class OperatorInvited(View):
    """An account, and the one-time link to it, shown this once."""

    operator: OperatorView
    link: str
    link_ends_at: str


class Bootstrapped(View):
    """A new admin, signed in: the session's token, and a one-time link for their browser."""

    operator: OperatorView
    token: str
    ends_at: str
    link: str


class OperatorCreated(View):
    """A machine's account and its token, shown this once."""

    operator: OperatorView
    token: str


def show(row: AccountRow, now: Millis) -> OperatorView:
    """The answer's view of a row; if the broker didn't write it, the account may do nothing."""
    if not row.genuine:
        state = "revoked" if row.state == Validity.REVOKED else "altered"
        blank: dict[str, Any] = {
            "kind": MACHINE if row.is_machine else "person",
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
        kind="machine" if row.is_machine else "person",
        roles=row.roles,
        organizations=row.organizations,
        state=operators.state_of(row, now),
        created_by=row.created_by,
        approved_by=row.approved_by,
        created_at=when(row.created_at),
        expires_at=when(row.ends_at),
    )


@router.post("/bootstrap", summary="Make an admin with a one-time token", status_code=201)
async def bootstrap(body: Bootstrap, request: Request, wired: Wired) -> Bootstrapped:
    """Make an admin with the one-time token that the first start, or `broker operator recover`, gave out.

    The admin is signed in on the command line, and has a link by which a browser gets in.
    """
    key, now = wired.parts.keys.token_hash, wired.parts.clock()
    async with wired.parts.db.read(EVERY_TENANT) as session:
        await operators.check_bootstrap(session, key, body.token, now)
    async with wired.parts.db.write(EVERY_TENANT) as session:
        row = await operators.bootstrap(
            session, key, address(request), bootstrap_token=body.token, name=body.name, now=now
        )
        device = Device(Client.CLI, address(request), agent(request))
        begun, token = await sessions.begin(session, key, row, SignedIn(Way.LINK, now), device, now)
        secret = await enrolment.offer(session, key, row.as_actor(address(request)), row, now)
    with suppress(OSError):  # it was printed, or the file is another replica's; the token in it is spent
        wired.options.one_time_token_file.unlink()
    link = link_of(wired, secret)
    return Bootstrapped(operator=show(row, now), token=token, ends_at=rfc3339(begun.ends_at), link=link)


def link_of(wired: Services, secret: str) -> str:
    """The address of a one-time link; its secret stands where browsers send nothing of."""
    return f"{wired.options.public_url}/login/link#{secret}"


@router.post("/operators", summary="Make a person's account", status_code=201, response_model=OperatorInvited)
async def create(body: NewOperator, call: ByAdminRole) -> Response:
    """Make an account; the link by which its person signs in first is shown this once.  Give it to them alone.

    Whoever has it signs in as that person, so it needs a proof that it is you who ask.
    """
    call.insist_on_a_fresh_person()
    wanted = await _wanted(call, body)

    async def work(session: AsyncSession) -> OperatorInvited:
        row = await operators.create(
            session, call.actor, call.scope, wanted, approval=call.services.options.approval, now=call.now
        )
        return await _invited(session, call, row)

    return await call.change(body, work, 201, scope=EVERY_TENANT)


async def _invited(session: AsyncSession, call: Call, row: AccountRow) -> OperatorInvited:
    await session.flush()
    secret = await enrolment.offer(session, call.services.parts.keys.token_hash, call.actor, row, call.now)
    ends = rfc3339(later(call.now, enrolment.LASTS_MS))
    return OperatorInvited(operator=show(row, call.now), link=link_of(call.services, secret), link_ends_at=ends)


async def _wanted(call: Call, body: NewOperator) -> operators.Wanted:
    limited_to = None
    if body.organizations is not None:
        async with call.services.parts.db.read(call.scope) as session:
            limited_to = [(await organizations.find(session, reference)).id for reference in body.organizations]
    return operators.Wanted(body.name, body.roles, limited_to)


@router.post(
    "/operators/{operator}/link", summary="Make a new link to a person's account", response_model=OperatorInvited
)
async def link(operator: AccountPath, call: ByAdminRole) -> Response:
    """Make another one-time link, for a person who has lost their way in; earlier links work no more.

    Whoever has it signs in as that person, so it needs a proof that it is you who ask.  If the account may approve what
    others ask for, it goes back to the same person as yours.
    """
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> OperatorInvited:
        account = await accounts.find(session, call.scope, operator)
        if call.services.options.approval:
            await refuse_other_trees(session, call.actor, account)
        return await _invited(session, call, account)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post("/operator-tokens", summary="Make a machine's token", status_code=201, response_model=OperatorCreated)
async def create_machine(body: NewMachine, call: ByAdminRole) -> Response:
    """Make an account for a program, and its token, which is shown this once and ends.

    It can't do what needs a person; a person's account is made by `POST /v1/operators`.
    """
    call.insist_on_a_fresh_person()
    wanted = await _wanted(call, body)

    async def work(session: AsyncSession) -> OperatorCreated:
        row, token = await operators.create_machine(
            session,
            call.services.parts.keys.token_hash,
            call.actor,
            call.scope,
            wanted,
            days=body.days,
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
    state: Annotated[AccountState | None, Query()] = None,
    name: NameSought = None,
) -> Page[OperatorView]:
    """Every account within your own limits."""
    now = call.now
    async with call.services.parts.db.read(call.scope) as session:
        rows = await accounts.listed(session, call.scope, after=after(cursor))
    shown = [show(row, now) for row in rows if name is None or name.lower() in row.name.lower()]
    found = [one for one in shown if state in {None, one.state}]
    return page(found, limit, lambda one: one, lambda one: one.id)


async def one(call: Call, operator_id: OperatorId) -> OperatorView:
    """The account of that id within the caller's own limits."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        return show(await accounts.find(session, call.scope, operator_id), call.now)


@router.get("/operators/me", summary="Show your own account")
async def me(call: ByAnyRole) -> Me:
    """The account whose token this is, with its roles and its limits, and until when you are signed in."""
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        shown = show(await session.get_one(AccountRow, call.account.id), call.now)
        present = call.account.session
        if present is None:
            return Me(**shown.model_dump(), session=None)
        row = await sessions.of(session, present.id)
    at, ends = rfc3339(row.authenticated_at), rfc3339(row.ends_at)
    return Me(**shown.model_dump(), session=PresentSession(id=row.id, authenticated_at=at, ends_at=ends))


@router.post("/operators/me/renew", summary="Renew a machine's own token", response_model=OperatorCreated)
async def renew(call: ByAnyRole) -> Response:
    """Make a new token for the machine that asks, shown this once; the previous one works for an hour more."""

    async def work(session: AsyncSession) -> OperatorCreated:
        row, token = await operators.renew(session, call.services.parts.keys.token_hash, call.actor, call.now)
        return OperatorCreated(operator=show(row, call.now), token=token)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator}/approve",
    summary="Approve an admin's account",
    response_model=OperatorView,
)
async def approve(operator: AccountPath, call: BySecurityRole) -> Response:
    """Let an admin's account that waits work, as a second person: not from an account of whoever asked for it."""
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> OperatorView:
        return show(await operators.approve(session, call.actor, call.scope, operator, now=call.now), call.now)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator}/revoke",
    summary="Revoke an operator's account",
    response_model=OperatorView,
)
async def revoke(operator: AccountPath, call: ByAdminRole) -> Response:
    """End an account; its token stops working with the answer."""

    async def work(session: AsyncSession) -> OperatorView:
        return show(await operators.revoke(session, call.actor, call.scope, operator, now=call.now), call.now)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post(
    "/operators/{operator_id}/erase",
    summary="Erase the person of an account",
    response_model=OperatorView,
)
async def erase(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """Erase the person whose account has ended, for good: nobody reads any more who they were, or from where they came.

    It is named by its id, as a name may have been several people's.  The id stays, as a pseudonym, and every proof
    stays valid.  A legal hold keeps them.
    """
    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> OperatorView:
        return show(await erasing.erase(session, call.actor, call.scope, operator_id, now=call.now), call.now)

    response = await call.change(None, work, scope=EVERY_TENANT)
    of_process(call.services.parts.db).heard(operator_id)
    return response
