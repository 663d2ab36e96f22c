"""Trying again, one rate-limit state for all, and the breaker on a bad key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.health import QUIET_MS
from broker.providers.definition import Retry
from broker.providers.pause import pause_of
from broker.proxy import retry
from tests.proxy.conftest import Bench, problem, replica
from tests.support.lab import KEY, Seen, answer, body_of

BAD_KEY = answer(b'{"error": "Unauthorized"}', status="401 Unauthorized")


class Sequence:
    """Answers by turn, the last one from then on."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = answers
        self.bodies: list[bytes] = []

    async def __call__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bodies.append(b"".join([chunk async for chunk in body_of(seen, reader)]))
        script = self.answers[min(len(self.bodies), len(self.answers)) - 1]
        if not script:
            raise ConnectionResetError
        writer.write(script)


BUSY = answer(b"busy", status="503 Service Unavailable")
GOOD = answer(b"good")


@pytest.mark.parametrize("first", [BUSY, b""], ids=["an outage", "a broken connection"])
async def test_an_idempotent_call_is_tried_again(bench: Bench, first: bytes) -> None:
    script = bench.lab.scripts["/x"] = Sequence(first, GOOD)
    lease = await bench.lease()
    got = await bench.call(lease, "/x", "PUT", content=b"small")
    assert (got.status_code, got.text) == (200, "good")
    assert script.bodies == [b"small", b"small"]
    authorized = await bench.world.events(kind="use.authorized")
    assert len({event["core"]["use"] for event in authorized}) == 2, "each try is a use of its own"
    assert len({event["core"]["request"] for event in authorized}) == 1, "tied by the request"
    assert [use.status for use in await bench.uses()] == [503 if first else None, 200]


async def test_the_third_failure_is_handed_back(bench: Bench) -> None:
    bench.lab.scripts["/x"] = Sequence(BUSY)
    assert (await bench.call(await bench.lease(), "/x")).status_code == 503
    assert len(bench.lab.calls) == retry.ATTEMPTS
    bench.lab.scripts["/y"] = Sequence(b"")
    assert problem(await bench.call(await bench.lease(), "/y")) == (502, "upstream_unreachable")
    assert len(bench.lab.calls) == 2 * retry.ATTEMPTS


@pytest.mark.parametrize(
    ("method", "options"),
    [("POST", {}), ("PATCH", {"content": b"x"}), ("PUT", {"content": b"x" * 70_000})],
    ids=["POST", "PATCH", "a body too large to keep"],
)
async def test_what_may_have_had_an_effect_is_not_tried_again(
    bench: Bench, method: str, options: Mapping[str, Any]
) -> None:
    bench.lab.scripts["/x"] = Sequence(BUSY, GOOD)
    assert (await bench.call(await bench.lease(), "/x", method, **options)).status_code == 503
    assert len(bench.lab.calls) == 1


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Internal Server Error"])
async def test_an_answer_that_is_no_outage_is_not_tried_again(bench: Bench, status: str) -> None:
    bench.lab.scripts["/x"] = answer(b"no", status=status)
    await bench.call(await bench.lease(), "/x")
    assert len(bench.lab.calls) == 1


async def test_every_try_is_authorized_anew(bench: Bench) -> None:
    lease = await bench.lease()

    async def revoking(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        grant = lease["lease"]["grant"]
        asyncio.get_running_loop().create_task(bench.world.call("POST", f"/v1/grants/{grant}/revoke", json={}))
        while not await bench.world.events(kind="grant.revoked"):
            pass
        writer.write(BUSY)

    bench.lab.scripts["/x"] = revoking
    assert problem(await bench.call(lease, "/x")) == (403, "grant_revoked")
    assert len(bench.lab.calls) == 1


async def test_an_upstreams_pause_holds_for_every_job_on_every_replica(either: Bench) -> None:
    limited = answer(b"slow down", "Retry-After: 30", status="429 Too Many Requests")
    either.lab.scripts["/x"] = Sequence(limited, GOOD)
    lease = await either.lease()
    got = await either.call(lease, "/x", "POST")
    assert (got.status_code, got.text) == (429, "slow down"), "its own answer, with its own Retry-After"
    assert got.headers["retry-after"] == "30"
    other_job = await either.world.job("other")
    await either.world.grant(other_job, "acme", provider="lab")
    other = await other_job.lease("acme", provider="lab")
    async with replica(either) as second:
        for http in (either.world.http, second.http):
            headers = {"Authorization": f"Bearer {other['token']}"}
            refused = await http.get("/proxy/acme/lab/x", headers=headers)
            assert problem(refused) == (429, "upstream_rate_limited")
            assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert len(either.lab.calls) == 1
        either.world.clock.forward(seconds=31)
        second.clock.forward(seconds=31)
        headers = {"Authorization": f"Bearer {other['token']}"}
        assert (await second.http.get("/proxy/acme/lab/x", headers=headers)).status_code == 200
    reasons = {event["core"]["reason"] for event in await either.world.events(kind="use.denied")}
    assert reasons == {"upstream_rate_limited"}


async def test_a_short_pause_is_waited_out(bench: Bench) -> None:
    limited = answer(b"slow down", "Retry-After: 1", status="429 Too Many Requests")
    bench.lab.scripts["/x"] = Sequence(limited, GOOD)
    lease = await bench.lease()
    answers = await asyncio.gather(*(bench.call(lease, "/x") for _ in range(3)))
    assert [got.status_code for got in answers] == [200] * 3


@given(
    status=st.sampled_from([200, 429, 503]),
    header=st.one_of(
        st.sampled_from(["", "nan", "inf", "-5", "1e400", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 99 Foo", "\u0665"]),
        st.integers(-(10**12), 10**12).map(str),
        st.text(max_size=20),
    ),
    unit=st.sampled_from(["seconds", "milliseconds", "epoch"]),
)
def test_whatever_an_upstream_asks_for_a_pause_is_bounded(status: int, header: str, unit: Any) -> None:
    declared = Retry(unit=unit, cap_seconds=60)
    pause = pause_of(declared, status, {"Retry-After": header}, 1_795_000_000_000)
    assert 0 <= pause <= 60
    assert pause == 0 or status == 429


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        ("7", "seconds", 7),
        ("1500", "milliseconds", 1.5),
        ("1794940010", "epoch", 10),
        ("Tue, 17 Nov 2026 18:26:45 GMT", "seconds", 5),
        ("", "seconds", 1),
    ],
)
def test_the_units_of_a_pause(value: str, unit: Any, seconds: float) -> None:
    declared = Retry(unit=unit, cap_seconds=60)
    assert pause_of(declared, 429, {"Retry-After": value}, 1_794_940_000_000) == pytest.approx(seconds)


def test_back_off_grows_is_jittered_and_capped() -> None:
    for attempt in range(1, 12):
        waits = {retry.backoff(attempt) for _ in range(50)}
        assert len(waits) > 1
        assert all(0 <= wait <= 5 for wait in waits)
    assert min(retry.backoff(1, pause=3.0) for _ in range(50)) >= 3


async def test_a_bad_key_is_confirmed_then_refused_everywhere_and_operators_are_told_once(either: Bench) -> None:
    lease = await either.lease()
    world = either.world
    either.lab.scripts |= {"/x": BAD_KEY, "/facilities": BAD_KEY}
    for _ in range(3):
        assert (await either.call(lease, "/x")).status_code == 401, "upstream's own answer"
    await asyncio.gather(world.broker.worker.once(), world.broker.worker.once())
    await world.broker.worker.once()
    forwarded = len(either.lab.calls)
    for refused in (await either.call(lease, "/x"), await either.job.ask("acme", provider="lab")):
        assert problem(refused) == (403, "key_failing")
    async with replica(either) as second:
        refused = await second.http.get("/proxy/acme/lab/x", headers={"Authorization": f"Bearer {lease['token']}"})
        assert problem(refused) == (403, "key_failing")
    assert len(either.lab.calls) == forwarded
    (notice,) = (await world.call("GET", "/v1/notices"))["items"]
    assert (notice["kind"], notice["credential"], notice["version"]) == ("key_failing", either.credential, 1)
    assert "new one" in notice["text"]
    shown = await world.call("GET", f"/v1/credentials/{either.credential}")
    assert shown["versions"][0]["health"] == "failing"
    assert len(await world.events(kind="credential.version.failing")) == 1
    # the broker keeps asking, and the key may come back
    either.lab.scripts.clear()
    world.clock.forward(seconds=120)
    await world.broker.worker.once()
    assert [item["kind"] for item in (await world.call("GET", "/v1/notices"))["items"]] == [
        "key_failing",
        "key_recovered",
    ]
    assert (await either.job.ask("acme", provider="lab")).status_code == 201


async def test_a_bad_key_answer_of_one_endpoint_does_not_cut_everybody_off(bench: Bench) -> None:
    lease = await bench.lease()
    bench.lab.scripts["/x"] = BAD_KEY
    probes = len(bench.lab.requests)
    for _ in range(5):
        assert (await bench.call(lease, "/x")).status_code == 401
        await bench.world.broker.worker.once()
    asked = [seen for seen in bench.lab.requests[probes:] if seen.target == b"/base/facilities"]
    assert len(asked) == 1, "the verification was asked once in the quiet time"
    assert asked[0].values("x-lab-key") == [KEY]
    assert (await bench.call(lease, "/y")).status_code == 200
    assert (await bench.world.call("GET", "/v1/notices"))["items"] == []
    probe = await bench.world.events(kind="credential.probe.*")
    assert [event["kind"].rpartition(".")[2] for event in probe[-2:]] == ["authorized", "completed"]
    bench.world.clock.forward(seconds=QUIET_MS / 1000 + 1)
    await bench.call(lease, "/x")
    await bench.world.broker.worker.once()
    assert len(bench.lab.requests) > probes


async def test_an_outage_is_no_bad_key(bench: Bench) -> None:
    lease = await bench.lease()
    bench.lab.scripts |= {"/x": BAD_KEY, "/facilities": BUSY}
    for _ in range(2):  # the second call is on the record after what the first one was answered
        await bench.call(lease, "/x")
    await bench.world.broker.worker.once()
    assert (await bench.call(lease, "/y")).status_code == 200
    told = [item["kind"] for item in (await bench.world.call("GET", "/v1/notices"))["items"]]
    assert told == ["key_unreachable"]
