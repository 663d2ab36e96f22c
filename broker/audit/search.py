"""Read the record: filters, newest last, pages by index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Row, Select, and_, select, true, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import places
from broker.audit.events import KINDS
from broker.audit.inside import classes, inside
from broker.audit.lookup import Sought, among, candidates, extent, of_times
from broker.audit.places import ALLOWED, term
from broker.audit.series import known
from broker.audit.subjects import Part, subjects_of
from broker.audit.tables import EventRow
from broker.base.clock import Millis
from broker.base.db import Database, Scope
from broker.base.errors import NotFound
from broker.formats.archive import Stored
from broker.formats.ids import (
    AuditEventId,
    CredentialId,
    LeaseId,
    NoId,
    OperatorId,
    OrganizationId,
    RequestId,
    WorkloadId,
)
from broker.formats.packed_core import unpack

# Events in no block yet that are looked at by one statement.
REST = 16_384
# Candidates that are looked at by one statement.
CANDIDATES = 4_096


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; empty fields match everything.

    Times are milliseconds, ``until`` excluded.  ``kind`` may end in ``.*``.  ``workload`` is the job that an event is
    about, ``operators`` are the accounts of which one did it, ``outcome`` is as :mod:`broker.audit.inside` has it.
    ``after`` is the index after which to begin; ``newest`` turns the order round.
    """

    organization: OrganizationId | NoId = ""
    kind: str = ""
    actor: str = ""
    credential: CredentialId | NoId = ""
    lease: LeaseId | NoId = ""
    workload: WorkloadId | NoId = ""
    operators: tuple[OperatorId, ...] = ()
    decision: str = ""
    outcome: str = ""
    request: RequestId | NoId = ""
    since: Millis | None = None
    until: Millis | None = None
    after: int | None = None
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as it was recorded: its index, both parts, and the bytes that are stored of it.

    ``series`` is when the index's series began (:mod:`broker.audit.series`), 0 for the first.  ``personal`` is None if
    nobody can open that part any more; ``erased`` says that this is because somebody whom it is about was erased.
    """

    index: int
    series: int
    core: dict[str, Any]
    personal: dict[str, Any] | None
    erased: bool
    stored: Stored


async def search(db: Database, scope: Scope, wanted: Filter, limit: int) -> list[Recorded]:
    """Up to ``limit`` events inside ``scope``.

    Events of no tenant are seen only by a scope of every tenant.
    """
    async with db.read(scope) as session:
        return await _recorded(session, await rows(session, scope, wanted, limit))


async def one(db: Database, scope: Scope, event: AuditEventId) -> Recorded:
    """The event of that id inside ``scope``.

    Raises:
        NotFound: there is none here.
    """
    async with db.read(scope) as session:
        query = select(EventRow).where(EventRow.id == event)
        if scope.organizations is not None:
            query = query.where(EventRow.organization_id.in_(sorted(scope.organizations)))
        found = await _recorded(session, list(await session.scalars(query)))
    if not found:
        raise NotFound("There is no such event here. One of a month that was archived is in that month's archive.")
    return found[0]


async def _recorded(session: AsyncSession, found: Sequence[EventRow]) -> list[Recorded]:
    series = await known(session)
    parts = [Part(json.loads(row.core), row.personal, row.personal_commitment) for row in found]
    opened = await subjects_of(session).opened(session, parts)
    return [
        Recorded(row.idx, series.of(row.idx), dict(part.core), clear.document(), clear.erased, _stored(row))
        for row, part, clear in zip(found, parts, opened, strict=True)
    ]


def _stored(row: EventRow) -> Stored:
    return Stored(row.core, row.salt_core, row.personal, row.personal_commitment, row.entry)


async def rows(session: AsyncSession, scope: Scope, wanted: Filter, limit: int) -> Sequence[EventRow]:
    """The rows that :func:`search` shows."""
    found: list[EventRow] = []
    async for where in _parts(session, scope, wanted, limit):
        query = select(EventRow).where(where, *_conditions(scope, wanted))
        if _is_inside(wanted):
            having = await _having(session, query, wanted)
            query = select(EventRow).where(among(session, EventRow.idx, having[: limit - len(found)]))
        found += await session.scalars(query.order_by(_order(wanted)).limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


@dataclass(frozen=True, slots=True)
class Counted:
    """How many events were found, and whether there are ``more``.

    ``last`` is the index of the last of these.
    """

    events: int
    more: bool
    last: int | None


async def counted(db: Database, scope: Scope, wanted: Filter, most: int) -> Counted:
    """How many events :func:`search` would find, ``most`` at most."""
    found: list[int] = []
    async with db.read(scope) as session:
        async for where in _parts(session, scope, wanted, CANDIDATES):
            query = select(EventRow).where(where, *_conditions(scope, wanted))
            if _is_inside(wanted):
                found += await _having(session, query, wanted)
            else:
                indices = query.with_only_columns(EventRow.idx).order_by(_order(wanted))
                found += await session.scalars(indices.limit(most + 1 - len(found)))
            if len(found) > most:
                break
    here = found[:most]
    return Counted(len(here), len(found) > most, here[-1] if here else None)


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
    named = {name: getattr(wanted, name) for name in ("actor", "credential", "lease", "workload", "request")}
    fields = [frozenset({term(name, value)}) for name, value in named.items() if value]
    if wanted.operators:
        fields.append(frozenset(term("actor", each) for each in wanted.operators))
    if wanted.outcome:
        fields.append(frozenset(term("outcome", each) for each in classes(wanted.outcome)))
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


def _order(wanted: Filter) -> ColumnElement[int]:
    return EventRow.idx.desc() if wanted.newest else EventRow.idx.asc()


def _conditions(scope: Scope, wanted: Filter) -> list[ColumnElement[bool]]:
    """What is true of the columns of an event that is wanted."""
    row = EventRow
    exactly = (
        (row.organization_id, wanted.organization),
        (row.actor_id, wanted.actor),
        (row.credential_id, wanted.credential),
        (row.lease_id, wanted.lease),
        (row.decision, wanted.decision),
    )
    conditions = [column == value for column, value in exactly if value]
    if scope.organizations is not None:
        conditions.append(row.organization_id.in_(sorted(scope.organizations)))
    if wanted.operators:
        conditions.append(row.actor_id.in_(wanted.operators))
    if wanted.kind:
        conditions.append(row.kind.in_(_kinds(wanted.kind)))
    if wanted.since is not None:
        conditions.append(row.time >= wanted.since)
    if wanted.until is not None:
        conditions.append(row.time < wanted.until)
    if wanted.after is not None:
        conditions.append(row.idx < wanted.after if wanted.newest else row.idx > wanted.after)
    return conditions


def _is_inside(wanted: Filter) -> bool:
    """Whether anything is wanted that no column has."""
    return bool(wanted.workload or wanted.request or wanted.outcome)


async def _having(session: AsyncSession, query: Select[EventRow], wanted: Filter) -> list[int]:
    """The indices of those events whose cores have what is wanted, in order."""
    cores = query.with_only_columns(EventRow.idx, type_coerce(EventRow.core, LargeBinary)).order_by(_order(wanted))
    rows = (await session.execute(cores)).all()
    # In a thread, as there may be thousands.
    return await asyncio.to_thread(_those_having, rows, wanted)


def _those_having(rows: Sequence[Row[int, bytes]], wanted: Filter) -> list[int]:
    outcomes = classes(wanted.outcome)
    having = []
    for index, packed in rows:
        found = inside(unpack(packed))
        if (
            wanted.workload in {"", found.workload}
            and wanted.request in {"", found.request}
            and (not wanted.outcome or found.outcome in outcomes)
        ):
            having.append(index)
    return having
