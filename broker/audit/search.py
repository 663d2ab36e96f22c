"""Read the record: filters, newest last, pages by index."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import places
from broker.audit.events import KINDS
from broker.audit.lookup import Sought, among, candidates, extent, of_times
from broker.audit.places import ALLOWED, term
from broker.audit.series import known
from broker.audit.tables import EventRow
from broker.base.clock import Millis
from broker.base.db import Database, Scope
from broker.formats.ids import CredentialId, LeaseId, NoId, OrganizationId

# Events in no block yet that are looked at by one statement.
REST = 16_384
# Candidates that are looked at by one statement.
CANDIDATES = 4_096


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
        return [
            Recorded(row.idx, series.of(row.idx), json.loads(row.core), json.loads(row.personal), row.entry)
            for row in await rows(session, scope, wanted, limit)
        ]


async def rows(session: AsyncSession, scope: Scope, wanted: Filter, limit: int) -> Sequence[EventRow]:
    """The rows that :func:`search` shows."""
    found: list[EventRow] = []
    async for where in _parts(session, scope, wanted, limit):
        query = _query(scope, wanted).where(where).limit(limit - len(found))
        found += await session.scalars(query)
        if len(found) == limit:
            break
    return found


async def _parts(session: AsyncSession, scope: Scope, wanted: Filter, limit: int) -> AsyncIterator[ColumnElement[bool]]:
    """Parts of the record that may hold what is wanted, in order; each is small, or full of it."""
    sought = _sought(scope, wanted)
    if not all(sought.fields) or not scope.covers(_scope(wanted)):
        return
    if not (sought.fields or sought.without) and sought.since is None and sought.until is None:
        yield true()
        return
    where = await extent(session, sought)
    indexed = _indexed if sought.fields or sought.without else _whole_blocks
    if not wanted.newest:
        async for part in indexed(session, sought, where.blocks, limit):
            yield part
    rest = where.rest
    starts = range(rest.start, rest.stop, REST)
    for start in reversed(starts) if wanted.newest else starts:
        yield and_(EventRow.idx >= start, EventRow.idx < min(start + REST, rest.stop))
    if wanted.newest:
        async for part in indexed(session, sought, where.blocks, limit):
            yield part


async def _indexed(
    session: AsyncSession, sought: Sought, blocks: range, limit: int
) -> AsyncIterator[ColumnElement[bool]]:
    """What the index names, a page at a time; more if it is not what was sought after all."""
    chunk: list[int] = []
    async for index in candidates(session, sought, blocks):
        chunk.append(index)
        if len(chunk) == limit:
            yield among(session, EventRow.idx, chunk)
            chunk, limit = [], min(2 * limit, CANDIDATES)
    if chunk:
        yield among(session, EventRow.idx, chunk)


async def _whole_blocks(
    session: AsyncSession, sought: Sought, blocks: range, _limit: int
) -> AsyncIterator[ColumnElement[bool]]:
    """The blocks that hold events of the times that are sought, where nothing else is."""
    for block in await of_times(session, sought, blocks):
        yield and_(EventRow.idx >= block * places.BLOCK, EventRow.idx < (block + 1) * places.BLOCK)


def _scope(wanted: Filter) -> Scope:
    return Scope.of(wanted.organization) if wanted.organization else Scope.of()


def _sought(scope: Scope, wanted: Filter) -> Sought:
    named = {"actor": wanted.actor, "credential": wanted.credential, "lease": wanted.lease}
    fields = [frozenset({term(name, value)}) for name, value in named.items() if value]
    if wanted.organization:
        fields.append(frozenset({term("organization", wanted.organization)}))
    elif scope.organizations is not None:
        fields.append(frozenset(term("organization", each) for each in scope.organizations))
    if wanted.kind:
        fields.append(frozenset(term("kind", kind) for kind in _kinds(wanted.kind)))
    denied = frozenset({term("decision", "denied")})
    if wanted.decision and wanted.decision != ALLOWED:
        fields.append(denied)
    without = denied if wanted.decision == ALLOWED else frozenset()
    return Sought(tuple(fields), without, wanted.since, wanted.until, wanted.after, wanted.newest)


def _kinds(kind: str) -> list[str]:
    """The kinds of a group, written out; or the one."""
    return [each for each in KINDS if each.startswith(kind[:-1])] if kind.endswith(".*") else [kind]


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
    if wanted.kind:
        query = query.where(EventRow.kind.in_(_kinds(wanted.kind)))
    if wanted.since is not None:
        query = query.where(EventRow.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(EventRow.time < wanted.until)
    if wanted.after is not None:
        query = query.where(EventRow.idx < wanted.after if wanted.newest else EventRow.idx > wanted.after)
    return query
