"""Trying again, one rate-limit state for all, and the breaker on a bad key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from broker.care.health import QUIET_MS
from broker.providers.retry import RateHeader, Retry
from broker.proxy import retry
from tests.proxy.conftest import Bench, problem, replica
from tests.support.lab import KEY, Seen, answer, body_of
from tests.support.waiting import eventually

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


@pytest.mark.parametrize("first", [BUSY, b""], ids=["an outage", "a lost answer"])
@pytest.mark.parametrize(
    "precondition",
    ["If-Match", "If-None-Match", "If-Unmodified-Since", "if_match", "If", "X-Goog-If-Generation-Match"],
)
async def test_a_call_with_a_precondition_is_sent_once(bench: Bench, first: bytes, precondition: str) -> None:
    """Carried out and its answer lost, it would fail by what it did itself."""
    bench.lab.scripts["/x"] = Sequence(first, answer(b"", status="412 Precondition Failed"))
    got = await bench.call(await bench.lease(), "/x", "PUT", content=b"x", headers={precondition: '"7"'})
    assert got.status_code == (503 if first else 502)
    assert len(bench.lab.calls) == 1
    assert got.headers["x-broker-tries"] == "1"


@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Range", "X-Iffy", "Gif"])
async def test_what_is_no_precondition_keeps_nothing_from_being_tried_again(bench: Bench, name: str) -> None:
    bench.lab.scripts["/x"] = Sequence(BUSY, GOOD)
    assert (await bench.call(await bench.lease(), "/x", headers={name: "x"})).status_code == 200


@pytest.mark.parametrize("first", [BUSY, b""], ids=["an outage", "a lost answer"])
@pytest.mark.parametrize("who", ["the job", "the grant", "the provider"])
async def test_retries_are_switched_off(bench: Bench, first: bytes, who: str) -> None:
    if who == "the provider":
        bench.declare(retry=Retry(retries=False))
    lease = await bench.lease(retries=who != "the grant")
    bench.lab.scripts["/x"] = Sequence(first, GOOD)
    headers = {"X-Broker-Retry": "off" if who == "the job" else "on"}
    got = await bench.call(lease, "/x", headers=headers)
    assert got.status_code == (503 if first else 502)
    assert len(bench.lab.calls) == 1
    assert bench.lab.calls[0].values("x-broker-retry") == []


async def test_a_misspelt_wish_is_refused_with_its_fix(bench: Bench) -> None:
    refused = await bench.call(await bench.lease(), "/x", headers={"X-Broker-Retry": "never"})
    assert problem(refused) == (422, "invalid")
    assert "on or off" in refused.json()["detail"]
    assert "x-broker-tries" not in refused.headers
    assert bench.lab.calls == []


async def test_the_answer_names_the_number_of_tries(bench: Bench) -> None:
    lease = await bench.lease()
    theirs = answer(b"good", "X-Broker-Tries: 7", "X_Broker_Tries: 8")
    bench.lab.scripts |= {"/x": Sequence(BUSY, theirs), "/lost": Sequence(b"")}
    for path, tries in (("/y", "1"), ("/x", "2"), ("/lost", "3")):
        got = await bench.call(lease, path)
        assert got.headers.get_list("x-broker-tries") == [tries], path
        assert "x_broker_tries" not in got.headers
    assert problem(got) == (502, "upstream_unreachable"), "the broker's own answer names them too"
    refused = await bench.call(lease, "/a//b")
    assert problem(refused) == (422, "path_refused")
    assert "x-broker-tries" not in refused.headers, "nothing was sent"


async def test_every_try_is_authorized_anew(bench: Bench) -> None:
    lease = await bench.lease()

    async def revoking(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        grant = lease["lease"]["grant"]
        asyncio.get_running_loop().create_task(bench.world.call("POST", f"/v1/grants/{grant}/revoke", json={}))
        while not await bench.world.events(kind="grant.revoked"):
            pass
        writer.write(BUSY)

    bench.lab.scripts["/x"] = revoking
    refused = await bench.call(lease, "/x")
    assert problem(refused) == (403, "grant_revoked")
    assert refused.headers["x-broker-tries"] == "1"
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


async def test_an_outage_that_says_how_long_is_waited_for_by_every_job_on_every_replica(either: Bench) -> None:
    away = answer(b"maintenance", "Retry-After: 30", status="503 Service Unavailable")
    either.lab.scripts["/x"] = Sequence(away, GOOD)
    lease = await either.lease()
    got = await either.call(lease, "/x")
    assert (got.status_code, got.text, got.headers["retry-after"]) == (503, "maintenance", "30")
    assert len(either.lab.calls) == 1, "never asked sooner than it said, so handed on at once"
    await either.uses()
    async with replica(either) as second:
        for http in (either.world.http, second.http):
            refused = await http.get("/proxy/acme/lab/y", headers={"Authorization": f"Bearer {lease['token']}"})
            assert problem(refused) == (429, "upstream_rate_limited")
        assert len(either.lab.calls) == 1
        either.world.clock.forward(seconds=31)
        assert (await either.call(lease, "/x")).status_code == 200


async def test_an_outage_is_not_asked_again_sooner_than_it_says(bench: Bench) -> None:
    away = answer(b"", "Retry-After: 1", status="503 Service Unavailable")
    bench.lab.scripts["/x"] = Sequence(away, GOOD)
    assert (await bench.call(await bench.lease(), "/x")).status_code == 200
    first, second = bench.lab.calls
    assert second.at - first.at >= 1


async def test_a_cap_lets_other_calls_through_but_not_the_same_one_again(
    bench: Bench,
) -> None:
    bench.declare(retry=Retry(cap_seconds=1))
    bench.lab.scripts["/x"] = Sequence(answer(b"", "Retry-After: 60", status="503 Service Unavailable"), GOOD)
    assert (await bench.call(await bench.lease(), "/x")).status_code == 503
    assert len(bench.lab.calls) == 1, "believed for a second as to others, not tried again after it"


ONLY_WITH_A_HEADER = Retry(
    statuses_with_header=(403,),
    headers=(RateHeader(name="X-Reset", unit="epoch", remaining="X-Remaining"), RateHeader(name="Retry-After")),
)


@pytest.mark.parametrize(
    "headers",
    [("Retry-After: 30",), ("X-Remaining: 0", f"X-Reset: {2 * 10**9}")],
    ids=["a time", "nothing left until then"],
)
async def test_a_status_that_counts_only_with_its_header_counts_with_it(bench: Bench, headers: tuple[str, ...]) -> None:
    bench.lab.scripts["/x"] = answer(b"too fast", *headers, status="403 Forbidden")
    bench.declare(retry=ONLY_WITH_A_HEADER)
    lease = await bench.lease()
    got = await bench.call(lease, "/x")
    assert (got.status_code, got.text) == (403, "too fast")
    await bench.uses()
    assert problem(await bench.call(lease, "/y")) == (429, "upstream_rate_limited")
    assert len(bench.lab.calls) == 1


@pytest.mark.parametrize(
    "headers",
    [(), ("X-Remaining: 7", f"X-Reset: {2 * 10**9}"), (f"X-Reset: {2 * 10**9}",)],
    ids=["without", "some left", "a reset alone"],
)
async def test_without_it_the_same_status_is_a_plain_refusal(bench: Bench, headers: tuple[str, ...]) -> None:
    bench.lab.scripts["/x"] = answer(b"not yours", *headers, status="403 Forbidden")
    bench.declare(retry=ONLY_WITH_A_HEADER)
    lease = await bench.lease()
    assert (await bench.call(lease, "/x")).status_code == 403
    await bench.uses()
    assert (await bench.call(lease, "/y")).status_code == 200
    assert [seen.target for seen in bench.lab.calls] == [b"/base/x", b"/base/y"], "nothing was tried again"


async def test_an_answer_about_the_rate_is_none_about_the_key(bench: Bench) -> None:
    """Where the status that a dead key gets is also that of a limit."""
    limited = answer(b"", "Retry-After: 1", status="401 Unauthorized")
    bench.declare(retry=Retry(statuses_with_header=(401,)))
    bench.lab.scripts["/x"] = limited
    verified = len(bench.lab.requests)
    assert (await bench.call(await bench.lease(), "/x", "POST")).status_code == 401
    await bench.uses()
    await bench.world.work(seconds=2)
    assert len(bench.lab.requests) == verified + 1, "nobody came to doubt the key"
    bench.lab.scripts["/facilities"] = limited
    await bench.world.work(hours=25)
    assert len(bench.lab.requests) == verified + 2
    assert (await bench.world.versions(bench.credential))[0]["health"] == "healthy"


async def test_a_shorter_pause_does_not_end_a_longer_one(bench: Bench) -> None:
    lease = await bench.lease()
    waits, both = iter(("3000", "1")), asyncio.Barrier(2)
    longer_is_kept = asyncio.Event()

    async def limited(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = next(waits)
        await both.wait()
        if mine == "1":
            await longer_is_kept.wait()
        writer.write(answer(b"", f"Retry-After: {mine}", status="429 Too Many Requests"))

    async def one() -> None:
        await bench.call(lease, "/x", "POST")
        longer_is_kept.set()

    bench.lab.scripts["/x"] = limited
    await asyncio.gather(one(), one())
    await bench.uses()
    bench.world.clock.forward(seconds=30)
    bench.lab.scripts["/x"] = GOOD
    assert problem(await bench.call(lease, "/x")) == (429, "upstream_rate_limited")


async def test_a_short_pause_is_waited_out(bench: Bench) -> None:
    limited = answer(b"slow down", "Retry-After: 1", status="429 Too Many Requests")
    bench.lab.scripts["/x"] = Sequence(limited, GOOD)
    lease = await bench.lease()
    answers = await asyncio.gather(*(bench.call(lease, "/x") for _ in range(3)))
    assert [got.status_code for got in answers] == [200] * 3


async def test_a_lease_that_is_renewed_while_its_call_waits_carries_it(bench: Bench) -> None:
    limited = answer(b"slow down", "Retry-After: 1", status="429 Too Many Requests")
    bench.lab.scripts["/x"] = Sequence(limited, GOOD)
    lease, headers = await bench.lease(), await bench.job.headers()
    await bench.call(lease, "/x", "POST")
    await bench.uses()
    waiting = asyncio.create_task(bench.call(lease, "/x"))
    await eventually(lambda: len(bench.world.services.in_flight) == 1)
    bench.world.clock.forward(seconds=200)
    path = f"/v1/leases/{lease['lease']['id']}/renew"
    await bench.world.call("POST", path, as_=headers, json={"ttl": 300})
    bench.world.clock.forward(seconds=150)  # beyond its first expiry
    assert (await waiting).status_code == 200


def test_back_off_grows_is_jittered_and_capped() -> None:
    for attempt in range(1, 12):
        waits = {retry.backoff(attempt) for _ in range(50)}
        assert len(waits) > 1
        assert all(0 <= wait <= 5 for wait in waits)
    after_a_pause = {retry.backoff(1, pause=3.0) for _ in range(50)}
    assert min(after_a_pause) >= 3
    assert len(after_a_pause) > 1, "jobs don't come back at the same moment"


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
