"""Exposed keys: /v1/credentials/{id}/exposure cuts one off, /v1/exposures lists them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Event
from broker.base.paging import Filter, by
from broker.formats.ids import CredentialId, ExposureId
from broker.incidents.exposure import Found, expose, find
from broker.incidents.shown import IncidentState, over, states_of
from broker.incidents.tables import ExposureRow
from broker.incidents.timeline import timeline
from broker.organizations import commands as organizations
from broker.web.api.fields import Body, Cursor, IdPath, Limit, Line, Moment, Note, Page, View, milliseconds, when
from broker.web.api.listing import Order, OrganizationSought, rows_of, shown
from broker.web.api.names import Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole

router = APIRouter(prefix="/v1", tags=["exposures"])


class NewExposure(Body):
    """Who found which key where; never the key itself."""

    version: Annotated[int | None, Field(ge=1, le=1_000_000, description="Left out, the one in use.")] = None
    found_by: Line
    where: Line
    since: Annotated[
        Moment | None, Field(description="From when on it may have been out; left out, since it was received.")
    ] = None
    note: Note = ""


class ExposureView(View):
    """An exposed key, and the rotation that replaces it."""

    id: str
    state: Annotated[
        str,
        Field(
            description="`open`, or `closed`: upstream refuses the key, or it was destroyed, and its replacement is "
            "over. Here it is cut off either way."
        ),
    ]
    organization: str
    organization_slug: Slug
    credential: str
    version: int
    provider: str
    found_by: str
    where: str
    note: str
    since: str | None
    reported_by: str
    reported_at: str | None
    rotation: str | None


class ExposureReported(View):
    """What was done; `link` is the customer's one-time link for a new key, shown this once."""

    exposure: ExposureView
    link: str | None


def show(row: ExposureRow, slugs: Names, states: Mapping[ExposureId, IncidentState]) -> ExposureView:
    return ExposureView(
        id=row.id,
        state=states[row.id],
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        credential=row.credential_id,
        version=row.version,
        provider=row.provider,
        found_by=row.found_by,
        where=row.found_where,
        note=row.note,
        since=when(row.since),
        reported_by=row.reported_by,
        reported_at=when(row.reported_at),
        rotation=row.rotation_id,
    )


async def _view(session: AsyncSession, row: ExposureRow) -> ExposureView:
    return show(row, await slugs_of(session, [row]), await states_of(session, [row]))


@router.post("/credentials/{credential_id}/exposure", summary="Report an exposed key", response_model=ExposureReported)
async def report(credential_id: IdPath[CredentialId], body: NewExposure, call: ByOperatorOrSecurityRole) -> Response:
    """Cut an exposed key off: no lease or use of it once this is answered.  The customer is asked for a new one."""
    wired = call.services
    found = Found(body.version, body.found_by, body.where, milliseconds(body.since), body.note)

    async def work(session: AsyncSession) -> ExposureReported:
        done = await expose(session, wired.parts, wired.rotating, call.actor, credential_id, found, now=call.now)
        link = f"{wired.options.public_url}/intake/{done.link[0]}#{done.link[1]}" if done.link else None
        return ExposureReported(exposure=await _view(session, done.exposure), link=link)

    return await call.cut(body, work, credential_id)


@router.get("/exposures", summary="List exposures")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    state: Annotated[IncidentState | None, Query()] = None,
    order: Order = "oldest",
) -> Page[ExposureView]:
    """Reports of exposed keys, of the organizations that you see, of one organization where named."""
    row = ExposureRow
    closed = None if state is None else Filter(over() if state is IncidentState.CLOSED else ~over())
    async with call.services.parts.db.read(call.scope) as session:
        filters = by(row.organization_id, await organizations.sought(session, organization)), closed
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        slugs, states = await slugs_of(session, found.rows), await states_of(session, found.rows)
    return shown(found, lambda row: show(row, slugs, states))


@router.get("/exposures/{exposure_id}", summary="Show an exposure")
async def one(exposure_id: IdPath[ExposureId], call: ByAnyRole) -> ExposureView:
    """One report of an exposed key, and how far it is dealt with."""
    async with call.services.parts.db.read(call.scope) as session:
        return await _view(session, await find(session, exposure_id))


@router.get(
    "/exposures/{exposure_id}/timeline", summary="Export an incident's timeline", response_class=StreamingResponse
)
async def export(exposure_id: IdPath[ExposureId], call: ByOperatorOrSecurityRole) -> StreamingResponse:
    """The incident's timeline, one JSON value a line: who could have used the key, and every use since."""
    wired = call.services
    async with wired.parts.db.read(call.scope) as session:
        row = await find(session, exposure_id)
    await wired.parts.audit.append(Event.about(row, "audit.read", call.actor, call.now))

    async def lines() -> AsyncIterator[bytes]:
        async for line in timeline(wired.parts.db, row):
            yield json.dumps(line).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
