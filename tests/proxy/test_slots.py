"""Slots for calls under way: no job holds them all, and none is held by a call that stands still or is over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from broker.audit.guards import epochs_of
from tests.proxy.conftest import Bench
from tests.proxy.test_streaming import HEAD, until_closed
from tests.support.waiting import eventually

HALF = b"POST /proxy/acme/lab/x" + HEAD + b"Content-Length: 10\r\n\r\nhalf"


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def said(ends: Ends) -> tuple[int, str]:
    """The problem that ends a connection: its status and code."""
    head, _, body = (await until_closed(ends[0])).partition(b"\r\n\r\n")
    ends[1].close()
    return int(head.split()[1]), json.loads(body)["code"]


async def under_way(bench: Bench, number: int) -> None:
    await eventually(lambda: len(bench.world.services.in_flight) == number)


async def test_one_job_leaves_slots_to_the_others(bench: Bench) -> None:
    """``proxy_calls`` is 8 and ``proxy_share`` a quarter here."""
    in_flight = bench.world.services.in_flight
    in_flight.limits = type(in_flight.limits)(calls=8)
    lease = await bench.lease()
    held = [await bench.raw(lease, HALF) for _ in range(2)]
    await under_way(bench, 2)
    assert await said(await bench.raw(lease, b"GET /proxy/acme/lab/x" + HEAD + b"\r\n")) == (503, "too_many_calls")
    # another job's call goes through
    other = await bench.world.job("other")
    grant = await bench.world.grant(other, "acme", provider="lab")
    theirs = await other.lease("acme", provider="lab", grant=grant)
    assert (await bench.call(theirs, "/x")).status_code == 200
    # and so does its own once it has ended one
    held[0][1].close()
    await under_way(bench, 1)
    assert (await bench.call(lease, "/x")).status_code == 200
    held[1][1].close()
    await under_way(bench, 0)
    assert not in_flight.of_workload, "nothing is kept of who has none"


async def test_a_body_that_stands_still_ends_its_call(hasty: Bench) -> None:
    assert await said(await hasty.raw(await hasty.lease(), HALF)) == (504, "call_timeout")
    assert await hasty.uses() == [], "and was no use"


async def test_a_body_that_trickles_holds_its_slot_no_longer_than_its_lease(bench: Bench) -> None:
    lease = await bench.lease()
    ends = await bench.raw(lease, HALF)
    await under_way(bench, 1)
    bench.world.clock.forward(hours=2)
    assert (await said(ends))[1] == "lease_over"
    assert await bench.uses() == []


@pytest.mark.parametrize("what", ["lease", "grant", "workload", "credential", "organization"])
async def test_a_revocation_ends_a_call_whose_body_is_still_awaited(either: Bench, what: str) -> None:
    lease = await either.lease()
    ends = await either.raw(lease, HALF)
    await under_way(either, 1)
    await eventually(lambda: next(iter(either.world.services.in_flight)).guards)
    ids: dict[str, Any] = {
        "lease": f"leases/{lease['lease']['id']}",
        "grant": f"grants/{lease['lease']['grant']}",
        "workload": f"workloads/{either.job.id}",
        "credential": f"credentials/{either.credential}",
        "organization": "organizations/acme",
    }
    await either.world.call("POST", f"/v1/{ids[what]}/revoke", json={})
    status, code = await said(ends)
    assert status in {403, 409}
    assert code.endswith("_revoked") or code in {"lease_over", "no_grant"}
    await under_way(either, 0)
    assert await either.uses() == []


async def test_a_lease_that_is_over_is_refused_before_its_body_is_awaited(bench: Bench) -> None:
    lease = await bench.lease()
    await bench.world.call("POST", f"/v1/leases/{lease['lease']['id']}/revoke", json={})
    assert await said(await bench.raw(lease, HALF)) == (409, "lease_over")
    assert [event["core"]["reason"] for event in await bench.world.events(kind="use.denied")] == ["lease_over"]


async def test_a_call_that_is_decided_on_while_the_others_are_compared_disturbs_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flight = bench.world.services.in_flight
    lease = await bench.lease()
    held = [await bench.raw(lease, HALF) for _ in range(2)]
    await eventually(lambda: all(call.guards for call in in_flight) and len(in_flight) == 2)
    late, other = in_flight
    began = other.confirmed

    async def slow(*given: Any) -> dict[str, int]:
        present = await epochs_of(*given)
        late.depends_on(late.lease, late.version, {**late.guards, "grt_of_another": 7}, late.confirmed)
        return present

    monkeypatch.setattr("broker.proxy.in_flight.epochs_of", slow)
    await in_flight.compare([late, other])
    assert other.confirmed > began
    assert late.over is None, "it is compared the next time"
    for _, writer in held:
        writer.close()
