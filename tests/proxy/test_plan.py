"""What doesn't change between two calls under one lease: found once, and gone with what it is of."""

from __future__ import annotations

import asyncio
import base64
import gc
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import broker
from broker.providers.definition import Definition
from broker.proxy import plan
from broker.proxy.plan import Plan, Plans
from tests.proxy.conftest import Bench, problem
from tests.support.lab import KEY
from tests.support.waiting import eventually

ROOT = str(Path(broker.__file__).parent)


def plans(bench: Bench) -> Plans:
    return bench.world.services.proxy.authorizer.plans


def of(bench: Bench, lease: dict[str, Any]) -> Plan:
    found = plans(bench).kept.get(lease["lease"]["id"])
    assert found is not None
    return found


async def test_what_does_not_change_between_two_calls_is_found_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def url(definition: Definition, variables: dict[str, str]) -> str:
        found.append(definition.id)
        return filled(definition, variables)

    filled = Definition.url
    monkeypatch.setattr(Definition, "url", url)
    lease = await bench.lease(rate={"uses": 100, "seconds": 60}, max_uses=100)
    await bench.call(lease, "/x")
    first, found[:] = of(bench, lease), []
    for path in ("/x", "/y?a=b"):
        assert (await bench.call(lease, path, "POST", content=b"body")).status_code == 200
    assert not found, "base URL, host and path are known"
    assert of(bench, lease) is first


async def test_a_call_passes_few_layers(bench: Bench) -> None:
    """Counted, as time can't be: the broker's functions that run for one call, its record included."""
    lease, calls = await bench.lease(), 0
    reader, writer = await bench.raw(lease, b"")
    asked = f"GET /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lease['token']}\r\n\r\n".encode()

    async def call() -> None:
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        await reader.readexactly(int(length.partition(b": ")[2]))

    def count(frame: types.FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(ROOT)

    for _ in range(3):
        await call()
    sys.setprofile(count)
    try:
        for _ in range(20):
            await call()
    finally:
        sys.setprofile(None)
        writer.close()
    assert calls / 20 < 560


async def test_a_plan_goes_with_its_lease_and_with_what_the_lease_stands_on(bench: Bench) -> None:
    lease = await bench.lease()
    lease_id = lease["lease"]["id"]
    made = []

    async def planned() -> None:
        await bench.call(lease, "/x")
        made.append(of(bench, lease))

    await planned()
    renewed = f"/v1/leases/{lease_id}/renew"
    await bench.world.call("POST", renewed, as_=await bench.job.headers(), json={"ttl": 600})
    await planned()
    bench.world.services.snapshots.forget()
    await planned()
    bench.declare(required_headers={"X-Lab-Version": "8"})
    await planned()
    assert len({id(each) for each in made}) == 4
    assert len(plans(bench).kept) == 1
    assert bench.lab.requests[-1].values("x-lab-version") == ["8"]


async def test_as_many_plans_are_kept_as_may_be(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans(bench), "kept", type(plans(bench).kept)(2))
    assert plan.PLANS_MAX <= 10_000
    for _ in range(3):
        await bench.call(await bench.lease(), "/x")
    assert len(plans(bench).kept) == 2


def reached(root: object) -> Iterator[object]:
    """All that an object leads to, but for code."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        one = waiting.pop()
        yield one
        for other in gc.get_referents(one):
            code = isinstance(other, (type, types.ModuleType, types.FunctionType, types.MethodType))
            if not code and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


async def test_a_plan_holds_no_opened_key_and_nothing_that_is_made_of_one(bench: Bench) -> None:
    lease = await bench.lease()
    await bench.call(lease, "/x")
    spelled = (KEY, KEY.encode().hex(), base64.b64encode(KEY.encode()).decode()[:-4])
    held = [
        one if isinstance(one, str) else one.decode("latin-1")
        for one in reached(of(bench, lease))
        if isinstance(one, (str, bytes))
    ]
    assert of(bench, lease).usual.base in held
    assert not [text for text in held for spelling in spelled if spelling in text]


async def test_a_token_is_known_again_by_its_digest_and_no_other_is_taken_for_it(bench: Bench) -> None:
    lease = await bench.lease()
    for _ in range(2):
        assert (await bench.call(lease, "/x")).status_code == 200
    token = lease["token"]
    for other in (token[:-1] + ("A" if token[-1] != "A" else "B"), token + "A", token[:-1]):
        assert problem(await bench.call({**lease, "token": other}, "/x")) == (401, "unknown_lease")
    remembered = bench.world.services.leasing.digests
    assert [known for _, known in remembered.entries()] == [lease["lease"]["id"]]
    assert not [one for one in reached(remembered) if isinstance(one, str) and token in one]


async def test_one_timer_serves_all_calls_under_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = asyncio.Event()
    begun: list[int] = []
    timers: list[float] = []

    async def slow(_seen: object, _reader: object, writer: asyncio.StreamWriter) -> None:
        begun.append(1)
        await let_go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    loop = asyncio.get_running_loop()
    later, at = loop.call_later, loop.call_at
    seconds = bench.world.services.in_flight.limits.seconds

    def call_later(delay: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(delay)
        return later(delay, *rest, **more)

    def call_at(when: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(when - loop.time())
        return at(when, *rest, **more)

    monkeypatch.setattr(loop, "call_later", call_later)
    monkeypatch.setattr(loop, "call_at", call_at)
    bench.lab.scripts["/slow"] = slow
    lease = await bench.lease()
    calls = [asyncio.create_task(bench.call(lease, "/slow")) for _ in range(5)]
    await eventually(lambda: len(begun) == 5)
    assert sum(delay > seconds - 60 for delay in timers) <= 2  # call_later of asyncio's loop calls call_at
    let_go.set()
    assert {(await call).status_code for call in calls} == {200}
