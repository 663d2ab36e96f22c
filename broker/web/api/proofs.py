"""/v1/audit: receipts of single events, and exports that leave nothing out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from broker.audit import exporting, receipts
from broker.audit.events import Event
from broker.base.db import EVERY_TENANT
from broker.base.errors import Forbidden
from broker.formats.ids import AuditEventId
from broker.organizations import commands as organizations
from broker.web.api.fields import IdPath, Moment, ReferencePath, milliseconds
from broker.web.callers import BySecurityRole

_NDJSON = "application/x-ndjson"
Personal = Annotated[
    bool, Query(description="With the personal parts: names, addresses, paths, notes. Nobody can take them back.")
]

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("/receipts/{event_id}", summary="Get an event's receipt", response_class=PlainTextResponse)
async def receipt(event_id: IdPath[AuditEventId], call: BySecurityRole, personal: Personal = False) -> Response:
    """That one event is in the log: a C2SP tlog-proof, which anybody verifies without the broker.

    It shows nothing of other organizations.  It is itself on the record.
    """
    parts = call.services.parts
    asked = Event(kind="audit.exported", time=call.now, actor=call.actor, subject=event_id, reason=_parts(personal))
    await parts.audit.append(asked)
    found = await receipts.of_event(parts.db, call.scope, event_id, personal=personal)
    return PlainTextResponse(found, headers=_saved_as(f"{event_id}.tlog-proof"))


@router.get(
    "/organizations/{organization}/export",
    summary="Export all of an organization's events",
    response_class=StreamingResponse,
)
async def of_organization(
    organization: ReferencePath,
    call: BySecurityRole,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    personal: Personal = False,
) -> StreamingResponse:
    """All events of an organization in a time and around it, in a file that shows that none is left out.

    It shows nothing of other organizations.  It is itself on the record.
    """
    parts = call.services.parts
    async with parts.db.read(call.scope) as session:
        whose = await organizations.find(session, organization)
    asked = Event.about(whose, "audit.exported", call.actor, call.now, reason=_parts(personal))
    await parts.audit.append(asked)
    wanted = await exporting.between(parts.db, whose.id, milliseconds(since), milliseconds(until), call.now)
    lines = exporting.of_organization(parts.db, wanted, personal=personal)
    return await _streamed(lines, f"{whose.slug}.ndjson")


@router.get("/log/export", summary="Export all of the log", response_class=StreamingResponse)
async def of_log(call: BySecurityRole, personal: Personal = False) -> StreamingResponse:
    """All events of every organization, in a file that shows that none is left out; it takes an account of everything.

    It is itself on the record.
    """
    call.insist_on_a_fresh_person()
    if not call.scope.covers(EVERY_TENANT):
        raise Forbidden("The log is about every organization, and your account is limited to some.")
    parts = call.services.parts
    await parts.audit.append(Event(kind="audit.exported", time=call.now, actor=call.actor, reason=_parts(personal)))
    return await _streamed(exporting.of_log(parts.db, personal=personal), "log.ndjson")


def _parts(personal: bool) -> str:
    return "personal" if personal else "core"


async def _streamed(lines: AsyncIterator[bytes], name: str) -> StreamingResponse:
    """Lines as they are read; what keeps the first one from being read is answered as ever."""
    first = await anext(lines)

    async def all_lines() -> AsyncIterator[bytes]:
        yield first
        async for line in lines:
            yield line

    return StreamingResponse(all_lines(), media_type=_NDJSON, headers=_saved_as(name))


def _saved_as(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
