"""What strangers with links and tokens that aren't theirs may take: little, and nothing that uses need."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from joserfc import jwt

from broker.formats import ids, link_secret
from broker.formats.token import new
from broker.identity import token_endpoint
from broker.intake import throttle
from broker.intake.submission import SUBMISSIONS
from broker.intake.throttle import LIMITS
from tests.identity.test_unverified import token
from tests.support.world import Job, World, running_world

Calls = Counter[str]


@pytest.fixture
def calls(world: World, monkeypatch: pytest.MonkeyPatch) -> Calls:
    return calls_of(world, monkeypatch)


def calls_of(world: World, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often the database was written to, apart from the record, and events were put on it."""
    found: Calls = Counter()

    def counted(of: object, method: str, name: str) -> None:
        original = getattr(of, method)

        def counting(*arguments: Any, **options: Any) -> Any:
            if method != "transact" or not options.get("record", True):
                found[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(of, method, counting)

    for method in ("write", "transact"):
        counted(world.services.parts.db, method, "writes")
    for method in ("append", "post"):
        counted(world.services.parts.audit, method, "events")
    return found


def wrong_link(world: World, intake: str) -> Awaitable[Any]:
    return world.open(intake, link_secret.new())


async def intake_of(world: World) -> tuple[str, str]:
    await world.organization("acme")
    return await world.request_key("acme")


async def test_beyond_the_limit_a_wrong_link_takes_no_writer_and_is_not_recorded(world: World, calls: Calls) -> None:
    intake, _ = await intake_of(world)
    for _ in range(LIMITS["address"]):
        await wrong_link(world, intake)
    calls.clear()
    refused = [await wrong_link(world, one) for one in (intake, ids.new(ids.IntakeId), "nonsense")]
    assert [answer.status_code for answer in refused] == [429] * 3
    assert calls == {}
    assert world.services.links.refused == 3


async def test_of_many_that_come_at_once_no_more_write_than_the_limit_lets(world: World, calls: Calls) -> None:
    intake, _ = await intake_of(world)
    calls.clear()
    answers = await asyncio.gather(*(wrong_link(world, intake) for _ in range(3 * LIMITS["address"])))
    assert Counter(answer.status_code for answer in answers) == {404: 20, 429: 40}
    assert calls == {"writes": 20, "events": 20}


async def test_strangers_write_one_after_the_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    db, writing, most = world.services.parts.db, 0, 0
    original: Callable[..., Awaitable[Any]] = db.transact

    async def transact(*arguments: Any, **options: Any) -> Any:
        nonlocal writing, most
        writing += 1
        most = max(most, writing)
        try:
            return await original(*arguments, **options)
        finally:
            writing -= 1

    monkeypatch.setattr(db, "transact", transact)
    await asyncio.gather(*(wrong_link(world, ids.new(ids.IntakeId)) for _ in range(10)))
    assert most == 1


async def test_together_strangers_write_only_so_often(
    world: World, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_TOGETHER", 3)
    assert [(await wrong_link(world, ids.new(ids.IntakeId))).status_code for _ in range(5)] == [404] * 3 + [429] * 2
    assert calls["writes"] == 3


async def test_a_limit_that_was_met_elsewhere_is_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    intake, _ = await intake_of(world)
    for _ in range(LIMITS["address"]):
        await wrong_link(world, intake)
    replica = running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False, clock=world.clock)
    async with replica as other:  # it saw none of these
        assert (await wrong_link(other, intake)).status_code == 429
        calls = calls_of(other, monkeypatch)
        assert (await wrong_link(other, intake)).status_code == 429
        assert calls == {}


async def test_a_link_that_there_is_not_answers_after_the_same_work(world: World, calls: Calls) -> None:
    intake, _ = await intake_of(world)
    waited = []
    for one in (intake, ids.new(ids.IntakeId)):
        calls.clear()
        await wrong_link(world, one)
        waited.append(calls["writes"])
    assert waited == [1, 1], "the event of the one that there is is written later"


@pytest.mark.parametrize("page", ["intake", "status"])
async def test_every_wrong_proof_is_compared_under_a_key_that_was_opened(
    world: World, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = await intake_of(world)
    await world.submit(*spent, world.upstream_keys["acme"])
    waiting, _ = await world.request_key("acme", label="second")
    await world.say(page, ids.new(ids.IntakeId), link_secret.new(), "open")  # nobody's key is made once
    links, opened, original = world.services.links, [], world.services.links._own.open

    async def counting(*arguments: Any) -> Any:
        opened.append(arguments)
        return await original(*arguments)

    monkeypatch.setattr(links._own, "open", counting)
    seen = []
    for intake in (spent[0], waiting, ids.new(ids.IntakeId), "nonsense"):
        opened.clear()
        answer = await world.say(page, intake, link_secret.new(), "open")
        seen.append((answer.status_code, len(opened)))
    assert seen == [(404, 1)] * 4


async def test_refused_submissions_over_one_link_are_limited(world: World, calls: Calls) -> None:
    intake, secret = await intake_of(world)

    answers = [(await world.submit(intake, secret, "no key")).status_code for _ in range(SUBMISSIONS)]
    assert set(answers) == {422}
    assert len(await world.events(kind="intake.refused")) == SUBMISSIONS
    calls.clear()
    limited = await world.submit(intake, secret, world.upstream_keys["acme"])
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "600")
    assert calls == {"writes": 2}, "the challenges that were answered to open and to submit"
    assert world.services.submissions.refused == 1
    world.clock.forward(seconds=601)
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).status_code == 200


async def test_unsigned_assertions_of_a_known_job_are_recorded_within_a_limit_then_counted(
    world: World, calls: Calls
) -> None:
    job = await world.job()
    calls.clear()
    unsigned = token(json.dumps({"sub": job.id, "iss": job.id}))
    for _ in range(token_endpoint.RECORDED["address"] + 5):
        assert (await job.token(client_assertion=unsigned)).status_code == 401
    assert calls == {"events": token_endpoint.RECORDED["address"]}
    assert world.services.token_endpoint.refused == 5
    assert (await job.token()).status_code == 200, "the job itself gets in all the while"


async def test_unknown_known_and_revoked_jobs_are_refused_after_the_same_work(
    world: World, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, gone, other = [await world.job(name) for name in ("sync", "gone", "other")]
    await world.call("POST", "/v1/workloads/gone/revoke", json={"reason": "retired"})
    nobody = Job(world, type(job.identity)(job.identity.broker, ids.new(ids.WorkloadId), job.identity.private_jwk))
    verified = 0
    original = jwt.decode

    def decode(*arguments: Any, **options: Any) -> Any:
        nonlocal verified
        verified += 1
        return original(*arguments, **options)

    async def waits_for_nothing(*_: object, **__: object) -> None:
        raise AssertionError("an event was waited for")

    monkeypatch.setattr(jwt, "decode", decode)
    monkeypatch.setattr(world.services.parts.audit, "append", waits_for_nothing)
    seen = set()
    for who in (job, gone, nobody):
        calls.clear()
        verified = 0
        forged = type(job.identity)(job.identity.broker, who.id, other.identity.private_jwk).assertion()
        answer = await who.token(client_assertion=forged)
        seen.add((answer.status_code, verified, calls["writes"], answer.json()["error"]))
    assert seen == {(401, 1, 0, "invalid_client")}


async def test_an_assertion_that_is_repeated_takes_no_writer(world: World, calls: Calls) -> None:
    job = await world.job()
    assertion = job.identity.assertion()
    assert (await job.token(client_assertion=assertion)).status_code == 200
    calls.clear()
    assert (await job.token(client_assertion=assertion)).status_code == 401
    assert calls["writes"] == 0


async def test_a_wrong_one_time_token_takes_no_writer(world: World, calls: Calls) -> None:
    for wrong in ("x", new("kbb"), new("kbo")):
        refused = await world.http.post("/v1/bootstrap", json={"token": wrong, "name": "eve"})
        assert refused.status_code == 401
    assert calls == {}


async def test_links_are_looked_up_at_a_pace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    intake, secret = await intake_of(world)
    came = asyncio.Event()

    async def turn() -> float:
        await came.wait()
        return 0.0

    monkeypatch.setattr(world.services.links.pace, "turn", turn)
    monkeypatch.setattr(world.services.parts.db, "read", None)
    asking = asyncio.create_task(world.open(intake, secret))
    for _ in range(100):
        await asyncio.sleep(0)
    monkeypatch.undo()
    came.set()
    assert (await asking).status_code == 200


async def test_refusals_wait_for_their_turn_where_nobody_was_established(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    turns = 0

    async def turn() -> float:
        nonlocal turns
        turns += 1
        return 0.0

    monkeypatch.setattr(world.edge.pace, "turn", turn)
    unknown = {"Authorization": "Bearer kbl_unknown"}
    for path, headers in (("/nothing", {}), ("/v1/leases", {}), ("/v1/leases", unknown), ("/proxy/a/b/c", unknown)):
        assert 400 <= (await world.http.get(path, headers=headers)).status_code < 500
    await wrong_link(world, ids.new(ids.IntakeId))
    await job.token(client_assertion="x")
    assert turns == 6
    # of whoever is known no refusal waits, nor what the upstream refuses
    await world.call("GET", "/v1/organizations/nosuch", status=404)
    await world.call("GET", f"/v1/leases/{'lse_' + '0' * 32}", as_=await job.headers(), status=404)
    assert (await job.ask("nosuch")).status_code == 403
    assert (await world.proxied(lease, "/nothing")).status_code == 404
    assert (await world.proxied(lease, "/facilities", organization="nosuch")).status_code == 403
    world.revoke_upstream(world.upstream_keys["acme"])
    assert (await world.proxied(lease, "/facilities")).status_code == 401
    assert (await world.http.get("/healthz")).status_code == 200
    assert turns == 6
