"""A process that is killed at any moment loses nothing that it acknowledged."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from sqlalchemy import select

from broker.audit.tables import EventRow, HeadRow
from broker.base.db import EVERY_TENANT, Database
from broker.leases.tables import UseRow

WRITER = textwrap.dedent(
    """
    import asyncio, sys
    from sqlalchemy import insert
    from broker.audit.events import BROKER, Event
    from broker.audit.log import AuditLog
    from broker.audit.subjects import SubjectKeys
    from broker.base.db import Database
    from broker.leases.tables import UseRow
    INSERT = insert(UseRow.__table__)

    async def write(log, name):
        for number in range(100_000):
            use = f"use_{int(name) * 100_000 + number + 1:032x}"
            row = dict(id=use, organization_id="", lease_id="", credential_id="", version=1, workload_id="",
                       grant_id="", method="GET", authorized_at=1)
            event = Event(kind="use.authorized", time=1, actor=BROKER, use=use)
            receipt = await log.append(event, writes=[(INSERT, row)])
            print(receipt.index, receipt.id, use, flush=True)

    async def main():
        db = Database(sys.argv[1])
        db.subjects = SubjectKeys(bytes(32))
        log = AuditLog(db)
        await log.start()
        await asyncio.gather(*(write(log, str(n)) for n in range(16)))

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("events", [30, 500])
async def test_kill_9_loses_no_acknowledged_event(database_url: str, events: int) -> None:
    # given a process that appends as fast as it can and prints what was acknowledged
    process = subprocess.Popen([sys.executable, "-c", WRITER, database_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(events)]
    # when it is killed
    process.kill()
    lines += process.stdout.read().splitlines()
    process.stdout.close()
    process.wait()
    acknowledged = [line.split() for line in lines if len(line.split()) == 3]
    assert len(acknowledged) >= events

    # then every acknowledged event is there, at its index, with its row, and there is no gap
    db = Database(database_url)
    async with db.read(EVERY_TENANT) as session:
        stored = {row.idx: row.id for row in await session.scalars(select(EventRow))}
        uses = set(await session.scalars(select(UseRow.id)))
        size = await session.scalar(select(HeadRow.size))
    await db.close()
    assert all(stored[int(index)] == event_id and use in uses for index, event_id, use in acknowledged)
    assert sorted(stored) == list(range(len(stored)))
    assert size == len(stored) == len(uses)
