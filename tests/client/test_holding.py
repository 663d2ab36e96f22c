"""A lease lasts for as long as it is held, and not for longer than it may."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from broker.audit.events import BROKER
from broker.base.db import Scope
from broker.base.errors import Unavailable
from broker.client.errors import AccessDenied, AccessEnded, CallFailed
from broker.client.upstream import Upstream
from broker.credentials import pausing
from tests.client.served import RAPTOR, Desk, eventually, open_


async def held(desk: Desk, **options: Any) -> Upstream:
    """acme's upstream; the caller closes it."""
    return await asyncio.to_thread(desk.client().upstream, "acme", RAPTOR, **options)


def call_for(acme: Upstream, seconds: float) -> list[tuple[int, str]]:
    """Call again and again; each answer's status, and the token at the time."""
    until = time.monotonic() + seconds
    said = []
    with requests.Session() as session:
        while time.monotonic() < until:
            said.append((session.get(f"{acme.url}/facilities", auth=acme, timeout=10).status_code, acme.token))
            time.sleep(0.05)
    return said


async def ended_with(acme: Upstream, *, seconds: float = 5) -> CallFailed:
    """What the next use raises once there is no token any more."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            acme.headers()
        except CallFailed as failure:
            return failure
        await asyncio.sleep(0.02)
    raise AssertionError("access goes on")


def final_seconds(acme: Upstream) -> float | None:
    return acme.final_seconds


async def test_many_threads_share_one_lease_and_one_renewal_each_time(desk: Desk) -> None:
    await desk.grant()
    async with await held(desk, ttl=2) as acme:
        said = await asyncio.gather(*(asyncio.to_thread(call_for, acme, 4.5) for _ in range(6)))
    assert {answer for each in said for answer in each} == {(200, said[0][0][1])}
    assert await desk.count("lease.issued") == 1
    assert await desk.count("lease.renewed") in {2, 3}
    assert await desk.states() == ["ended"]


async def test_a_new_lease_is_taken_when_the_grant_allows_no_further_renewal(desk: Desk) -> None:
    await desk.grant(max_ttl=3)
    async with await held(desk, ttl=2) as acme:
        said = await asyncio.to_thread(call_for, acme, 4.0)
        first, second = await desk.leases()
        assert (first["state"], second["state"]) == ("ended", "active")
        # the old one was ended before its time, but after calls under it could finish
        assert first["ended_at"] < first["expires_at"]
        assert first["ended_at"] > second["issued_at"]
    assert {status for status, _ in said} == {200}
    assert len({token for _, token in said}) == 2
    assert await desk.states() == ["ended", "ended"]


async def test_a_token_that_was_handed_on_stays_until_nothing_can_prolong_it(desk: Desk) -> None:
    await desk.grant(max_ttl=3)
    async with await held(desk, ttl=2, keep_token=True) as acme:
        assert final_seconds(acme) is None
        token = acme.token
        await asyncio.sleep(2.2)
        assert acme.token == token
        assert 0 < (final_seconds(acme) or 0) < 1
        ended = await ended_with(acme)
        assert (type(ended), ended.code) == (AccessEnded, "lease_over")
    assert await desk.count("lease.issued") == 1


async def test_a_grant_that_ends_is_not_asked_for_lease_after_lease(desk: Desk) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3)
    await desk.grant(expires_at=ends.isoformat())
    async with await held(desk, ttl=2) as acme:
        await ended_with(acme)
        assert abs(datetime.now(UTC) - ends) < timedelta(seconds=0.5)

        async def refused() -> bool:
            ended = await ended_with(acme)
            return isinstance(ended, AccessDenied) and ended.code == "no_grant"

        await eventually(refused)
    assert await desk.count("lease.issued") == 2


CUTS = {
    "grant_revoked": "/v1/grants/{grant}/revoke",
    "key_revoked": "/v1/credentials/{credential}/revoke",
    "workload_revoked": "/v1/workloads/{workload}/revoke",
    "organization_revoked": "/v1/organizations/{organization}/revoke",
    "lease_over": "/v1/leases/{id}/revoke",
}


@pytest.mark.parametrize("code", CUTS)
async def test_a_cut_off_surfaces_on_the_next_use_with_its_code(desk: Desk, code: str) -> None:
    await desk.grant()
    async with await held(desk, ttl=2) as acme:
        (lease,) = await desk.leases()
        await desk.world.call("POST", CUTS[code].format(**lease), json={"reason": "test"})
        ended = await ended_with(acme)
        assert (type(ended), ended.code) == (AccessEnded, code)
        # for good, and without asking again
        with pytest.raises(AccessEnded):
            acme.headers()
    assert await desk.count("lease.issued") == 1


async def test_a_key_that_replaces_the_old_one_is_leased_in_its_place(desk: Desk) -> None:
    await desk.grant()
    async with await held(desk, ttl=2) as acme:
        token = acme.token
        state = desk.world.upstream
        (organization,) = state.organizations.values()
        wanted = {"organization": "acme", "provider": RAPTOR, "key": state.add_key(organization)[1]}
        revoke = f"/v1/credentials/{desk.credentials[RAPTOR]}/versions/1/revoke"
        await desk.world.call("POST", revoke, json={"reason": "replaced"})
        await desk.world.call("POST", "/v1/credentials", status=201, json=wanted)

        async def replaced() -> bool:
            return acme.token != token

        await eventually(replaced)
        assert [lease["version"] for lease in await desk.leases()] == [1, 2]
        assert {status for status, _ in await asyncio.to_thread(call_for, acme, 0.3)} == {200}


async def test_a_key_that_rests_for_a_while_is_leased_again_once_it_does_not(desk: Desk) -> None:
    await desk.grant()
    async with await held(desk, ttl=2) as acme:
        services, credential = desk.world.services, desk.credentials[RAPTOR]
        scope = Scope.of((await desk.leases())[0]["organization"])
        async with services.db.write(scope) as session:
            await pausing.pause(session, BROKER, credential, now=services.clock())
        refused = await ended_with(acme)
        assert refused.code == "key_paused"
        async with services.db.write(scope) as session:
            await pausing.resume(session, BROKER, credential, now=services.clock())

        async def back() -> bool:
            try:
                return bool(acme.token)
            except CallFailed:
                return False

        await eventually(back)


async def test_a_lease_that_ran_out_while_this_machine_slept_is_replaced(desk: Desk) -> None:
    await desk.grant()
    async with await held(desk, ttl=3) as acme:
        token = acme.token
        desk.world.clock.forward(seconds=2.5)  # to the broker, renewal comes too late

        async def replaced() -> bool:
            return acme.token != token

        await eventually(replaced)
        assert await desk.states() == ["expired", "active"]


async def test_a_broker_that_is_away_is_asked_again_until_it_is_back(closed_desk: Desk) -> None:
    desk = closed_desk
    async with open_(desk):
        await desk.grant()
        client = desk.client()
        await asyncio.to_thread(client.token)
        began = time.monotonic()
        acme = await asyncio.to_thread(client.upstream, "acme", RAPTOR, ttl=2)
        token = acme.token
    # nobody answers, but the lease stands until it expires
    failure = await ended_with(acme)
    assert 2 <= time.monotonic() - began < 4
    assert (type(failure), failure.code, failure.transient) == (CallFailed, "unreachable", True)
    # and once somebody answers, access goes on by itself
    async with open_(desk):

        async def back() -> bool:
            try:
                return acme.token != token
            except CallFailed:
                return False

        await eventually(back, seconds=15)
        assert {status for status, _ in await asyncio.to_thread(call_for, acme, 0.3)} == {200}
        await asyncio.to_thread(acme.close)


async def test_an_event_loop_never_waits_for_a_renewal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = desk.world.services.leasing.renew
    begun, asked_within = asyncio.Event(), 0

    async def slowly(*arguments: Any) -> Any:
        begun.set()
        while asked_within < 10:  # the renewal itself waits for the loop's own calls: a loop that waits for it stands
            await asyncio.sleep(0.005)
        return await renewed(*arguments)

    monkeypatch.setattr(desk.world.services.leasing, "renew", slowly)
    await desk.grant()
    async with await held(desk, ttl=6) as acme, asyncio.timeout(30):
        await begun.wait()
        for _ in range(10):
            acme.headers()
            asked_within += 1
            await asyncio.sleep(0.005)

        async def done() -> bool:
            return await desk.count("lease.renewed") == 1

        await eventually(done)


async def test_a_busy_broker_is_left_alone_for_as_long_as_it_says(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    renewed = desk.world.services.leasing.renew

    async def busy_at_first(*arguments: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise Unavailable("Not just now.", retry_after=1)
        return await renewed(*arguments)

    monkeypatch.setattr(desk.world.services.leasing, "renew", busy_at_first)
    await desk.grant()
    async with await held(desk, ttl=4) as acme:
        said = await asyncio.to_thread(call_for, acme, 4.5)
    assert {status for status, _ in said} == {200}
    assert asked[1] - asked[0] >= 1


async def test_an_abandoned_holding_lets_its_lease_expire(desk: Desk) -> None:
    await desk.grant()
    acme = await held(desk, ttl=1)
    assert [thread.name for thread in threading.enumerate()].count("lease-renewal") == 1
    del acme
    gc.collect()

    async def expired() -> bool:
        return await desk.states() == ["expired"]

    await eventually(expired)
    assert "lease-renewal" not in [thread.name for thread in threading.enumerate()]


async def test_closing_does_not_wait_for_the_renewal_that_is_due(desk: Desk) -> None:
    await desk.grant()
    acme = await held(desk)
    before = time.monotonic()
    await asyncio.to_thread(acme.close)
    await asyncio.to_thread(acme.close)  # twice is once
    assert time.monotonic() - before < 2
    assert await desk.states() == ["ended"]
