"""One run: clients and faults at once for a while, then quiet, then what the database kept."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, select

from broker.audit.tables import EventRow, HeadRow
from broker.base.db import EVERY_TENANT, Database
from broker.credentials.tables import CredentialRow, VersionRow
from broker.grants.tables import GrantRow
from broker.identity.tables import WorkloadRow
from broker.leases.tables import LeaseRow
from broker.organizations.tables import OrganizationRow
from tests.torture.checker import Kept, summary, violations
from tests.torture.clients import Jobs, lives_in_another_time, operates, rotates, works
from tests.torture.cluster import REPLICAS, Cluster, cluster
from tests.torture.faults import KINDS, strike
from tests.torture.trial import missing

_WORKERS = 10
# A slow machine may need longer until everything has happened that makes a trial.
_AT_MOST_S = 90.0


@dataclass(frozen=True)
class Run:
    """What came of it."""

    violations: list[str]
    faults: list[str]
    summary: str


async def run(directory: Path, *, seconds: float, seed: int, guarded: bool = True, faults: bool = True) -> Run:
    """Torture a cluster for so many seconds, and then until it was a trial."""
    async with cluster(directory, seed, guarded=guarded) as parts:
        jobs = Jobs(parts)
        await jobs.prepare()
        clients = [asyncio.create_task(works(jobs)) for _ in range(_WORKERS)]
        clients += [asyncio.create_task(one(jobs)) for one in (operates, rotates, lives_in_another_time)]
        try:
            if faults:
                struck = await strike(parts, seconds)
                found = await _tried(parts, struck)
            else:
                struck, found = [], await asyncio.sleep(seconds, [])
            parts.over.set()
            await asyncio.gather(*clients)
        finally:
            for client in clients:
                client.cancel()
        kept = await _kept(parts)
    found += violations(parts.history, kept)
    return Run(found, [fault for fault, _ in struck], summary(parts.history))


async def _tried(parts: Cluster, struck: list[tuple[str, float]]) -> list[str]:
    """What is still missing for a trial after waiting for it."""
    kinds = [fault.__name__ for fault in KINDS]
    end = time.monotonic() + _AT_MOST_S
    while found := missing(parts.history, struck, kinds=kinds, replicas=REPLICAS):
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.5)
    return [f"it was no trial: {sentence}" for sentence in found]


async def _kept(parts: Cluster) -> Kept:
    db = Database(parts.database_url)
    try:
        async with db.read(EVERY_TENANT) as session:
            size = await session.scalar(select(HeadRow.size))
            rows = list(await session.scalars(select(EventRow).order_by(EventRow.idx)))
            versions = list(await session.scalars(select(VersionRow)))
            over = {
                kind: frozenset(await session.scalars(select(table.id).where(is_over)))
                for kind, (table, is_over) in _OVER.items()
            }
    finally:
        await db.close()
    return Kept(
        size or 0,
        [row.idx for row in rows],
        [json.loads(row.core) for row in rows],
        [
            {
                "credential": row.credential_id,
                "number": row.number,
                "state": row.state,
                "intake": row.intake_id,
                "key": parts.keys[row.fingerprint],
            }
            for row in versions
        ],
        over,
    )


_OVER: dict[str, tuple[Any, ColumnElement[bool]]] = {
    "lease.revoked": (LeaseRow, LeaseRow.end_reason == "lease.revoked"),
    "grant.revoked": (GrantRow, GrantRow.revoked_at.is_not(None)),
    "workload.revoked": (WorkloadRow, WorkloadRow.state == "revoked"),
    "credential.revoked": (CredentialRow, CredentialRow.state == "revoked"),
    "organization.revoked": (OrganizationRow, OrganizationRow.state == "revoked"),
}
