"""Read the record: filters, newest last, pages by index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from broker.audit.events import KINDS
from broker.audit.series import known
from broker.audit.tables import EventRow
from broker.base.clock import Millis
from broker.base.db import Database, Scope
from broker.formats.ids import CredentialId, LeaseId, NoId, OrganizationId


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; empty fields match everything.

    Times are milliseconds, ``until`` excluded.  ``kind`` may end in ``.*``; ``after`` is the index after which to
    begin; ``newest`` turns the order round.
    """

    organization: OrganizationId | NoId = ""
    kind: str = ""
    actor: str = ""
    credential: CredentialId | NoId = ""
    lease: LeaseId | NoId = ""
    decision: str = ""
    since: Millis | None = None
    until: Millis | None = None
    after: int | None = None
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it was recorded: its index, both parts as stored, and the commitment.

    ``series`` is when the index's series began (:mod:`broker.audit.series`), 0 for the first.
    """

    index: int
    series: int
    core: dict[str, Any]
    personal: dict[str, Any]
    entry: bytes


async def search(db: Database, scope: Scope, wanted: Filter, limit: int) -> list[Recorded]:
    """Up to ``limit`` events inside ``scope``.

    Events of no tenant are seen only by a scope of every tenant.
    """
    async with db.read(scope) as session:
        series = await known(session)
        rows = await session.scalars(_query(scope, wanted).limit(limit))
        return [
            Recorded(row.idx, series.of(row.idx), json.loads(row.core), json.loads(row.personal), row.entry)
            for row in rows
        ]


def _query(scope: Scope, wanted: Filter) -> Select[EventRow]:
    query = select(EventRow).order_by(EventRow.idx.desc() if wanted.newest else EventRow.idx)
    if scope.organizations is not None:
        query = query.where(EventRow.organization_id.in_(sorted(scope.organizations)))
    for column, value in (
        (EventRow.organization_id, wanted.organization),
        (EventRow.actor_id, wanted.actor),
        (EventRow.credential_id, wanted.credential),
        (EventRow.lease_id, wanted.lease),
        (EventRow.decision, wanted.decision),
    ):
        if value:
            query = query.where(column == value)
    if wanted.kind.endswith(".*"):
        # Written out, as PostgreSQL takes no index for LIKE where row-level security holds.
        query = query.where(EventRow.kind.in_([kind for kind in KINDS if kind.startswith(wanted.kind[:-1])]))
    elif wanted.kind:
        query = query.where(EventRow.kind == wanted.kind)
    if wanted.since is not None:
        query = query.where(EventRow.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(EventRow.time < wanted.until)
    if wanted.after is not None:
        query = query.where(EventRow.idx < wanted.after if wanted.newest else EventRow.idx > wanted.after)
    return query
