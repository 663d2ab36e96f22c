"""/v1/audit: the record, for security teams.  Reading it is itself on the record."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from broker.audit import archives
from broker.audit.events import Event
from broker.audit.search import Filter, Recorded, search
from broker.base.clock import rfc3339
from broker.base.errors import Invalid
from broker.formats.ids import CredentialId, LeaseId, NoId, OrganizationId
from broker.organizations import commands as organizations
from broker.web.api.fields import (
    Cursor,
    IdSought,
    Limit,
    Moment,
    Name,
    Page,
    Reference,
    View,
    after,
    milliseconds,
    page,
)
from broker.web.api.forms import Form
from broker.web.callers import BySecurityRole

_KIND = Form(
    r"^[a-z_]+(\.[a-z_]+)*(\.\*)?$", "write a kind of events such as lease.issued, or a group such as lease.*", 60
)

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class EventView(View):
    """An event: the core as committed, and the personal part beside it.

    ``series`` is when the database was last restored before the event, and null before the first time: numbers that a
    restore lost are given again, in a series of their own.
    """

    index: int
    series: str | None
    time: str
    kind: str
    decision: str
    core: dict[str, Any]
    personal: dict[str, Any]
    commitment: str


class ElsewhereView(View):
    """Months of the record that are in archives and may hold more; `first` is the first index that is in none."""

    first: int
    months: list[str]


class EventsView(Page[EventView]):
    """One page of events.

    `archived` is null, or says that there may be more in archives, which a search doesn't read.
    """

    archived: ElsewhereView | None


def show(recorded: Recorded) -> EventView:
    return EventView(
        index=recorded.index,
        series=rfc3339(recorded.series) if recorded.series else None,
        time=rfc3339(recorded.core["time"]),
        kind=recorded.core["kind"],
        decision=recorded.core["decision"],
        core=recorded.core,
        personal=recorded.personal,
        commitment=base64.b64encode(recorded.entry).decode(),
    )


@router.get("/events", summary="Search the record")
async def events(
    call: BySecurityRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Query()] = None,
    kind: Annotated[Annotated[str, _KIND] | None, Query(description="Or a group: `lease.*`.")] = None,
    actor: Annotated[Name | None, Query(description="The actor's id.")] = None,
    credential: Annotated[IdSought[CredentialId] | None, Query()] = None,
    lease: Annotated[IdSought[LeaseId] | None, Query()] = None,
    decision: Annotated[Literal["allowed", "denied"] | None, Query()] = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    order: Annotated[Literal["oldest", "newest"], Query()] = "oldest",
) -> EventsView:
    """Events that match every field given, of the organizations that you see.

    The search is itself on the record.  Months that were archived are not read; `archived` names them.
    """
    wired = call.services
    whose: OrganizationId | NoId = ""
    if organization is not None:
        async with wired.parts.db.read(call.scope) as session:
            whose = (await organizations.find(session, organization)).id
    wanted = Filter(
        organization=whose,
        kind=kind or "",
        actor=actor or "",
        credential=credential or "",
        lease=lease or "",
        decision=decision or "",
        since=milliseconds(since),
        until=milliseconds(until),
        after=_index(cursor),
        newest=order == "newest",
    )
    await wired.parts.audit.append(
        Event(kind="audit.read", time=call.now, actor=call.actor, organization=wanted.organization, note=_asked(wanted))
    )
    found = await search(wired.parts.db, call.scope, wanted, limit + 1)
    # After the search: a month is known as archived before its first event goes.
    async with wired.parts.db.read(call.scope) as session:
        after = None if wanted.newest else wanted.after
        beside = await archives.elsewhere(session, wanted.since, wanted.until, after)
    archived = None if beside is None else ElsewhereView(first=beside.first, months=list(beside.months))
    shown = page(found, limit, show, lambda recorded: str(recorded.index))
    return EventsView(items=shown.items, next=shown.next, archived=archived)


def _asked(wanted: Filter) -> str:
    """What was looked for, as JSON, for the record."""
    return json.dumps({name: value for name, value in asdict(wanted).items() if value not in {"", None, False}})


def _index(cursor: str) -> int | None:
    position = after(cursor)
    if not position:
        return None
    if not position.isascii() or not position.isdecimal() or len(position) > 15:
        raise Invalid("cursor: is not one of ours; take `next` of the page before.")
    return int(position)
