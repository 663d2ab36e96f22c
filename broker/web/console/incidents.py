"""Exposed keys: what is open, and the timeline of one."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response

from broker.audit.events import Event
from broker.formats.ids import ExposureId, Reference
from broker.incidents.exposure import find
from broker.incidents.shown import IncidentState
from broker.incidents.timeline import Line, timeline
from broker.web.api import exposures as api
from broker.web.api.fields import Cursor, IdPath
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole
from broker.web.console.forms import Blank
from broker.web.console.page import listing, page, routes
from broker.web.console.people import ids_in, named

router = routes()

LISTED: Final = 50
# Lines of each type that a page shows; the export has all.
SHOWN: Final = 100


@router.get("/incidents")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Blank, Query()] = None,
    state: Annotated[IncidentState | None, Blank, Query()] = None,
) -> Response:
    """Reports of exposed keys, newest first."""
    found = await api.listed(call, LISTED, cursor, organization, state, "newest")
    sought = {"organization": organization, "state": state}
    return listing(
        call,
        "incidents.html",
        found,
        cursor,
        sought,
        states=[(each.value, each.value) for each in IncidentState],
    )


@router.get("/incidents/{exposure_id}")
async def one(exposure_id: IdPath[ExposureId], call: ByAnyRole) -> Response:
    """One exposed key, and how far it is dealt with."""
    view = await api.one(exposure_id, call)
    return page(call, "incident.html", view=view, lines=None, shown=SHOWN, names=await named(call, [view.reported_by]))


@router.get("/incidents/{exposure_id}/timeline")
async def its_timeline(exposure_id: IdPath[ExposureId], call: ByOperatorOrSecurityRole) -> Response:
    """Who could have used the key, and every use since; that somebody looks is itself on the record."""
    parts = call.services.parts
    async with parts.db.read(call.scope) as session:
        row = await find(session, exposure_id)
    await parts.audit.append(Event.about(row, "audit.read", call.actor, call.now))
    lines: dict[str, list[Line]] = {}
    counts: dict[str, int] = {}
    async for line in timeline(parts.db, row):
        kind = line["type"]
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= SHOWN:
            lines.setdefault(kind, []).append(line)
    view = await api.one(exposure_id, call)
    ids = [view.reported_by, *(each["actor"] for each in lines["summary"][0]["used_by"])]
    names = await named(call, [*ids, *ids_in([each["core"] for each in lines.get("event", ())])])
    return page(call, "incident.html", view=view, lines=lines, counts=counts, shown=SHOWN, names=names)
