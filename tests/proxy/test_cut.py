"""A revocation that was answered is in force for the next byte, on every replica."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import select

from broker.audit.guards import raise_epoch
from broker.base.db import EVERY_TENANT
from broker.formats import ids
from broker.identity.access_tokens import make
from broker.leases.tables import UseRow
from broker.proxy import in_flight
from broker.sandbox.serve import running as serving
from broker.wire.server import Connection
from tests.proxy.conftest import Bench, problem, replica
from tests.support.lab import Seen, answer
from tests.support.waiting import eventually
from tests.support.world import PUBLIC_URL

# Only so that a test which would wait for ever fails instead: nothing is measured by it.
PATIENCE_S = 60

Cut = Callable[[Bench, dict[str, Any]], Coroutine[Any, Any, None]]


def revoking(path: str) -> Cut:
    async def cut(bench: Bench, lease: dict[str, Any]) -> None:
        await bench.world.call("POST", f"/v1/{path.format(**lease['lease'])}/revoke", json={})

    return cut


CUTS = {
    "lease": revoking("leases/{id}"),
    "grant": revoking("grants/{grant}"),
    "workload": revoking("workloads/{workload}"),
    "credential": revoking("credentials/{credential}"),
    "version": revoking("credentials/{credential}/versions/{version}"),
    "organization": revoking("organizations/{organization}"),
}


async def dripping(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says something every few milliseconds until it is stopped."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"3\r\n.\n\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def listening(bench: Bench, address: str, lease: dict[str, Any]) -> AsyncIterator[None]:
    """A job that reads the drip, until the broker breaks the connection off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    head = f"GET /proxy/acme/lab/drip HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lease['token']}\r\n\r\n"
    writer.write(head.encode())
    came = bytearray()

    async def read() -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                came.extend(chunk)

    reading = asyncio.create_task(read())
    try:
        await eventually(lambda: came.count(b".\n\n") >= 3, seconds=PATIENCE_S)
        yield
        async with asyncio.timeout(PATIENCE_S):
            await reading
    finally:
        reading.cancel()
        writer.close()


@pytest.mark.parametrize("what", CUTS)
async def test_a_call_in_flight_is_cut_before_the_revocation_is_answered(either: Bench, what: str) -> None:
    either.lab.scripts["/drip"] = dripping
    lease = await either.lease()
    async with listening(either, either.url, lease):
        await CUTS[what](either, lease)
        sent_before_the_answer = either.door.sent
    assert either.door.sent == sent_before_the_answer
    async with asyncio.timeout(PATIENCE_S):
        await either.lab.calls[-1].left.wait()
    (use,) = await either.uses()
    assert use.status == 200
    completed = (await either.world.events(kind="use.completed"))[-1]
    assert completed["core"]["reason"] in {"lease_over", f"{what}_revoked", "key_revoked"}


@pytest.mark.parametrize("what", CUTS)
async def test_a_revocation_is_answered_later_where_its_calls_are_cut_later(
    bench: Bench, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is open on the record is waited for, however long the comparison that cuts it is held back."""
    bench.lab.scripts["/drip"] = dripping
    lease = await bench.lease()
    monkeypatch.setattr(in_flight, "FENCE_S", PATIENCE_S)  # nothing stops by itself while this test looks
    watched = bench.world.services.in_flight
    compare, any_open = watched.compare, watched.any_on_record
    compared, looks = asyncio.Event(), 0

    async def held_back(under_way: Any) -> None:
        await compared.wait()
        await compare(under_way)

    async def looking(cut: tuple[str, ...]) -> Any:
        nonlocal looks
        looks += 1
        return await any_open(cut)

    monkeypatch.setattr(watched, "compare", held_back)
    monkeypatch.setattr(watched, "any_on_record", looking)
    try:
        async with listening(bench, bench.url, lease):
            cutting = asyncio.create_task(CUTS[what](bench, lease))
            # It looks again only where it has found a call open: otherwise it answers.
            await eventually(lambda: looks > 1 or cutting.done())
            assert not cutting.done()
            sent = bench.door.sent
            await eventually(lambda: bench.door.sent > sent)
            assert not cutting.done()
            compared.set()
            await cutting
            sent_before_the_answer = bench.door.sent
        assert bench.door.sent == sent_before_the_answer
    finally:
        compared.set()


@pytest.mark.parametrize("what", ["lease", "organization"])
async def test_another_replicas_calls_are_cut_before_the_revocation_is_answered(either: Bench, what: str) -> None:
    either.lab.scripts["/drip"] = dripping
    lease = await either.lease()
    async with (
        replica(either) as second,
        serving(either.door.of(second.edge), protocol=Connection) as address,
        listening(either, address, lease),
    ):
        await CUTS[what](either, lease)
        sent_before_the_answer = either.door.sent
    assert either.door.sent == sent_before_the_answer


async def test_the_lease_is_judged_on_every_request_of_a_kept_connection(bench: Bench) -> None:
    lease = await bench.lease()
    reader, writer = await bench.raw(lease, b"")
    request = f"GET /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lease['token']}\r\n\r\n".encode()
    statuses = []
    for number in range(4):
        if number == 2:
            await CUTS["grant"](bench, lease)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        statuses.append(int(head.split(b" ")[1]))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
    writer.close()
    assert statuses == [200, 200, 403, 403]


async def test_a_call_under_the_old_key_is_cut_as_that_key_alone_is_revoked(bench: Bench) -> None:
    bench.lab.scripts["/drip"] = dripping
    lease = await bench.lease()
    async with listening(bench, bench.url, lease):
        _, intake, secret = await bench.world.rotate(bench.credential)
        answered = await bench.world.submit(intake, secret, "lab_" + "zZ3/dE+6gH.9" * 4)
        assert answered.json()["state"] == "accepted"
        sent = bench.door.sent
        await eventually(lambda: bench.door.sent > sent + 10, seconds=PATIENCE_S)  # which nothing has ended
        await CUTS["version"](bench, lease)
        sent = bench.door.sent
    assert bench.door.sent == sent


async def test_a_call_under_the_new_key_is_cut_though_its_lease_goes_on_with_the_old_one(bench: Bench) -> None:
    bench.lab.scripts["/drip"] = dripping
    lease = await bench.lease()
    _, intake, secret = await bench.world.rotate(bench.credential)
    answered = await bench.world.submit(intake, secret, "lab_" + "zZ3/dE+6gH.9" * 4)
    assert answered.json()["state"] == "accepted"
    async with listening(bench, bench.url, lease):
        await revoking("credentials/{credential}/versions/2")(bench, lease)
        sent = bench.door.sent
    assert bench.door.sent == sent
    assert (await bench.call(lease, "/x")).status_code == 200, "by the old key, which serves again"


@pytest.mark.parametrize("ended", [0, 1], ids=["trust", "issuer"])
async def test_what_the_access_token_stood_on_cuts_its_calls(either: Bench, ended: int) -> None:
    services, job = either.world.services, either.job
    await either.world.grant(job, "acme", provider="lab")
    via = ids.new(ids.TrustId), ids.new(ids.IssuerEraId)
    token = make(PUBLIC_URL, services.signing, job.id, "sync", int(time.time()), via=via)
    body, bearer = {"organization": "acme", "provider": "lab"}, {"Authorization": f"Bearer {token}"}
    lease = await either.world.call("POST", "/v1/leases", as_=bearer, status=201, json=body)
    either.lab.scripts["/drip"] = dripping
    async with listening(either, either.url, lease):
        async with services.parts.db.write(EVERY_TENANT) as session:
            await raise_epoch(session, via[ended])
        await services.in_flight.drained(via[ended])
        async with services.parts.db.read(EVERY_TENANT) as session:
            assert await session.scalar(select(UseRow.id).limit(1)) is None, "it is over once that was answered"
        await either.lab.calls[-1].left.wait()
    assert problem(await either.call(lease, "/x")) == (403, "trust_over")


async def test_a_call_that_waits_for_its_upstream_is_cut_too(bench: Bench) -> None:
    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.read(1):
            seen.left.set()

    bench.lab.scripts["/x"] = silent
    lease = await bench.lease()
    waiting = asyncio.create_task(bench.call(lease, "/x"))
    await eventually(lambda: bench.lab.calls, seconds=PATIENCE_S)
    await CUTS["grant"](bench, lease)
    assert problem(await waiting) == (403, "grant_revoked")
    async with asyncio.timeout(PATIENCE_S):
        await bench.lab.calls[-1].left.wait()


async def test_a_replica_that_cannot_look_stops_by_itself(either: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    either.lab.scripts["/drip"] = dripping
    lease = await either.lease()
    async with (
        replica(either) as second,
        serving(either.door.of(second.edge), protocol=Connection) as address,
        listening(either, address, lease),
    ):

        async def away(*_: object) -> None:
            raise OSError("the database is away")

        monkeypatch.setattr(second.services.in_flight, "compare", away)
        monkeypatch.setattr(in_flight, "_PATIENCE_S", 0.3)
        (call,) = second.services.in_flight
        await CUTS["grant"](either, lease)
        sent_before_the_answer = either.door.sent
        # The fence began with the last comparison, which is long ago where the machine was busy.
        fenced = time.monotonic() - call.confirmed >= in_flight.FENCE_S
        assert fenced or call.over is not None, "the answer waits for the fence"
    assert either.door.sent == sent_before_the_answer


async def test_a_grant_that_comes_or_a_renewal_does_not_cut_a_call(bench: Bench) -> None:
    bench.lab.scripts["/drip"] = dripping
    lease = await bench.lease()
    async with listening(bench, bench.url, lease):
        await bench.world.grant(bench.job, "acme", provider="lab")  # raises the workload's epoch
        headers = await bench.job.headers()
        path = f"/v1/leases/{lease['lease']['id']}/renew"
        bench.world.clock.forward(seconds=200)
        await bench.world.call("POST", path, as_=headers, json={"ttl": 300})
        bench.world.clock.forward(seconds=150)  # beyond its first expiry
        sent = bench.door.sent
        await eventually(lambda: bench.door.sent > sent + 10, seconds=PATIENCE_S)
        bench.world.clock.forward(seconds=400)
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "lease_over"


async def test_a_call_under_a_lease_that_would_last_too_long_is_cut_as_the_clock_is_set_back(bench: Bench) -> None:
    bench.lab.scripts["/drip"] = dripping
    lease = await bench.lease()
    async with listening(bench, bench.url, lease):
        bench.world.clock.back(bench.world.broker, hours=2)
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "lease_over"


async def _late_forwards(bench: Bench, replicas: list[Any], what: str) -> int:
    """Call through every replica at once while something is revoked; forwards that came after the answer.

    The upstream notes what comes in the same loop, long before what a broker puts on the record about it is durable:
    whatever it finds after the answer was sent after it.
    """
    job = await bench.world.job(f"job-{len(bench.lab.calls)}")
    grant = await bench.world.grant(job, "acme", provider="lab")
    lease = await job.lease("acme", provider="lab")
    headers = {"Authorization": f"Bearer {lease['token']}"}
    worlds = [world for world in replicas for _ in range(3)]
    finished = [0 for _ in worlds]
    stop = asyncio.Event()

    async def calling(caller: int, world: Any) -> None:
        while not stop.is_set():
            await world.http.get("/proxy/acme/lab/x", headers=headers)
            finished[caller] += 1

    before = len(bench.lab.calls)
    callers = [asyncio.create_task(calling(*each)) for each in enumerate(worlds)]
    await eventually(lambda: len(bench.lab.calls) >= before + len(callers), seconds=PATIENCE_S)
    await CUTS[what](bench, {**lease, "lease": {**lease["lease"], "grant": grant}})
    forwarded = len(bench.lab.calls)
    # Of everybody one call that may have begun before the answer, and one that cannot have.
    enough = [calls + 2 for calls in finished]
    await eventually(
        lambda: all(calls >= wanted for calls, wanted in zip(finished, enough, strict=True)), seconds=PATIENCE_S
    )
    stop.set()
    await asyncio.gather(*callers)
    return len(bench.lab.calls) - forwarded


async def _violations(bench: Bench, replicas: list[Any], *, rounds: int) -> list[str]:
    bench.lab.scripts["/x"] = answer(b"ok")
    violations = []
    for round_ in range(rounds):
        what = ("grant", "lease", "workload")[round_ % 3]
        if late := await _late_forwards(bench, replicas, what):
            violations.append(f"{what}: {late} forwards after the answer")
    return violations


@pytest.fixture
async def three(bench_on_postgres: Bench) -> AsyncIterator[tuple[Bench, list[Any]]]:
    async with replica(bench_on_postgres) as second, replica(bench_on_postgres) as third:
        yield bench_on_postgres, [bench_on_postgres.world, second, third]


async def test_no_replica_forwards_anything_after_the_answer(three: tuple[Bench, list[Any]]) -> None:
    bench, replicas = three
    assert await _violations(bench, replicas, rounds=9) == []


async def test_that_check_finds_the_violations_of_a_broker_without_guards(
    three: tuple[Bench, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutation: decisions are committed without what they relied on, and calls in flight aren't compared."""
    bench, replicas = three
    for world in replicas:
        monkeypatch.setattr(world.services.leasing, "guards_of", lambda *_: {})
    assert await _violations(bench, replicas, rounds=3) != []


async def test_a_use_that_became_durable_after_its_job_left_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await bench.lease()
    database = bench.world.services.parts.db
    original = type(database).transact
    committing = asyncio.Event()

    async def slow(self: Any, work: Any) -> Any:
        result = await original(self, work)
        committing.set()
        await bench.door.left.wait()  # durable, and nobody knows yet
        return result

    monkeypatch.setattr(type(database), "transact", slow)
    _, writer = await bench.raw(
        lease, b"GET /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\n\r\n"
    )
    await committing.wait()
    writer.close()
    (use,) = await bench.uses()
    monkeypatch.undo()
    assert use.status is None
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "not_forwarded"
    assert bench.lab.calls == []
