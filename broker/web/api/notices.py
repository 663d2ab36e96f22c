"""/v1/notices: what operators were told."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.paging import by
from broker.formats.ids import DeliveryId
from broker.notifications import outbox
from broker.notifications.lifecycle import DeliveryState
from broker.notifications.tables import DeliveryRow, NoticeRow
from broker.notifications.words import WORDS, Kind, filled
from broker.organizations import commands as organizations
from broker.web.api.fields import Cursor, IdPath, Limit, Page, View, when
from broker.web.api.listing import Order, OrganizationSought, rows_of, shown
from broker.web.api.names import Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole

router = APIRouter(prefix="/v1/notices", tags=["notices"])


class NoticeView(View):
    """One notice."""

    id: str
    kind: str
    severity: str
    title: str
    text: str
    organization: str
    organization_slug: Slug
    provider: str
    credential: str
    version: int
    created_at: str | None


def show(row: NoticeRow, slugs: Names) -> NoticeView:
    words = WORDS[cast("Kind", row.kind)]
    return NoticeView(
        id=row.id,
        kind=row.kind,
        severity=words.severity,
        title=words.title,
        text=filled(words.operator, row.facts),
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        provider=row.provider,
        credential=row.credential_id,
        version=row.version,
        created_at=when(row.created_at),
    )


class DeliveryView(View):
    """One telling: of what, to whom, and how it went."""

    id: str
    notice: str
    organization: str
    organization_slug: Slug
    channel: str
    destination: str
    state: Annotated[str, Field(description="`pending`, `sent`, or `dead`: given up; it can be sent again.")]
    tries: int
    next_try_at: str | None
    last_status: int | None
    last_error: str
    created_at: str | None
    settled_at: str | None


def show_delivery(row: DeliveryRow, slugs: Names) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        notice=row.notice_id,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        channel=row.channel,
        destination=row.destination,
        state=row.state,
        tries=row.tries,
        next_try_at=when(row.next_try_at) if row.state == DeliveryState.PENDING else None,
        last_status=row.last_status,
        last_error=row.last_error,
        created_at=when(row.created_at),
        settled_at=when(row.settled_at),
    )


@router.get("/deliveries", summary="List deliveries of notices")
async def deliveries(
    call: ByOperatorOrSecurityRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    state: Annotated[DeliveryState | None, Query()] = None,
    order: Order = "oldest",
) -> Page[DeliveryView]:
    """Who was told of which notice, by which way, or could not be."""
    row = DeliveryRow
    async with call.services.parts.db.read(call.scope) as session:
        found = await rows_of(session, row, [by(row.state, state)], limit, cursor, order, row.id)
        slugs = await slugs_of(session, found.rows)
    return shown(found, lambda row: show_delivery(row, slugs))


@router.post("/deliveries/{delivery_id}/resend", summary="Send a dead delivery again", response_model=DeliveryView)
async def resend(delivery_id: IdPath[DeliveryId], call: ByOperatorOrSecurityRole) -> Response:
    """Try a delivery again that was given up."""

    async def work(session: AsyncSession) -> DeliveryView:
        row = await outbox.resend(session, call.actor, delivery_id, now=call.now)
        return show_delivery(row, await slugs_of(session, [row]))

    return await call.change(None, work)


@router.get("", summary="List notices")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    kind: Annotated[Kind | None, Query()] = None,
    order: Order = "oldest",
) -> Page[NoticeView]:
    """Notices about the organizations that you see."""
    row = NoticeRow
    async with call.services.parts.db.read(call.scope) as session:
        whose = await organizations.sought(session, organization)
        filters = by(row.organization_id, whose), by(row.kind, kind)
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        slugs = await slugs_of(session, found.rows)
    return shown(found, lambda row: show(row, slugs))
