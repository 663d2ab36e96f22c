"""/v1/sessions: where people are signed in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT
from broker.formats.ids import SessionId
from broker.identity import enrolment, sessions
from broker.identity.principal import Session
from broker.identity.sessions import Client, Device
from broker.identity.tables import SessionRow
from broker.web.api.fields import AccountReference, Body, Cursor, IdPath, Limit, Page, View, after, page
from broker.web.api.operators import OperatorView, show
from broker.web.api.whose import is_seen, whose
from broker.web.callers import ByAnyRole, address, agent
from broker.web.services import Wired

router = APIRouter(prefix="/v1", tags=["sessions"])


class NewSession(Body):
    """A one-time link's secret, or the code that a browser handed over with the verifier of its challenge."""

    secret: Annotated[str, Field(max_length=100, description="What stands in the link behind the `#`, or the code.")]
    verifier: Annotated[str, Field(max_length=128, description="Of the code's challenge (RFC 7636).")] = ""


class SessionView(View):
    """A session: where it is, how its person signed in, and when it ends."""

    id: str
    operator: str
    client: str
    way: str
    issuer: str
    address: str
    agent: str
    created_at: str
    authenticated_at: str
    seen_at: str
    ends_at: str
    present: bool


class SessionBegun(View):
    """Who is signed in until when, and the session's token, shown this once."""

    operator: OperatorView
    token: str
    ends_at: str


class SessionsEnded(View):
    """How many sessions were ended."""

    ended: int


def view(row: SessionRow, present: Session | None) -> SessionView:
    """The answer's view of a session; ``present`` is the one that asks."""
    return SessionView(
        id=row.id,
        operator=row.account_id,
        client=row.client,
        way=row.way,
        issuer=row.issuer,
        address=row.address,
        agent=row.agent,
        created_at=rfc3339(row.created_at),
        authenticated_at=rfc3339(row.authenticated_at),
        seen_at=rfc3339(row.seen_at),
        ends_at=rfc3339(row.ends_at),
        present=present is not None and row.id == present.id,
    )


@router.post("/sessions", summary="Sign in on a command line", status_code=201)
async def begin(body: NewSession, request: Request, wired: Wired) -> SessionBegun:
    """Sign in with a one-time link, or with the code that the broker's page gave to `broker login`."""
    key, now = wired.parts.keys.token_hash, wired.parts.clock()
    async with wired.parts.db.read(EVERY_TENANT) as session:  # so that no stranger takes a writer
        await enrolment.check(session, key, body.secret, now, verifier=body.verifier)
    device = Device(Client.CLI, address(request), agent(request))
    async with wired.parts.db.write(EVERY_TENANT) as session:
        account, proof = await enrolment.redeem(session, key, body.secret, now, verifier=body.verifier)
        row, token = await sessions.begin(session, key, account, proof, device, now)
    return SessionBegun(operator=show(account, now), token=token, ends_at=rfc3339(row.ends_at))


@router.get("/sessions", summary="List sessions")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    operator: Annotated[
        AccountReference | None,
        Query(description="Whose, by id or name; left out, your own. For others', an admin."),
    ] = None,
) -> Page[SessionView]:
    """The sessions in force: your own, or as an admin somebody else's within your limits."""
    present = call.account.session
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        account = await whose(session, call, operator)
        rows = await sessions.listed(session, account, call.now, after=after(cursor))
    return page(rows, limit, lambda row: view(row, present), lambda row: row.id)


@router.post("/sessions/end", summary="End all your other sessions", response_model=SessionsEnded)
async def end_others(call: ByAnyRole) -> Response:
    """End every session of yours but the one that asks."""

    async def work(session: AsyncSession) -> SessionsEnded:
        mine, but = call.account.id, call.account.session.id if call.account.session else None
        count = await sessions.end_of_account(session, call.actor, mine, call.now, reason="signed_out", but=but)
        return SessionsEnded(ended=count)

    return await call.change(None, work, scope=EVERY_TENANT)


@router.post("/sessions/{session_id}/end", summary="End a session", response_model=SessionView)
async def end(session_id: IdPath[SessionId], call: ByAnyRole) -> Response:
    """Sign somebody out: yourself, here or elsewhere, or as an admin somebody else within your limits."""

    async def work(session: AsyncSession) -> SessionView:
        row = await sessions.of(session, session_id)
        if not await is_seen(session, call, row.account_id):
            raise sessions.NoSuchSession
        reason = "signed_out" if row.account_id == call.account.id else "ended_by_admin"
        ended = await sessions.end(session, call.actor, row, call.now, reason=reason)
        return view(ended, call.account.session)

    return await call.change(None, work, scope=EVERY_TENANT)
