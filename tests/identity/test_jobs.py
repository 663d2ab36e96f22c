"""What a job's access token opens once the job was revoked: nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.audit.guards import raise_epoch
from broker.base.db import EVERY_TENANT, Database
from broker.formats import ids
from broker.formats.ids import WorkloadId
from broker.identity.jobs import JobRevoked, Jobs, TrustOver
from broker.identity.principal import Workload
from broker.identity.tables import WorkloadRow
from tests.support.world import World, WorldClock

CHECK = {"candidates": [{"digest": "0" * 64, "place": "a.log:1"}]}


async def test_a_revoked_jobs_token_opens_nothing(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = (await job.lease("acme"))["lease"]["id"]
    headers = await job.headers()
    paths: dict[tuple[str, str], Any] = {
        ("GET", "/v1/leases"): None,
        ("GET", f"/v1/leases/{lease}"): None,
        ("POST", "/v1/leaks/check"): CHECK,
        ("POST", f"/v1/leases/{lease}/renew"): {},
        ("POST", f"/v1/leases/{lease}/end"): None,
    }
    for (method, path), body in list(paths.items())[:-1]:
        await world.call(method, path, as_=headers, json=body)
    recorded = await world.events(kind="leak.checked")
    await world.call("POST", "/v1/workloads/sync/revoke", json={"reason": "retired"})
    for (method, path), body in paths.items():
        refused = await world.call(method, path, as_=headers, status=403, json=body)
        assert refused["code"] == "workload_revoked", path
    assert await world.events(kind="leak.checked") == recorded, "nothing more is on the record"
    assert (await world.call("GET", f"/v1/leases/{lease}"))["state"] == "active", "nobody ended it"


def of(workload: WorkloadId, *via: str) -> Workload:
    return Workload(workload, "sync", via)


async def row(db: Database) -> WorkloadId:
    workload = WorkloadId("wkl_" + "1" * 32)
    db.row_key = bytes(32)
    async with db.write(EVERY_TENANT) as session:
        session.add(
            WorkloadRow(
                id=workload,
                name="sync",
                jwks={"keys": []},
                secret_hash=None,
                state="active",
                created_at=0,
                created_by="",
                revoked_at=None,
            )
        )
    return workload


async def revoke(db: Database, workload: str) -> None:
    async with db.write(EVERY_TENANT) as session:
        (await session.get_one(WorkloadRow, workload)).state = "revoked"


async def test_the_state_is_asked_from_memory_and_never_believed_for_longer_than_a_second(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WorldClock()
    jobs, workload = Jobs(db, clock), await row(db)
    await jobs.check(of(workload))
    with monkeypatch.context() as away:
        away.setattr(db, "read", None)
        await jobs.check(of(workload))
    await revoke(db, workload)  # without any message
    clock.forward(seconds=1)
    with pytest.raises(JobRevoked):
        await jobs.check(of(workload))


async def test_a_message_is_believed_at_once_also_while_the_state_is_being_read(db: Database) -> None:
    jobs, workload = Jobs(db, WorldClock()), await row(db)
    await asyncio.gather(jobs.check(of(workload)), told_of(jobs, workload))
    await revoke(db, workload)
    with pytest.raises(JobRevoked):  # what was read before the message was not kept
        await jobs.check(of(workload))


async def test_a_token_opens_nothing_once_what_it_was_given_for_has_ended(db: Database) -> None:
    jobs, workload = Jobs(db, WorldClock()), await row(db)
    trust = ids.new(ids.TrustId)
    await jobs.check(of(workload, trust))
    async with db.write(EVERY_TENANT) as session:
        await raise_epoch(session, trust)
    jobs.heard(f"{trust} 2")
    with pytest.raises(TrustOver):
        await jobs.check(of(workload, trust))
    await jobs.check(of(workload))


async def told_of(jobs: Jobs, workload: str) -> None:
    jobs.heard(f"{workload} 2")


async def test_a_workload_that_is_not_there_stands_no_more(db: Database) -> None:
    with pytest.raises(JobRevoked):
        await Jobs(db, WorldClock()).check(of(WorkloadId("wkl_" + "2" * 32)))
