"""The group commit itself: one caller after the other puts a use on the record of an SQLite file, as the proxy does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import uvloop
from sqlalchemy import insert

from broker import schema
from broker.audit.events import Actor, AuditTarget, Event
from broker.audit.log import AuditLog
from broker.audit.quota import Cooldown
from broker.base.clock import now_ms
from broker.base.db import Database, table
from broker.formats import ids
from broker.leases.tables import UseRow
from tests.bench.load import Measured

_INSERT_USE = insert(table(UseRow))


def run(directory: Path, *, seconds: float) -> Measured:
    """Append for ``seconds`` in a process of its own, to the database that is in ``directory`` or is made there."""
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.commit", str(directory / "record.db"), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured(**json.loads(done.stdout))


async def _appended(path: str, seconds: float) -> Measured:
    db = Database(f"sqlite+aiosqlite:///{path}")
    await schema.upgrade(db)
    log = AuditLog(db)
    await log.start()
    organization, credential = ids.new(ids.OrganizationId), ids.new(ids.CredentialId)
    grant, lease = ids.new(ids.GrantId), ids.new(ids.LeaseId)
    workload = ids.new(ids.WorkloadId)
    job = Actor("workload", workload, "bench", "127.0.0.1")
    guards = dict.fromkeys((job.id, organization, grant, credential, lease), 0)
    quotas = [Cooldown(f"{credential}/pause", 60_000)]

    def use() -> Event:
        return Event(
            kind="use.authorized",
            time=now_ms(),
            actor=job,
            organization=organization,
            credential=credential,
            version=1,
            provider="raptor-comply",
            workload=workload,
            grant=grant,
            lease=lease,
            use=ids.new(ids.UseId),
            mode="use",
            target=AuditTarget("127.0.0.1", "GET", "/facilities"),
            request=ids.new(ids.RequestId),
        )

    latencies: list[float] = []
    started = time.perf_counter()
    while (before := time.perf_counter()) - started < seconds:
        event = use()
        await log.append(event, guards, [(_INSERT_USE, _row(event))], quotas=quotas)
        latencies.append((time.perf_counter() - before) * 1000)
    took = time.perf_counter() - started
    await log.stop()
    await db.close()
    return Measured.of(latencies, took)


def _row(event: Event) -> dict[str, object]:
    return {
        "id": event.use,
        "organization_id": event.organization,
        "lease_id": event.lease,
        "credential_id": event.credential,
        "version": event.version,
        "workload_id": event.workload,
        "grant_id": event.grant,
        "method": "GET",
        "authorized_at": event.time,
        "completed_at": None,
        "status": None,
    }


def main() -> None:
    """Append to the database and for the seconds that the command line names, print what was measured."""
    path, seconds = sys.argv[1:]
    print(json.dumps(asdict(uvloop.run(_appended(path, float(seconds))))))


if __name__ == "__main__":
    main()
