"""Legal holds: nothing of an organization, or nothing at all, is erased or pruned."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import pruned
from broker.audit.events import Actor, Event
from broker.audit.head import lock_head
from broker.audit.record import record
from broker.audit.tables import CursorRow, HoldRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Scope
from broker.base.errors import Conflict
from broker.base.statements import OnConnection
from broker.formats.ids import NoId, OrganizationId

EVERY: NoId = ""


class Held(Conflict):
    """A legal hold keeps this from being erased."""

    code = "legal_hold"


async def placed(session: AsyncSession, scope: Scope = EVERY_TENANT, *, after: str | None = None) -> Sequence[HoldRow]:
    """The holds that stand on organizations inside ``scope`` or on all, by organization.

    The first is the one that comes next after ``after``; the one on all comes before every other.
    """
    query = select(HoldRow).where(HoldRow.whose > after) if after is not None else select(HoldRow)
    if scope.organizations is not None:
        query = query.where(HoldRow.whose.in_([EVERY, *scope.organizations]))
    return (await session.scalars(query.order_by(HoldRow.whose))).all()


async def refuse_if_held(session: AsyncSession, organization: OrganizationId | NoId) -> None:
    """Go on only if nothing holds this organization; with no id, only if nothing is held at all.

    Whoever places a hold waits for this transaction's end.

    Raises:
        Held: by which hold.
    """
    await (await session.connection()).run_sync(lambda sync: lock_head(OnConnection(sync)))
    for row in await placed(session):
        if row.whose in {EVERY, organization} or organization == EVERY:
            whom = f"organization {row.whose}" if row.whose else "everything"
            raise Held(f"There is a legal hold on {whom}; `broker audit hold list` shows it. Nothing was erased.")


async def place(session: AsyncSession, actor: Actor, organization: OrganizationId | NoId, now: Millis) -> HoldRow:
    """Place a hold on an organization, or on all if there is no id.  Idempotent."""
    await (await session.connection()).run_sync(lambda sync: lock_head(OnConnection(sync)))
    row = await session.get(HoldRow, organization)
    if row is None:
        row = HoldRow(whose=organization, placed_at=now, placed_by=actor.id)
        session.add(row)
        await record(session, Event.about(row, "audit.hold_placed", actor, now))
    return row


async def lift(session: AsyncSession, actor: Actor, organization: OrganizationId | NoId, now: Millis) -> bool:
    """Lift a hold; returns whether there was one."""
    row = await session.get(HoldRow, organization, with_for_update=True)
    if row is None:
        return False
    await session.delete(row)
    # What was passed over meanwhile is looked at again.
    await session.execute(update(CursorRow).where(pruned.is_own(CursorRow.name)).values(next=0))
    await record(session, Event.about(row, "audit.hold_lifted", actor, now))
    return True
