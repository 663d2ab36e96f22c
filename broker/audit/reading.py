"""Put on the record that the record is read, before anybody sees it.

What was looked for is what the event is about (organization, credential, lease, job); the rest are words in its
``reason``.  What was looked for as an id and is none may be any text, so that is in the note.

Whoever follows the record asks every few seconds.  An answer names its own event, and the next question names that:
then it is on the record already, if it is the same person's, about the same, and not too late.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import select

from broker.audit.events import Actor, Event
from broker.audit.log import AuditLog
from broker.audit.search import Filter
from broker.audit.tables import EventRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.formats.ids import AuditEventId, CredentialId, LeaseId, NoId, digits_of, is_id

# For so long one event stands for a reading that goes on.
COVERS_MS = 600_000
# Accounts of one name that an event has room for.
_OPERATORS_MOST = 8
_WHERE = ("order=", "after=")


@dataclass(frozen=True, slots=True)
class Reading:
    """The event that says so, and its index."""

    id: AuditEventId
    index: int


async def put_on_record(audit: AuditLog, db: Database, event: Event, after: AuditEventId | None = None) -> Reading:
    """The event of a reading that goes on after another, or this one, which is durable then.

    Raises:
        AuditUnavailable: as :meth:`broker.audit.log.AuditLog.append`; nothing may be shown.
    """
    if after is not None and (begun := await _covering(db, event, after)):
        return begun
    return Reading(event.id, (await audit.append(event)).index)


def reading_of(wanted: Filter, actor: Actor, now: Millis, form: str = "") -> Event:
    """That the record is searched; or, in the form of a SIEM, that what is found is given out."""
    asked = {
        "format": form,
        "kind": wanted.kind.removesuffix("*"),
        "actor": _id(wanted.actor),
        "operators": "/".join(wanted.operators[:_OPERATORS_MOST]),
        "decision": wanted.decision,
        "outcome": wanted.outcome,
        "request": _id(wanted.request),
        "since": wanted.since,
        "until": wanted.until,
        "order": "newest" if wanted.newest else "",
        "after": wanted.after,
    }
    credential: CredentialId | NoId = wanted.credential if is_id(wanted.credential, CredentialId) else ""
    lease: LeaseId | NoId = wanted.lease if is_id(wanted.lease, LeaseId) else ""
    told = {asked["actor"], credential, lease, asked["request"]}
    return Event(
        kind="audit.exported" if form else "audit.read",
        time=now,
        actor=actor,
        organization=wanted.organization,
        credential=credential,
        lease=lease,
        workload=wanted.workload,
        reason=",".join(f"{name}={value}" for name, value in asked.items() if value not in {"", None}),
        note=" ".join(
            each for each in (wanted.actor, wanted.credential, wanted.lease, wanted.request) if each not in told
        ).strip(),
    )


def _id(text: str) -> str:
    """``text`` if it has the form of an id, else nothing."""
    return "" if digits_of(text) is None else text


async def _covering(db: Database, event: Event, begun: AuditEventId) -> Reading | None:
    """The event of that id, if it stands for this one as well."""
    async with db.read(EVERY_TENANT) as session:
        query = select(EventRow.idx, EventRow.core).where(EventRow.id == begun)
        row = (await session.execute(query)).one_or_none()
    if row is None or event.note:
        return None
    before, now = json.loads(row.core), json.loads(event.committed().core)
    late = not 0 <= now["time"] - before["time"] <= COVERS_MS
    return None if late or _what(before) != _what(now) else Reading(begun, row.idx)


def _what(core: dict[str, object]) -> dict[str, object]:
    """Who reads what, from wherever on and in whichever order."""
    words = [word for word in str(core.get("reason", "")).split(",") if not word.startswith(_WHERE)]
    return {**core, "reason": words, "id": "", "time": 0}
