"""One run: clients and faults at once for a while, then quiet, then what the database kept."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from broker.audit.tables import EventRow, HeadRow
from broker.base.db import EVERY_TENANT, Database
from broker.credentials.tables import VersionRow
from tests.torture.checker import Kept, summary, violations
from tests.torture.clients import Jobs, lives_in_another_time, operates, rotates, works
from tests.torture.cluster import Cluster, cluster
from tests.torture.faults import strike

_WORKERS = 10


@dataclass(frozen=True)
class Run:
    """What came of it."""

    violations: list[str]
    faults: list[str]
    summary: str


async def run(directory: Path, *, seconds: float, seed: int, guarded: bool = True, faults: bool = True) -> Run:
    """Torture a cluster for so many seconds."""
    async with cluster(directory, seed, guarded=guarded) as parts:
        jobs = Jobs(parts)
        await jobs.prepare()
        clients = [asyncio.create_task(works(jobs)) for _ in range(_WORKERS)]
        clients += [asyncio.create_task(one(jobs)) for one in (operates, rotates, lives_in_another_time)]
        struck = await strike(parts, seconds) if faults else await asyncio.sleep(seconds, [])
        parts.over.set()
        await asyncio.gather(*clients)
        kept = await _kept(parts)
    return Run(violations(parts.history, kept), struck, summary(parts.history))


async def _kept(parts: Cluster) -> Kept:
    db = Database(parts.database_url)
    try:
        async with db.read(EVERY_TENANT) as session:
            size = await session.scalar(select(HeadRow.size))
            rows = list(await session.scalars(select(EventRow).order_by(EventRow.idx)))
            versions = list(await session.scalars(select(VersionRow)))
    finally:
        await db.close()
    return Kept(
        size or 0,
        [row.idx for row in rows],
        [json.loads(row.core) for row in rows],
        [{"credential": row.credential_id, "number": row.number, "state": row.state} for row in versions],
    )
