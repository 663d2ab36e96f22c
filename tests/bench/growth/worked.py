"""What a broker does by itself over a filled database: each duty of its worker, checks of keys, look-ups."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from statistics import median

from sqlalchemy import event, func, select

from broker import app as composition
from broker.base.clock import Millis, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.logs import configure
from broker.config import Settings
from broker.credentials.tables import VersionRow
from broker.formats.ids import Reference
from broker.grants.policy import AccessTarget
from broker.leases.lookup import look_up
from tests.bench.growth.rows import PROVIDERS, Customers

_CHECKS = "check_health"
LOOK_UPS = 300


async def work(settings: Settings, customers: Customers) -> AsyncIterator[tuple[str, float]]:
    """Milliseconds of a look-up; milliseconds and statements of a round of each duty; checks in a second of a round."""
    configure("error")
    async with composition.running(settings) as broker:
        db = broker.services.parts.db
        yield "look_up_p50_ms", await _look_ups(db, customers)
        for name, duty in broker.worker.duties.items():
            if name == _CHECKS:
                continue
            with _counting(db) as statements:
                began = time.perf_counter()
                await duty.run()
            yield f"duty_{name}_ms", (time.perf_counter() - began) * 1000
            yield f"duty_{name}_statements", statements[0]
        checks, since = broker.worker.duties[_CHECKS], now_ms()
        with _counting(db) as statements:
            began = time.perf_counter()
            await checks.run()
            first_s, sent = time.perf_counter() - began, statements[0]
            yield "checks_per_s", await _checked(db, since) / first_s
        yield f"duty_{_CHECKS}_ms", first_s * 1000
        yield f"duty_{_CHECKS}_statements", sent


async def _checked(db: Database, since: Millis) -> int:
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(select(func.count()).where(VersionRow.health_at >= since)) or 0


async def _look_ups(db: Database, customers: Customers) -> float:
    """Of subjects of the job that has a right to every customer's key, one after the other."""
    took = []
    for slug in customers.subjects()[:LOOK_UPS]:
        began = time.perf_counter()
        await look_up(db, [AccessTarget(customers.job, Reference(slug), PROVIDERS[0], "default")])
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


@contextmanager
def _counting(db: Database) -> Iterator[list[int]]:
    counted = [0]

    def count(*_: object) -> None:
        counted[0] += 1

    event.listen(db.engine.sync_engine, "before_cursor_execute", count)
    try:
        yield counted
    finally:
        event.remove(db.engine.sync_engine, "before_cursor_execute", count)
