"""/v1/audit/holds: legal holds, under which nothing is erased."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import holds
from broker.audit.tables import HoldRow
from broker.base.errors import Forbidden
from broker.formats.ids import NoId, OrganizationId
from broker.organizations import commands as organizations
from broker.web.api.fields import Body, Cursor, Limit, Page, Reference, View, after, page, when
from broker.web.callers import ByAdminRole, BySecurityRole, Call

# In a cursor, for the hold on everything.
_EVERYTHING = "-"
router = APIRouter(prefix="/v1/audit", tags=["audit"])


class HoldOn(Body):
    """What a legal hold is on."""

    organization: Annotated[Reference | None, Field(description="Left out, everything.")] = None


class HoldView(View):
    """A legal hold: nothing of the organization is erased; of none, if it is on everything."""

    organization: str | None
    placed_at: str | None
    placed_by: str


class LiftedView(View):
    """What a hold was lifted from; ``lifted`` is false if there was none."""

    organization: str | None
    lifted: bool


def show_hold(row: HoldRow) -> HoldView:
    return HoldView(organization=row.whose or None, placed_at=when(row.placed_at), placed_by=row.placed_by)


@router.get("/holds", summary="List legal holds")
async def listed_holds(call: BySecurityRole, limit: Limit = 100, cursor: Cursor = "") -> Page[HoldView]:
    """The holds that stand, of the organizations that you see, and the one on everything."""
    async with call.services.parts.db.read(call.scope) as session:
        position = after(cursor) or None
        rows = await holds.placed(session, call.scope, after="" if position == _EVERYTHING else position)
    return page(rows, limit, show_hold, lambda row: row.whose or _EVERYTHING)


@router.post("/holds", summary="Place a legal hold", response_model=HoldView)
async def hold(body: HoldOn, call: BySecurityRole) -> Response:
    """Let nothing of an organization be erased, or nothing at all, until the hold is lifted."""

    async def work(session: AsyncSession) -> HoldView:
        return show_hold(await holds.place(session, call.actor, await _held(session, call, body), call.now))

    return await call.change(body, work)


@router.post("/holds/lift", summary="Lift a legal hold", response_model=LiftedView)
async def lift(body: HoldOn, call: ByAdminRole) -> Response:
    """Lift the hold on an organization, or the one on everything; another one may still stand."""

    async def work(session: AsyncSession) -> LiftedView:
        whose = await _held(session, call, body)
        return LiftedView(organization=whose or None, lifted=await holds.lift(session, call.actor, whose, call.now))

    return await call.change(body, work)


async def _held(session: AsyncSession, call: Call, body: HoldOn) -> OrganizationId | NoId:
    if body.organization is not None:
        return (await organizations.find(session, body.organization)).id
    if call.scope.organizations is not None:
        raise Forbidden("Your account is limited to some organizations; name one of them.")
    return holds.EVERY
