"""A lease lasts for as long as it is held, and not for longer than it may."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import requests

from broker.audit.events import BROKER
from broker.base.db import Scope
from broker.base.errors import Unavailable
from broker.client import renewal
from broker.client.client import Client
from broker.client.errors import AccessDenied, AccessEnded, CallFailed
from broker.client.upstream import Upstream
from broker.credentials import pausing
from tests.client.served import RAPTOR, ClientBench, open_
from tests.support.waiting import eventually

# A lease that outlasts any test, so that a slow machine loses none; in a hurry it is renewed nonetheless.
LONG = 600
LEAST_S = 0.1


class Hurry:
    """Renewals come every tenth of a second or so, until it is over."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self._patched, self._patient = patched, renewal.EARLY
        patched.setattr(renewal, "EARLY", 0.0002)
        patched.setattr(renewal, "_LEAST_S", LEAST_S)

    def over(self) -> None:
        """What is renewed or taken from now on lasts for long."""
        self._patched.setattr(renewal, "EARLY", self._patient)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Hurry:
    return Hurry(monkeypatch)


@pytest.fixture
def hurry_with_the_first(hurry: Hurry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lease is not renewed while a test runs."""
    taken, leases = Client.lease, 0

    def taking(self: Client, *arguments: Any, **more: Any) -> Any:
        nonlocal leases
        leases += 1
        if leases > 1:
            hurry.over()
        return taken(self, *arguments, **more)

    monkeypatch.setattr(Client, "lease", taking)


async def held(bench: ClientBench, **options: Any) -> Upstream:
    """acme's upstream; the caller closes it."""
    return await asyncio.to_thread(bench.client().upstream, "acme", RAPTOR, **options)


@asynccontextmanager
async def called(acme: Upstream, *, threads: int = 1) -> AsyncIterator[list[tuple[int, str]]]:
    """Call again and again while the context is open; each answer's status, and the token at the time."""
    said: list[tuple[int, str]] = []
    stop = threading.Event()

    def call() -> None:
        with requests.Session() as session:
            while not stop.wait(0.05):
                said.append((session.get(f"{acme.url}/facilities", auth=acme, timeout=30).status_code, acme.token))

    calling = [asyncio.create_task(asyncio.to_thread(call)) for _ in range(threads)]
    try:
        yield said
    finally:
        stop.set()
        await asyncio.gather(*calling)


async def answers(acme: Upstream) -> set[int]:
    """The statuses of a few calls."""
    async with called(acme) as said:
        await eventually(lambda: len(said) > 3)
    return {status for status, _ in said}


def refusal(acme: Upstream) -> CallFailed | None:
    """What a use raises."""
    try:
        acme.headers()
    except CallFailed as failure:
        return failure
    return None


async def ended(acme: Upstream) -> tuple[CallFailed, datetime, set[str]]:
    """What a use raises once there is no token any more, when the last one began that still had one; the tokens."""
    stood, tokens = datetime.min.replace(tzinfo=UTC), set[str]()

    def over() -> CallFailed | None:
        nonlocal stood
        began = datetime.now(UTC)
        if (refused := refusal(acme)) is None:
            stood = began
            tokens.add(acme.token)
        return refused

    return await eventually(over), stood, tokens


async def ended_with(acme: Upstream) -> CallFailed:
    return (await ended(acme))[0]


def final_seconds(acme: Upstream) -> float | None:
    return acme.final_seconds


@pytest.mark.usefixtures("hurry")
async def test_many_threads_share_one_lease_and_one_renewal_each_time(bench: ClientBench) -> None:
    await bench.grant()

    async def renewed() -> list[dict[str, Any]]:
        return await bench.world.events(kind="lease.renewed")

    async with await held(bench, ttl=LONG) as acme, called(acme, threads=6) as said:
        await eventually(lambda: len(said) > 6)
        before = len(await renewed())

        async def renewed_within() -> bool:
            return len(await renewed()) >= before + 3

        await eventually(renewed_within)
    assert set(said) == {(200, said[0][1])}
    assert await bench.count("lease.issued") == 1
    times = [event["core"]["time"] for event in await renewed()]  # by the wall's clock, the pause by another
    assert all(later - earlier > LEAST_S * 900 for earlier, later in pairwise(times)), "not a renewal for each thread"
    assert await bench.states() == ["ended"]


@pytest.mark.usefixtures("hurry_with_the_first")
async def test_a_new_lease_is_taken_when_the_grant_allows_no_further_renewal(
    bench: ClientBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    grace = 1.0
    monkeypatch.setattr(renewal, "_GRACE_S", grace)
    await bench.grant(max_ttl=LONG + 1)
    async with await held(bench, ttl=LONG) as acme:
        async with called(acme) as said:

            async def replaced() -> bool:
                return (await bench.states())[0] == "ended"

            await eventually(replaced)
        first, second = await bench.leases()
        assert (first["state"], second["state"]) == ("ended", "active")
        # the old one was ended before its time, but after calls under it could finish
        assert first["ended_at"] < first["expires_at"]
        ended_at, issued_at = (datetime.fromisoformat(at) for at in (first["ended_at"], second["issued_at"]))
        assert ended_at - issued_at > timedelta(seconds=grace * 0.9), "nearly: another clock than the pause's"
    assert await bench.count("lease.renewed") >= 1
    assert {status for status, _ in said} == {200}
    assert len({token for _, token in said}) == 2
    assert await bench.states() == ["ended", "ended"]


@pytest.mark.usefixtures("hurry")
async def test_a_token_that_was_handed_on_stays_until_nothing_can_prolong_it(bench: ClientBench) -> None:
    await bench.grant(max_ttl=3)
    async with await held(bench, ttl=2, keep_token=True) as acme:
        token = acme.token
        left = await eventually(lambda: final_seconds(acme))
        assert acme.token == token
        assert 0 < (final_seconds(acme) or 0) < left < 3
        last, _, tokens = await ended(acme)
        assert (type(last), last.code) == (AccessEnded, "lease_over")
        assert tokens == {token}
    assert await bench.count("lease.issued") == 1


@pytest.mark.usefixtures("hurry")
async def test_a_grant_that_ends_is_not_asked_for_lease_after_lease(bench: ClientBench) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3)
    await bench.grant(expires_at=ends.isoformat())
    async with await held(bench, ttl=2) as acme:
        _, stood, tokens = await ended(acme)
        assert stood < ends
        assert len(tokens) == 2
        _, second = await bench.leases()
        assert abs(datetime.fromisoformat(second["expires_at"]) - ends) < timedelta(seconds=0.001), "what can be told"

        def refused() -> bool:
            last = refusal(acme)
            return isinstance(last, AccessDenied) and last.code == "no_grant"

        await eventually(refused)
    assert await bench.count("lease.issued") == 2


CUTS = {
    "grant_revoked": "/v1/grants/{grant}/revoke",
    "key_revoked": "/v1/credentials/{credential}/revoke",
    "workload_revoked": "/v1/workloads/{workload}/revoke",
    "organization_revoked": "/v1/organizations/{organization}/revoke",
    "lease_over": "/v1/leases/{id}/revoke",
}


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("code", CUTS)
async def test_a_cut_off_surfaces_on_the_next_use_with_its_code(bench: ClientBench, code: str) -> None:
    await bench.grant()
    async with await held(bench, ttl=LONG) as acme:
        (lease,) = await bench.leases()
        await bench.world.call("POST", CUTS[code].format(**lease), json={"reason": "test"})
        last = await ended_with(acme)
        assert (type(last), last.code) == (AccessEnded, code)
        # for good, and without asking again
        with pytest.raises(AccessEnded):
            acme.headers()
    assert await bench.count("lease.issued") == 1


@pytest.mark.usefixtures("hurry_with_the_first")
async def test_a_key_that_replaces_the_old_one_is_leased_in_its_place(
    bench: ClientBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, there = bench.world.services.leasing.renew, asyncio.Event()

    async def afterwards(*arguments: Any) -> Any:
        await there.wait()
        return await renewed(*arguments)

    monkeypatch.setattr(bench.world.services.leasing, "renew", afterwards)
    await bench.grant()
    async with await held(bench, ttl=LONG) as acme:
        token = acme.token
        state = bench.world.upstream
        (organization,) = state.organizations.values()
        wanted = {"organization": "acme", "provider": RAPTOR, "key": state.add_key(organization)[1]}
        revoke = f"/v1/credentials/{bench.credentials[RAPTOR]}/versions/1/revoke"
        await bench.world.call("POST", revoke, json={"reason": "replaced"})
        await bench.world.call("POST", "/v1/credentials", status=201, json=wanted)
        there.set()
        await eventually(lambda: acme.token != token)
        assert [lease["version"] for lease in await bench.leases()] == [1, 2]
        assert await answers(acme) == {200}


@pytest.mark.usefixtures("hurry")
async def test_a_key_that_rests_for_a_while_is_leased_again_once_it_does_not(bench: ClientBench) -> None:
    await bench.grant()
    async with await held(bench, ttl=2) as acme:
        services, credential = bench.world.services, bench.credentials[RAPTOR]
        scope = Scope.of((await bench.leases())[0]["organization"])
        async with services.parts.db.write(scope) as session:
            await pausing.pause(session, BROKER, credential, now=services.parts.clock())
        refused = await ended_with(acme)
        assert refused.code == "key_paused"
        async with services.parts.db.write(scope) as session:
            await pausing.resume(session, BROKER, credential, now=services.parts.clock())

        await eventually(lambda: refusal(acme) is None)


@pytest.mark.usefixtures("hurry_with_the_first")
async def test_a_lease_that_ran_out_while_this_machine_slept_is_replaced(bench: ClientBench) -> None:
    await bench.grant()
    async with await held(bench, ttl=LONG) as acme:
        token = acme.token
        bench.world.clock.forward(seconds=LONG + 1)  # to the broker, renewal comes too late
        await eventually(lambda: acme.token != token)
        assert await bench.states() == ["expired", "active"]


async def test_a_broker_that_is_away_is_asked_again_until_it_is_back(closed_bench: ClientBench) -> None:
    bench = closed_bench
    async with open_(bench):
        await bench.grant()
        client = bench.client()
        await asyncio.to_thread(client.token)
        began = time.monotonic()
        acme = await asyncio.to_thread(client.upstream, "acme", RAPTOR, ttl=2)
        token = acme.token
    # nobody answers, but the lease stands until it expires
    failure, stood, _ = await ended(acme)
    assert time.monotonic() - began >= 2
    (lease,) = await bench.leases()
    assert stood < datetime.fromisoformat(lease["expires_at"])
    assert (type(failure), failure.code, failure.transient) == (CallFailed, "unreachable", True)
    # and once somebody answers, access goes on by itself
    async with open_(bench):
        await eventually(lambda: refusal(acme) is None and acme.token != token)
        assert await answers(acme) == {200}
        await asyncio.to_thread(acme.close)


async def test_an_event_loop_never_waits_for_a_renewal(
    bench: ClientBench, hurry: Hurry, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = bench.world.services.leasing.renew
    begun, asked_within = asyncio.Event(), 0

    async def slowly(*arguments: Any) -> Any:
        begun.set()
        while asked_within < 10:  # the renewal itself waits for the loop's own calls: a loop that waits for it stands
            await asyncio.sleep(0.005)
        hurry.over()
        return await renewed(*arguments)

    monkeypatch.setattr(bench.world.services.leasing, "renew", slowly)
    await bench.grant()
    async with await held(bench, ttl=LONG) as acme, asyncio.timeout(30):
        await begun.wait()
        for _ in range(10):
            acme.headers()
            asked_within += 1
            await asyncio.sleep(0.005)

        async def done() -> bool:
            return await bench.count("lease.renewed") == 1

        await eventually(done)


@pytest.mark.usefixtures("hurry")
async def test_a_busy_broker_is_left_alone_for_as_long_as_it_says(
    bench: ClientBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    renewed = bench.world.services.leasing.renew

    async def busy_at_first(*arguments: Any) -> Any:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise Unavailable("Not just now.", retry_after=1)
        return await renewed(*arguments)

    monkeypatch.setattr(bench.world.services.leasing, "renew", busy_at_first)
    await bench.grant()
    async with await held(bench, ttl=LONG) as acme, called(acme) as said:
        await eventually(lambda: len(asked) > 1)
    assert {status for status, _ in said} == {200}
    assert asked[1] - asked[0] >= 1


@pytest.mark.usefixtures("hurry")
async def test_an_abandoned_holding_lets_its_lease_expire(bench: ClientBench) -> None:
    def renewing() -> int:
        return [thread.name for thread in threading.enumerate()].count("lease-renewal")

    await bench.grant()
    acme = await held(bench, ttl=LONG)
    assert renewing() == 1
    del acme
    gc.collect()
    await eventually(lambda: not renewing())
    assert await bench.states() == ["active"]
    bench.world.clock.forward(seconds=LONG)
    assert await bench.states() == ["expired"]


async def test_closing_does_not_wait_for_the_renewal_that_is_due(bench: ClientBench) -> None:
    await bench.grant()
    acme = await held(bench, ttl=LONG)
    before = time.monotonic()
    await asyncio.to_thread(acme.close)
    await asyncio.to_thread(acme.close)  # twice is once
    assert time.monotonic() - before < LONG * renewal.EARLY / 10, "a slow machine's time, and nowhere near what is due"
    assert await bench.states() == ["ended"]
