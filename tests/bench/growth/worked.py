"""What a broker does by itself over a filled database: each duty of its worker, checks of keys, look-ups."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from statistics import median

from sqlalchemy import event, func, select

from broker import app as composition
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.config import Settings
from broker.credentials.tables import VersionRow
from broker.grants.policy import AccessTarget
from broker.leases.lookup import look_up
from tests.bench.growth.rows import PROVIDERS, Customers

CHECKS_S = 20.0
_CHECKS = "check_health"
LOOK_UPS = 300


async def work(settings: Settings, customers: Customers) -> AsyncIterator[tuple[str, float]]:
    """Milliseconds and statements of a round of each duty; checks in a second; milliseconds of a look-up."""
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
        checks, began, since = broker.worker.duties[_CHECKS], time.perf_counter(), now_ms()
        while time.perf_counter() - began < CHECKS_S:
            round_began = time.perf_counter()
            with _counting(db) as statements:
                await checks.run()
            round_ms = (time.perf_counter() - round_began) * 1000
        async with db.read(EVERY_TENANT) as session:
            done = await session.scalar(select(func.count()).where(VersionRow.health_at >= since)) or 0
        yield f"duty_{_CHECKS}_ms", round_ms
        yield f"duty_{_CHECKS}_statements", statements[0]
        yield "checks_per_s", done / (time.perf_counter() - began)


async def _look_ups(db: Database, customers: Customers) -> float:
    """Of subjects of the job that has a right to every customer's key, one after the other."""
    took = []
    for slug in customers.subjects()[:LOOK_UPS]:
        began = time.perf_counter()
        await look_up(db, [AccessTarget(customers.job, slug, PROVIDERS[0], "default")])
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
