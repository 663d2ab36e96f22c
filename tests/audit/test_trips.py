"""A batch is one trip to the database, with all that belongs to its events and with its commit."""

from __future__ import annotations

import asyncio
from typing import Any

from broker.audit.events import Event
from broker.audit.log import AuditLog
from broker.audit.quota import Cooldown, Quota, Rate, Total
from broker.audit.subjects import SubjectKeys
from broker.base.clock import now_ms
from broker.base.db import Database
from broker.proxy.use import COMPLETE_USE
from tests.audit.test_log import INSERT_USE, event, use_row
from tests.support.ids import nth
from tests.support.trips import counted


async def test_a_batch_is_one_trip_whatever_its_events_bring(database_url: str) -> None:
    async with counted(database_url) as (through, trips):
        db = Database(through)
        db.subjects = SubjectKeys(bytes(32))
        log = AuditLog(db, deadline=20)
        await log.start()

        async def used(number: int) -> None:
            quotas: list[Quota] = [
                Cooldown("crd_1/pause", 60_000),
                Rate("grt_1/rate", 10_000, 1_000),
                Total("grt_1/uses", 10_000),
            ]
            guards = dict.fromkeys((nth("org"), nth("crd"), nth("lse", number)), 0)
            authorized: Event = event("use.authorized")
            writes: list[Any] = [(INSERT_USE, use_row(nth("use", number)))]
            await log.append(authorized, guards, writes, quotas=quotas)
            completes = {"use": nth("use", number), "at": now_ms(), "answer": 200}
            assert log.post(event("use.completed"), [(COMPLETE_USE, completes)])

        await used(0)  # the connection is made, and the statement is known to the server
        await log.append(event("grant.revoked"), raises=[nth("grt")])
        trips.since()
        batches = log.batches
        await asyncio.gather(*(used(number) for number in range(1, 400)))
        await log.append(event("grant.revoked"), raises=[nth("grt")])
        assert trips.since() == log.batches - batches
        await log.stop()
        await db.close()
