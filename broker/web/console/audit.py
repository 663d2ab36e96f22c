"""The record: searched, and one event with what proves it.

Reading it is itself on the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlencode

from fastapi import Query
from fastapi.responses import Response

from broker.audit import search
from broker.audit.events import KINDS, Event
from broker.base.clock import rfc3339
from broker.formats.ids import AuditEventId, CredentialId, LeaseId, Reference, RequestId
from broker.siem.export import FORMS
from broker.web.api import audit as api
from broker.web.api.fields import Cursor, IdPath, IdSought, Name
from broker.web.callers import BySecurityRole
from broker.web.console import scripts
from broker.web.console.forms import Blank
from broker.web.console.page import listing, page, routes
from broker.web.console.times import end_of, start_of

router = routes()

LISTED: Final = 50
# As many as the API exports at once.
_EXPORTED: Final = 100_000
# Kinds, and before those of each group the group.
_GROUPS: Final = sorted({kind.partition(".")[0] for kind in KINDS})
CHOICES: Final = [
    choice
    for group in _GROUPS
    for choice in [(f"{group}.*", f"{group}: all"), *((kind, kind) for kind in KINDS if kind.startswith(f"{group}."))]
]


@router.get("/audit")
async def events(
    call: BySecurityRole,
    cursor: Cursor = "",
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
) -> Response:
    """Events that match every field given, newest first; ``until`` is the last day that counts."""
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
    return listing(
        call,
        "audit.html",
        await api.events(wanted, LISTED, cursor, "newest"),
        cursor,
        sought,
        kinds=CHOICES,
        says=KINDS,
        forms={form.upper(): _export(form, sought, first, end) for form in FORMS},
        proved=_proved(organization, first, end),
    )


def _export(form: str, sought: Mapping[str, object], first: datetime | None, end: datetime | None) -> str:
    """Where the API exports what is sought."""
    asked = {**sought, **_days(first, end), "format": form, "limit": _EXPORTED}
    return "/v1/audit/export?" + urlencode({name: value for name, value in asked.items() if value})


def _proved(organization: str | None, first: datetime | None, end: datetime | None) -> str:
    """Where the API exports all of a named customer's events in these days, with proof."""
    if organization is None:
        return ""
    days = {name: value for name, value in _days(first, end).items() if value}
    return f"/v1/audit/organizations/{quote(organization, safe='')}/export?{urlencode(days)}"


def _days(first: datetime | None, end: datetime | None) -> Mapping[str, str]:
    return {"since": first.isoformat() if first else "", "until": end.isoformat() if end else ""}


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
        says=KINDS[view.kind],
        core=json.dumps(view.core, indent=2, ensure_ascii=False),
        personal=None if view.personal is None else json.dumps(view.personal, indent=2, ensure_ascii=False),
        time=rfc3339(recorded.core["time"]),
        policy=scripts.policy(),
        scripts=scripts.scripts(),
    )
