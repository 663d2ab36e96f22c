"""Accounts of people and machines: who has one, where they are signed in, and ending either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple, get_args

from fastapi import Query
from fastapi.responses import Response
from pydantic import TypeAdapter

from broker.base.db import EVERY_TENANT
from broker.formats.ids import OperatorId, Reference, SessionId
from broker.identity import presence
from broker.web.api import operators as api
from broker.web.api import sessions
from broker.web.api.fields import Cursor, IdPath, Line, when
from broker.web.api.names import slugs
from broker.web.api.sessions import SessionView
from broker.web.callers import ByAdminRole, ByAnyRole, BySecurityRole, Call
from broker.web.console.forms import Blank
from broker.web.console.page import Question, Refusal, acted, asked, listing, page, routes
from broker.web.console.people import named

router = routes()

LISTED: Final = 50
# Of one account so many sessions are shown, and ended at once.
SESSIONS: Final = 500
# Of one account's customers so many are named.
NAMED: Final = 3
STATES: Final = [(each, each) for each in get_args(api.AccountState)]
_OPERATOR: Final[TypeAdapter[OperatorId]] = TypeAdapter(IdPath[OperatorId])
_SESSION: Final[TypeAdapter[SessionId]] = TypeAdapter(IdPath[SessionId])


@router.get("/accounts")
async def listed(
    call: ByAdminRole,
    cursor: Cursor = "",
    name: Annotated[Line | None, Blank, Query()] = None,
    state: Annotated[api.AccountState | None, Blank, Query()] = None,
) -> Response:
    """Every account within one's own limits."""
    found = await api.listed(call, LISTED, cursor, state, name)
    ids = [_OPERATOR.validate_python(each.id) for each in found.items]
    seen = await _seen(call, ids)
    async with call.services.parts.db.read(call.scope) as session:
        customers = await slugs(session, [one for each in found.items for one in (each.organizations or [])[:NAMED]])
    sought = {"name": name, "state": state}
    return listing(
        call, "accounts.html", found, cursor, sought, seen=seen, customers=customers, named=NAMED, states=STATES
    )


class Seen(NamedTuple):
    """How an account is there: when it was seen last, its open sessions, and its passkeys."""

    seen: str | None
    sessions: int
    passkeys: int


async def _seen(call: Call, ids: Sequence[OperatorId]) -> dict[OperatorId, Seen]:
    async with call.services.parts.db.read(EVERY_TENANT) as session:
        found = await presence.of(session, ids, call.now)
    return {each: Seen(when(there.seen_at), there.open_sessions, there.own_passkeys) for each, there in found.items()}


@router.get("/accounts/{operator_id}")
async def one(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """One account, with where its person is signed in."""
    return await _one(call, operator_id)


async def _one(call: Call, operator_id: OperatorId, refusal: Refusal | None = None) -> Response:
    view = await api.one(call, operator_id)
    seen = (await _seen(call, [operator_id]))[operator_id]
    async with call.services.parts.db.read(call.scope) as session:
        customers = await slugs(session, view.organizations or [])
    return page(
        call,
        "account.html",
        view=view,
        seen=seen,
        customers=customers,
        sessions=await _sessions(call, operator_id),
        names=await named(call, [view.created_by, view.approved_by]),
        refusal=refusal,
    )


async def _sessions(call: Call, operator_id: OperatorId) -> Sequence[SessionView]:
    return (await sessions.listed(call, SESSIONS, operator=Reference(operator_id))).items


@router.post("/accounts/{operator_id}/approve")
async def approve(operator_id: IdPath[OperatorId], call: BySecurityRole) -> Response:
    """Let an admin's account that waits work, as a second person."""

    async def again(refusal: Refusal) -> Response:
        return await _one(call, operator_id, refusal)

    return await acted(lambda: api.approve(Reference(operator_id), call), f"/console/accounts/{operator_id}", again)


@router.get("/accounts/{operator_id}/revoke")
async def ask_to_revoke(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """What stops with an account, before it is asked."""
    return await _revoking(call, operator_id)


async def _revoking(call: Call, operator_id: OperatorId, refusal: Refusal | None = None) -> Response:
    view = await api.one(call, operator_id)
    open_ = await _sessions(call, operator_id)
    stops = (
        "Its token stops working with the answer, and so does the program that has it."
        if view.kind == "machine"
        else f"{_counted(open_)} with the answer. No passkey, link or identity provider signs {view.name} in any more."
    )
    says = (
        stops,
        "What the account made stays: customers, requests, jobs and grants.",
        "It can't be undone. The name is free for another account.",
    )
    back = f"/console/accounts/{operator_id}"
    return asked(call, Question(f"Revoke {view.name}?", says, "Revoke the account", back, reason=False), refusal)


def _counted(open_: Sequence[SessionView]) -> str:
    if not open_:
        return "It has no open session; a new one is refused"
    return "Its 1 session ends" if len(open_) == 1 else f"Its {len(open_)} sessions end"


@router.post("/accounts/{operator_id}/revoke")
async def revoke(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """End an account."""

    async def again(refusal: Refusal) -> Response:
        return await _revoking(call, operator_id, refusal)

    return await acted(lambda: api.revoke(Reference(operator_id), call), f"/console/accounts/{operator_id}", again)


@router.get("/accounts/{operator_id}/sessions/end")
async def ask_to_end_all(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """Where somebody is signed out, before it is asked."""
    return await _ending(call, operator_id, None)


@router.get("/accounts/{operator_id}/sessions/{session_id}/end")
async def ask_to_end(operator_id: IdPath[OperatorId], session_id: IdPath[SessionId], call: ByAdminRole) -> Response:
    """Where somebody is signed out, before it is asked: in one place."""
    return await _ending(call, operator_id, session_id)


async def _ending(
    call: Call, operator_id: OperatorId, session_id: SessionId | None, refusal: Refusal | None = None
) -> Response:
    view = await api.one(call, operator_id)
    those = [each for each in await _sessions(call, operator_id) if session_id in {None, each.id}]
    where = [f"{'Command line' if each.client == 'cli' else 'Browser'} at {each.address or '–'}" for each in those]
    says = [
        f"{view.name} is signed out with the answer in {len(those)} of their places: {', '.join(where) or 'none'}.",
        "They can sign in again. To keep them out, revoke the account.",
    ]
    if any(each.present for each in those):
        says.append("One of these is the session that you are in.")
    back, ends = f"/console/accounts/{operator_id}", "End the session" if session_id else "End every session"
    return asked(call, Question(f"Sign {view.name} out?", says, ends, back, reason=False), refusal)


@router.post("/accounts/{operator_id}/sessions/end")
async def end_all(operator_id: IdPath[OperatorId], call: ByAnyRole) -> Response:
    """Sign somebody out everywhere."""

    async def again(refusal: Refusal) -> Response:
        return await _ending(call, operator_id, None, refusal)

    async def work() -> None:
        # The one that asks ends last: the others couldn't be ended after it.
        for each in sorted(await _sessions(call, operator_id), key=lambda each: each.present):
            await sessions.end(_SESSION.validate_python(each.id), call)

    return await acted(work, f"/console/accounts/{operator_id}", again)


@router.post("/accounts/{operator_id}/sessions/{session_id}/end")
async def end(operator_id: IdPath[OperatorId], session_id: IdPath[SessionId], call: ByAnyRole) -> Response:
    """Sign somebody out in one place."""

    async def again(refusal: Refusal) -> Response:
        return await _ending(call, operator_id, session_id, refusal)

    return await acted(lambda: sessions.end(session_id, call), f"/console/accounts/{operator_id}", again)
