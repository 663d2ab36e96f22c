"""Receipts: that one event is in the log, shown without anything of another organization."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit import integrating, proving
from broker.audit.subjects import Part, subjects_of
from broker.audit.tables import CosignedRow, EventRow
from broker.base.db import Database, Scope
from broker.base.errors import NotFound, Unavailable
from broker.formats.ids import AuditEventId
from broker.formats.receipt import ShownEvent, receipt, shown, withheld

# How long somebody waits for the log, which takes events in every second, and how often it is looked at.
_WAIT_S: Final = 10.0
_AGAIN_S: Final = 0.1


class NotYet(Unavailable):
    """The log doesn't have the event yet."""

    code = "not_in_the_log_yet"


async def of_event(db: Database, scope: Scope, event: AuditEventId, *, personal: bool) -> bytes:
    """The receipt of an event inside ``scope``, with its personal part or without.

    Raises:
        NotFound: there is no such event here. NotYet: the log doesn't have it yet.
    """
    async with db.read(scope) as session:
        query = select(EventRow).where(EventRow.id == event)
        if scope.organizations is not None:
            query = query.where(EventRow.organization_id.in_(sorted(scope.organizations)))
        row = await session.scalar(query)
        if row is None:
            raise NotFound("There is no such event here. One of a month that was archived is in that month's archive.")
        return await of_row(session, row, personal=personal)


async def of_row(session: AsyncSession, row: EventRow, *, personal: bool) -> bytes:
    """The receipt of an event, with its personal part or without.

    Raises:
        NotYet: the log doesn't have it yet.
    """
    size, note = await _checkpoint(session, row.idx)
    proof = await proving.inclusion(session, row.idx, size)
    (event,) = await events_of(session, [row], personal=personal)
    return receipt(event, row.idx, proof, note)


async def _checkpoint(session: AsyncSession, index: int) -> tuple[int, bytes]:
    """The size and note of a checkpoint that has the event.

    It is the one that most witnesses cosigned, else the newest.

    Raises:
        NotYet: none has it.
    """
    newest = await integrating.newest(session)
    if newest is None or newest.size <= index:
        raise _not_yet()
    row = CosignedRow
    having = select(row).where(row.origin == newest.origin, row.size > index)
    cosigned = await session.scalar(having.order_by(row.count.desc(), row.size.desc()).limit(1))
    return (newest.size, newest.note) if cosigned is None else (cosigned.size, cosigned.note)


async def events_of(session: AsyncSession, rows: Sequence[EventRow], *, personal: bool) -> list[ShownEvent]:
    """What is shown of events, with their personal parts or without.

    One that is erased is withheld.
    """
    hidden = [withheld(row.core, row.salt_core, row.personal_commitment) for row in rows]
    if not personal:
        return hidden
    parts = [Part(json.loads(row.core), row.personal, row.personal_commitment) for row in rows]
    opened = await subjects_of(session).opened(session, parts)
    return [
        without
        if part.personal is None or part.salt is None
        else shown(row.core, row.salt_core, part.personal, part.salt)
        for row, part, without in zip(rows, opened, hidden, strict=True)
    ]


async def taken_in(db: Database, scope: Scope, size: int) -> None:
    """Wait until the log has ``size`` events.

    Raises:
        NotYet: it hasn't after some seconds.
    """
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while True:
        async with db.read(scope) as session:
            if await integrating.size(session) >= size:
                return
        if asyncio.get_running_loop().time() > deadline:
            raise _not_yet()
        await asyncio.sleep(_AGAIN_S)


def _not_yet() -> NotYet:
    return NotYet(
        "The log doesn't have this yet. The worker takes events in every second: ask again, and if that doesn't help, "
        "see that one runs (`broker serve` or `broker worker`)."
    )
