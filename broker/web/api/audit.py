"""/v1/audit: the record, for security teams.  Reading it is itself on the record."""

from __future__ import annotations

import base64
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from broker.audit import archives, pruned, reading, search
from broker.audit.inside import Outcome
from broker.audit.reading import reading_of
from broker.audit.search import Counted, Filter, Recorded
from broker.base.clock import rfc3339
from broker.base.errors import Invalid
from broker.formats.audit_event import LARGEST
from broker.formats.ids import AuditEventId, CredentialId, LeaseId, RequestId
from broker.grants import jobs
from broker.identity import accounts
from broker.organizations import commands as organizations
from broker.siem.export import Form as SiemForm
from broker.web.api.fields import (
    AccountReference,
    Cursor,
    IdSought,
    Limit,
    Moment,
    Name,
    Page,
    View,
    after,
    milliseconds,
    page,
)
from broker.web.api.forms import Form
from broker.web.api.listing import OrganizationSought, WorkloadSought
from broker.web.callers import BySecurityRole, Call

KIND = Form(
    r"^[a-z_]+(\.[a-z_]+)*(\.\*)?$", "write a kind of events such as lease.issued, or a group such as lease.*", 60
)


router = APIRouter(prefix="/v1/audit", tags=["audit"])


class EventView(View):
    """An event: the core as committed, and the personal part beside it.

    ``personal`` is null once nobody can read it any more; ``erased`` says that somebody whom it is about was erased.

    ``series`` is when the database was last restored before the event, and null before the first time: numbers that a
    restore lost are given again, in a series of their own.
    """

    index: int
    series: str | None
    time: str
    kind: str
    decision: str
    core: dict[str, Any]
    personal: dict[str, Any] | None
    erased: bool
    commitment: str


class ElsewhereView(View):
    """Months of the record that are in archives and may hold more; `first` is the first index that is in none."""

    first: int
    months: list[str]


class ReadView(View):
    """The event by which this search is on the record."""

    id: str
    index: int


class PrunedView(View):
    """From number `first` to before `end` some events were pruned; `audit.pruned` events tell which."""

    first: int
    end: int


class EventsView(Page[EventView]):
    """One page of events.

    `archived` is null, or says that there may be more in archives, which a search doesn't read.  `pruned` is null, or
    says where events were pruned, as they are kept so many days.  `read` is the event of the search itself.
    """

    archived: ElsewhereView | None
    pruned: PrunedView | None
    read: ReadView


class Wanted(NamedTuple):
    """What events are asked for, and by whom."""

    call: Call
    filter: Filter


def show(recorded: Recorded) -> EventView:
    return EventView(
        index=recorded.index,
        series=rfc3339(recorded.series) if recorded.series else None,
        time=rfc3339(recorded.core["time"]),
        kind=recorded.core["kind"],
        decision=recorded.core["decision"],
        core=recorded.core,
        personal=recorded.personal,
        erased=recorded.erased,
        commitment=base64.b64encode(recorded.stored.entry).decode(),
    )


_FORMS = "`ocsf` (1.8.0) and `ecs` are JSON, `cef` is text: one event a line."
_FOLLOWING = "Go on with a search: its `read.id`, so that what is asked every few seconds is on the record once."
_OUTCOME = (
    "What came of a use: the upstream's status by class, `none` if no answer came; `failed` is 4xx, 5xx and none."
)


async def wanted(
    call: BySecurityRole,
    organization: OrganizationSought = None,
    kind: Annotated[Annotated[str, KIND] | None, Query(description="Or a group: `lease.*`.")] = None,
    actor: Annotated[Name | None, Query(description="The actor's id.")] = None,
    credential: Annotated[IdSought[CredentialId] | None, Query()] = None,
    lease: Annotated[IdSought[LeaseId] | None, Query()] = None,
    workload: WorkloadSought = None,
    operator: Annotated[AccountReference | None, Query(description="Done by this account: its id or name.")] = None,
    decision: Annotated[Literal["allowed", "denied"] | None, Query()] = None,
    outcome: Annotated[Outcome | None, Query(description=_OUTCOME)] = None,
    request: Annotated[IdSought[RequestId] | None, Query(description="The request that it came with.")] = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST, description="Only events behind the one of this number.")
    ] = None,
) -> Wanted:
    """A dependency: what events are asked for, oldest first."""
    async with call.services.parts.db.read(call.scope) as session:
        whose = await organizations.sought(session, organization)
        job = None if workload is None else (await jobs.known(session, call.account, workload)).id
        operators = () if operator is None else await accounts.named(session, call.scope, operator)
    return Wanted(
        call,
        Filter(
            organization=whose or "",
            kind=kind or "",
            actor=actor or "",
            credential=credential or "",
            lease=lease or "",
            workload=job or "",
            operators=tuple(operators),
            decision=decision or "",
            outcome=outcome or "",
            request=request or "",
            since=milliseconds(since),
            until=milliseconds(until),
            after=after,
        ),
    )


@router.get("/events", summary="Search the record")
async def events(
    asked: Annotated[Wanted, Depends(wanted)],
    limit: Limit = 100,
    cursor: Cursor = "",
    order: Annotated[Literal["oldest", "newest"], Query()] = "oldest",
    following: Annotated[IdSought[AuditEventId] | None, Query(description=_FOLLOWING)] = None,
) -> EventsView:
    """Events that match every field given, of the organizations that you see.

    The search is itself on the record.  Months that were archived are not read; `archived` names them.
    """
    call, sought = asked
    if order == "newest" and sought.after is not None:
        raise Invalid("after: goes with the oldest first; leave it out, or ask with order=oldest.")
    sought = replace(sought, after=_later(sought.after, _index(cursor)), newest=order == "newest")
    parts = call.services.parts
    begun = await reading.put_on_record(parts.audit, parts.db, reading_of(sought, call.actor, call.now), following)
    found = await search.search(parts.db, call.scope, sought, limit + 1)
    # After the search: a month is known as archived before its first event goes.
    async with parts.db.read(call.scope) as session:
        behind = None if sought.newest else sought.after
        beside = await archives.elsewhere(session, sought.since, sought.until, behind)
        gone = await pruned.between(session, sought.since, sought.until, behind)
    archived = None if beside is None else ElsewhereView(first=beside.first, months=list(beside.months))
    without = None if gone is None else PrunedView(first=gone.first, end=gone.end)
    shown, read = page(found, limit, show, lambda recorded: str(recorded.index)), ReadView.model_validate(asdict(begun))
    return EventsView(items=shown.items, next=shown.next, archived=archived, pruned=without, read=read)


async def counted(asked: Wanted, most: int) -> Counted:
    """How many events an export would hold, ``most`` at most.

    That this was asked is on the record.
    """
    call, sought = asked
    parts = call.services.parts
    await reading.put_on_record(parts.audit, parts.db, reading_of(sought, call.actor, call.now), None)
    return await search.counted(parts.db, call.scope, sought, most)


@router.get("/export", summary="Export events for a SIEM", response_class=StreamingResponse)
async def export(
    asked: Annotated[Wanted, Depends(wanted)],
    form: Annotated[SiemForm, Query(alias="format", description=_FORMS)],
    limit: Annotated[int, Query(ge=1, le=100_000, description="At most this many events.")] = 10_000,
) -> StreamingResponse:
    """A batch of events by index, oldest first, then the log's newest checkpoint; it is whole if it ends in order.

    The next batch is asked for with `after`, the number of the last event that came.  The export is itself on the
    record.
    """
    call, sought = asked
    parts, exporter = call.services.parts, call.services.exporter
    await exporter.refuse_archived(sought.after)
    await reading.put_on_record(parts.audit, parts.db, reading_of(sought, call.actor, call.now, form))
    media = "text/plain; charset=utf-8" if form == "cef" else "application/x-ndjson"
    named = {"Content-Disposition": f'attachment; filename="events.{form}.{"log" if form == "cef" else "ndjson"}"'}
    return StreamingResponse(exporter.batch(call.scope, sought, form, limit), media_type=media, headers=named)


def _later(*indices: int | None) -> int | None:
    return max((index for index in indices if index is not None), default=None)


def _index(cursor: str) -> int | None:
    position = after(cursor)
    if not position:
        return None
    if not position.isascii() or not position.isdecimal() or len(position) > 15:
        raise Invalid("cursor: is not one of ours; take `next` of the page before.")
    return int(position)
