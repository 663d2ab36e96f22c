"""The record: searched, and one event with what proves it.

Reading it is itself on the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import quote, urlencode

from fastapi import Depends, Query
from fastapi.responses import Response

from broker.audit import archives, search
from broker.audit.events import KINDS, Event
from broker.base.clock import Millis, rfc3339
from broker.formats.audit_event import LARGEST
from broker.formats.ids import AuditEventId, CredentialId, LeaseId, Reference, RequestId
from broker.siem.export import Form
from broker.web.api import audit as api
from broker.web.api.fields import Cursor, IdPath, IdSought, Name, when
from broker.web.callers import BySecurityRole
from broker.web.console import scripts
from broker.web.console.forms import Blank
from broker.web.console.page import listing, page, routes
from broker.web.console.people import ids_in, named
from broker.web.console.times import end_of, start_of

router = routes()

LISTED: Final = 50
# Of one file; the next one goes on behind its last event.
EXPORTED: Final = 10_000
# Kinds, and before those of each group the group.
_GROUPS: Final = sorted({kind.partition(".")[0] for kind in KINDS})
CHOICES: Final = [
    choice
    for group in _GROUPS
    for choice in [(f"{group}.*", f"{group}: all"), *((kind, kind) for kind in KINDS if kind.startswith(f"{group}."))]
]


class Asked(NamedTuple):
    """What events are asked for, as the API takes it, and as the form has it."""

    wanted: api.Wanted
    sought: Mapping[str, object]


async def asked_for(
    call: BySecurityRole,
    organization: Annotated[Reference | None, Blank, Query()] = None,
    kind: Annotated[Annotated[str, api.KIND] | None, Blank, Query()] = None,
    decision: Annotated[Literal["allowed", "denied"] | None, Blank, Query()] = None,
    workload: Annotated[Reference | None, Blank, Query()] = None,
    operator: Annotated[Reference | None, Blank, Query()] = None,
    actor: Annotated[Name | None, Blank, Query()] = None,
    credential: Annotated[IdSought[CredentialId] | None, Blank, Query()] = None,
    lease: Annotated[IdSought[LeaseId] | None, Blank, Query()] = None,
    request: Annotated[IdSought[RequestId] | None, Blank, Query()] = None,
    since: Annotated[date | None, Blank, Query()] = None,
    until: Annotated[date | None, Blank, Query()] = None,
) -> Asked:
    """A dependency: the fields of the form; ``until`` is the last day that counts."""
    sought = {
        "organization": organization,
        "kind": kind,
        "decision": decision,
        "workload": workload,
        "operator": operator,
        "actor": actor,
        "credential": credential,
        "lease": lease,
        "request": request,
        "since": since,
        "until": until,
    }
    first, end = start_of(since), end_of(until)
    wanted = await api.wanted(
        call,
        organization,
        kind,
        actor,
        credential,
        lease,
        workload,
        operator,
        decision,
        None,
        request,
        first,
        end,
    )
    return Asked(wanted, sought)


ByFields = Annotated[Asked, Depends(asked_for)]
After = Annotated[int | None, Blank, Query(ge=0, le=LARGEST)]


@router.get("/audit")
async def events(asked: ByFields, cursor: Cursor = "") -> Response:
    """Events that match every field given, newest first."""
    found = await api.events(asked.wanted, LISTED, cursor, "newest")
    call = asked.wanted.call
    names = await named(call, ids_in([each.core for each in found.items]))
    return listing(call, "audit.html", found, cursor, asked.sought, kinds=CHOICES, says=KINDS, names=names)


@router.get("/audit/export")
async def ask_to_export(asked: ByFields, after: After = None) -> Response:
    """How many events a file would hold, before it begins."""
    call, wanted = asked.wanted.call, replace(asked.wanted.filter, after=after)
    count = await api.counted(api.Wanted(call, wanted), EXPORTED)
    async with call.services.parts.db.read(call.scope) as session:
        archived = await archives.elsewhere(session, wanted.since, wanted.until, after)
    sought = {name: value for name, value in asked.sought.items() if value}
    return page(
        call,
        "audit_export.html",
        sought=sought,
        query=urlencode(sought),
        after=after,
        size=count.events,
        more=count.more,
        last=count.last,
        archived=archived,
        proved=_proved(asked.sought["organization"], wanted.since, wanted.until),
    )


def _proved(organization: object, since: Millis | None, until: Millis | None) -> str:
    """Where the API exports all of a named customer's events in these days, with proof."""
    if organization is None:
        return ""
    days = {name: at for name, at in (("since", when(since)), ("until", when(until))) if at}
    return f"/v1/audit/organizations/{quote(str(organization), safe='')}/export?{urlencode(days)}"


@router.get("/audit/export/file")
async def export(
    asked: ByFields,
    form: Annotated[Form, Query(alias="format")],
    limit: Annotated[int, Query(ge=1, le=EXPORTED)] = EXPORTED,
    after: After = None,
) -> Response:
    """The file: what was counted, oldest first, and the log's newest checkpoint."""
    call, wanted = asked.wanted
    return await api.export(api.Wanted(call, replace(wanted, after=after)), form, limit)


@router.get("/audit/{event_id}")
async def one(event_id: IdPath[AuditEventId], call: BySecurityRole) -> Response:
    """One event: its core as committed, its personal part, and its receipt."""
    parts = call.services.parts
    asked = Event(kind="audit.read", time=call.now, actor=call.actor, subject=event_id)
    await parts.audit.append(asked)
    recorded = await search.one(parts.db, call.scope, event_id)
    view = api.show(recorded)
    return page(
        call,
        "event.html",
        view=view,
        names=await named(call, ids_in([view.core])),
        says=KINDS[view.kind],
        core=json.dumps(view.core, indent=2, ensure_ascii=False),
        personal=None if view.personal is None else json.dumps(view.personal, indent=2, ensure_ascii=False),
        time=rfc3339(recorded.core["time"]),
        policy=scripts.policy(),
        scripts=scripts.scripts(),
    )
