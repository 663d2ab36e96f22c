"""A job proves itself with the token that its platform gave it, as far as an operator trusts just that."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text, update
from starlette.responses import Response

from broker.audit.events import BROKER
from broker.base.clock import later
from broker.base.db import EVERY_TENANT
from broker.base.errors import Conflict, Invalid
from broker.formats import ids
from broker.identity.federation import trusts
from broker.identity.federation.exchange import SPIFFE_TYPE
from broker.identity.federation.tables import TrustRow
from broker.issuers.unverified import peek
from broker.restored import to_confirm
from tests.support.issuer import pair
from tests.support.platform import ACTIONS, CLUSTER, RULES, Platform, platform, token_form
from tests.support.world import running_world

JWKS = "/jwks"


@pytest.fixture
async def there(tmp_path: Path, database_url: str) -> AsyncIterator[Platform]:
    async with platform(tmp_path, database_url) as made:
        yield made


async def refused(there: Platform, workload: str, token: str, **more: str) -> dict[str, Any]:
    answer = await there.exchange(workload, token, **more)
    assert answer.status_code == 401, answer.text
    body: dict[str, Any] = answer.json()
    assert body["error"] == "invalid_client"
    return body


async def reasons(there: Platform) -> list[str]:
    return [event["core"]["reason"] for event in await there.world.events(kind="auth.token_refused")]


async def test_a_pods_token_gets_an_access_token_and_the_record_says_whose_it_was(there: Platform) -> None:
    job = await there.world.job()
    trust = await there.trust(job.id)
    answer = await there.exchange(job.id, there.pod_token())
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 600)
    (event,) = await there.world.events(kind="auth.token_issued")
    core = event["core"]
    assert (core["workload"], core["subject"], core["provider"]) == (job.id, trust, CLUSTER)
    assert core["reason"], "which token it was"
    assert "serviceaccount=nightly" in event["personal"]["note"]
    assert "pod=nightly-7d" in event["personal"]["note"]


async def test_no_claim_is_written_so_that_the_record_reads_it_as_another(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id, ACTIONS, claims={**RULES[ACTIONS], "environment": ["a run_id=1 b"]})
    await there.headers(job.id, there.run_token(environment="a run_id=1 b"))
    (event,) = await there.world.events(kind="auth.token_issued")
    assert 'environment="a run_id=1 b" event_name=schedule run_id=8812' in event["personal"]["note"]


async def test_a_replica_that_cannot_cut_off_a_trust_takes_no_access_token_of_one(there: Platform) -> None:
    """One of the release before takes at+jwt alone, and knows no via."""
    job = await there.world.job()
    await there.trust(job.id)
    token = (await there.headers(job.id))["Authorization"].removeprefix("Bearer ")
    assert peek(token).header["typ"] == "application/at+jwt"
    assert peek((await job.token()).json()["access_token"]).header["typ"] == "at+jwt"


async def test_the_access_token_opens_what_the_jobs_grants_say(there: Platform) -> None:
    await there.world.key_for("acme")
    job = await there.world.job()
    await there.world.grant(job, "acme")
    await there.trust(job.id)
    headers = await there.headers(job.id)
    body = {"organization": "acme", "provider": "raptor-comply"}
    lease = await there.world.call("POST", "/v1/leases", as_=headers, status=201, json=body)
    assert (await there.world.proxied(lease, "/facilities")).status_code == 200


async def test_an_incidents_timeline_names_the_trust_of_each_lease(there: Platform) -> None:
    credential = await there.world.key_for("acme")
    job = await there.world.job()
    await there.world.grant(job, "acme")
    trust = await there.trust(job.id)
    await job.lease("acme")
    body = {"organization": "acme", "provider": "raptor-comply"}
    await there.world.call("POST", "/v1/leases", as_=await there.headers(job.id), status=201, json=body)
    report = {"found_by": "security", "where": "a repository"}
    made = await there.world.call("POST", f"/v1/credentials/{credential}/exposure", json=report)
    path = f"/v1/exposures/{made['exposure']['id']}/timeline"
    told = await there.world.http.get(path, headers=there.world.admin)
    lines = [json.loads(line) for line in told.text.splitlines()]
    assert [line["trust"] for line in lines if line["type"] == "lease"] == [None, trust]


async def test_only_the_named_workloads_trusts_are_looked_at(there: Platform) -> None:
    job, other = await there.world.job("sync"), await there.world.job("other")
    await there.trust(job.id)
    body = await refused(there, other.id, there.pod_token())
    assert "code" not in body, "nothing is told of what this workload trusts"
    assert "`broker trust explain`" in body["error_description"]
    nobody = await refused(there, ids.new(ids.WorkloadId), there.pod_token())
    assert {**body, "error_description": ""} == {**nobody, "error_description": ""}
    assert await reasons(there) == ["issuer_unknown"]


async def test_nobody_is_asked_for_the_keys_of_an_issuer_that_no_workload_trusts(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id, ACTIONS)
    assert "code" not in await refused(there, job.id, there.pod_token())
    assert there.issuer.asked[JWKS] == 0
    assert await reasons(there) == ["issuer_unknown"]


async def test_no_answer_to_a_token_that_is_not_taken_tells_which_workload_trusts_its_issuer(there: Platform) -> None:
    job, other = await there.world.job("sync"), await there.world.job("other")
    await there.trust(job.id)

    async def told(token: str) -> list[dict[str, Any]]:
        answers = [await there.exchange(named, token) for named in (job.id, other.id, ids.new(ids.WorkloadId))]
        timeless = [re.sub("[0-9]+", "0", each.text) for each in answers]
        return [{**json.loads(body), "status": each.status_code} for body, each in zip(timeless, answers, strict=True)]

    good = there.pod_token()
    unknown = [there.issuer.sign({"iss": there.issuer.url}, kid="k9"), good[:-8] + "AAAAAAAA"]
    for token in (*unknown, there.pod_token(aud="https://elsewhere.example"), there.pod_token(exp=1_000, iat=10)):
        first, *others = await told(token)
        assert others == [first, first]
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    there.world.clock.forward(seconds=61)
    first, *others = await told(unknown[0])
    assert [first["status"], *(each["status"] for each in others)] == [503, 503, 503]
    await suspend(there)
    first, *others = await told(good)
    assert (first["code"], others) == ("issuer_suspended", [first, first])


async def test_strangers_tokens_leave_connections_of_the_database_to_others(
    there: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    db, open_now, most = there.world.services.parts.db, 0, 0
    read = db.read

    @asynccontextmanager
    async def counted(scope: Any) -> AsyncIterator[Any]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        async with read(scope) as session:
            for _ in range(20):  # all others come as far as they can
                await asyncio.sleep(0)
            yield session
        open_now -= 1

    monkeypatch.setattr(db, "read", counted)
    await asyncio.gather(*(there.exchange(job.id, there.issuer.sign({"iss": there.issuer.url})) for _ in range(30)))
    assert 2 <= most <= 5, "two of each look-up, and one of the broker's own"


async def test_a_token_without_the_workloads_name_is_told_to_send_it(there: Platform) -> None:
    body = await refused(there, "", there.pod_token())
    assert body["code"] == "client_id_needed"
    assert "broker workload list" in body["error_description"]


async def test_a_jobs_own_assertion_and_a_platforms_token_never_stand_in_for_each_other(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    # signed by the job's own key, but as if the cluster had
    key = job.identity.private_jwk
    assert key
    forged = there.pod_token(iss=job.id, sub=job.id)
    assert "code" not in await refused(there, job.id, forged)
    assert (await job.token()).status_code == 200, "and its own key goes on to do"


async def test_a_claim_that_differs_is_named_with_what_the_token_says_and_never_with_what_is_expected(
    there: Platform,
) -> None:
    job = await there.world.job()
    await there.trust(job.id, claims={"namespace": ["sync"], "serviceaccount": ["the-secret-name"]})
    body = await refused(there, job.id, there.pod_token())
    assert body["code"] == "claim_differs"
    assert "nightly" in body["error_description"]
    assert "the-secret-name" not in body["error_description"]
    assert await reasons(there) == ["claim_differs"]


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"aud": ["https://elsewhere.example"]}, "wrong_audience", "projected volume"),
        ({"aud": ["http://localhost", "https://keys.vendor.example"]}, "wrong_audience", "ask your platform"),
        ({"exp": 1_000, "iat": 10}, "token_over", "bring a fresh one"),
        ({"exp": 4_000_000_000}, "lives_too_long", "at most"),
        ({"kubernetes.io": None}, "claim_missing", "no namespace"),
    ],
)
async def test_whoever_signed_for_the_broker_is_told_what_is_wrong(
    there: Platform, more: dict[str, Any], code: str, says: str
) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    body = await refused(there, job.id, there.pod_token(**more))
    assert body["code"] == code
    assert says in body["error_description"]


async def test_what_somebody_else_signed_is_told_nothing(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    (await there.exchange(job.id, there.pod_token())).raise_for_status()
    there.issuer.keys[0] = pair("k1")
    body = await refused(there, job.id, there.pod_token())
    assert "code" not in body
    assert await reasons(there) == ["bad_signature"]


async def test_the_access_token_lasts_no_longer_than_what_it_was_given_for(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id, expires_at=later(there.now, 120_000))
    answer = await there.exchange(job.id, there.pod_token())
    assert 110 < answer.json()["expires_in"] <= 120
    short = await there.exchange(job.id, there.pod_token(exp=there.issuer.second + 60))
    assert 50 < short.json()["expires_in"] <= 60
    body = await refused(there, job.id, there.pod_token(exp=there.issuer.second + 20))
    assert body["code"] == "token_over"


async def test_a_token_that_is_good_once_is_taken_once_also_by_two_at_one_moment(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id, ACTIONS)
    token = there.run_token()
    answers = await asyncio.gather(*(there.exchange(job.id, token) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
    assert len(await there.world.events(kind="auth.token_issued")) == 1
    body = await refused(there, job.id, token)
    assert body["code"] == "token_used"
    assert "fresh one for each call" in body["error_description"]


async def test_a_used_token_is_refused_on_another_replica_to_its_last_second(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id, ACTIONS)
    token = there.run_token()
    (await there.exchange(job.id, token)).raise_for_status()
    world = there.world
    there.world.clock.forward(seconds=265)
    again = running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False, clock=world.clock)
    async with again as second:
        replica = Platform(second, there.issuer, there.actions)
        assert (await refused(replica, job.id, token))["code"] == "token_used"
    await world.broker.worker.once()
    assert (await refused(there, job.id, token))["code"] == "token_used", "also once the worker has cleaned up"


async def test_a_token_of_a_file_is_taken_as_often_as_it_is_brought(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    token = there.pod_token()
    for _ in range(10):
        (await there.exchange(job.id, token)).raise_for_status()
    issued = await there.world.events(kind="auth.token_issued", limit=20)
    assert len(issued) == 10
    assert len({event["core"]["reason"] for event in issued}) == 1, "each names the same token"


async def test_operators_are_told_once_of_a_token_that_comes_from_a_second_address(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    token = there.pod_token()
    for address in ("203.0.113.7", "203.0.113.7", "198.51.100.9", "198.51.100.9"):
        edge = there.world.behind_a_proxy()
        answer = await exchange_from(edge, job.id, token, address)
        assert answer == 200
    (event,) = await there.world.events(kind="trust.token_elsewhere")
    assert event["personal"]["address"] == "198.51.100.9"
    assert "203.0.113.7" in event["personal"]["note"]
    notices = await there.world.items("/v1/notices")
    assert [one["kind"] for one in notices].count("token_elsewhere") == 1


async def exchange_from(edge: Any, workload: str, token: str, address: str) -> int:
    transport = httpx2.ASGITransport(app=edge, client=("10.0.0.1", 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.post("/oauth/token", data=token_form(workload, token), headers={"X-Forwarded-For": address})
        return answer.status_code


async def test_a_trust_may_name_the_networks_that_tokens_come_from(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id, networks=["203.0.113.0/24"])
    edge = there.world.behind_a_proxy()
    assert await exchange_from(edge, job.id, there.pod_token(), "203.0.113.7") == 200
    assert await exchange_from(edge, job.id, there.pod_token(), "198.51.100.9") == 401
    assert await reasons(there) == ["address_refused"]


async def lease_of(there: Platform, headers: dict[str, str], **more: Any) -> dict[str, Any]:
    body = {"organization": "acme", "provider": "raptor-comply", **more}
    answer = await there.world.http.post("/v1/leases", headers=headers, json=body)
    assert answer.status_code == 201, answer.text
    issued: dict[str, Any] = answer.json()
    return issued


async def with_access(there: Platform) -> tuple[str, str, dict[str, str]]:
    await there.world.key_for("acme")
    job = await there.world.job()
    await there.world.grant(job, "acme", modes=("use", "reveal"), implicit=True)
    trust = await there.trust(job.id)
    return job.id, trust, await there.headers(job.id)


async def revoke(there: Platform, trust: str) -> None:
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await trusts.revoke(session, BROKER, ids.TrustId(trust), reason="stolen", now=there.now)


async def suspend(there: Platform, issuer: str = CLUSTER) -> None:
    declared = there.world.services.federation.issuers.get(issuer)
    assert declared is not None
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await trusts.suspend(session, BROKER, declared, reason="breach", now=there.now)


async def resume(there: Platform, issuer: str = CLUSTER) -> None:
    declared = there.world.services.federation.issuers.get(issuer)
    assert declared is not None
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await trusts.resume(session, BROKER, declared, reason="mended", now=there.now)


@pytest.mark.parametrize("mode", ["use", "reveal"])
async def test_a_revoked_trust_gives_no_lease_to_tokens_that_still_last(there: Platform, mode: str) -> None:
    _, trust, headers = await with_access(there)
    lease = await lease_of(there, headers)
    await revoke(there, trust)
    body = {"organization": "acme", "provider": "raptor-comply", "mode": mode}
    denied = await there.world.http.post("/v1/leases", headers=headers, json=body)
    assert (denied.status_code, denied.json()["code"]) == (403, "trust_over")
    assert [event["core"]["reason"] for event in await there.world.events(kind="lease.denied")] == ["trust_over"]
    used = await there.world.proxied(lease, "/facilities")
    assert (used.status_code, used.json()["code"]) == (403, "trust_over")
    renewed = await there.world.http.post(f"/v1/leases/{lease['lease']['id']}/renew", headers=headers, json={})
    assert (renewed.status_code, renewed.json()["code"]) == (403, "trust_over")
    bare = await there.world.http.get(
        "/proxy/acme/raptor-comply/facilities", headers={**headers, "X-Broker-Purpose": "test"}
    )
    assert bare.status_code == 403
    listed = await there.world.http.get("/v1/leases", headers=headers)
    assert (listed.status_code, listed.json()["code"]) == (403, "trust_over")


async def test_a_lease_that_something_else_proved_is_given_to_no_token_for_its_idempotency_key(there: Platform) -> None:
    """It would outlast what the second token stands on."""
    await there.world.key_for("acme")
    job = await there.world.job()
    await there.world.grant(job, "acme", modes=("use", "reveal"))
    await there.trust(job.id)
    once = {"Idempotency-Key": "run-7"}
    (await job.ask("acme", mode="reveal", headers=once)).raise_for_status()
    body = {"organization": "acme", "provider": "raptor-comply", "mode": "reveal"}
    proved = await there.headers(job.id)
    answer = await there.world.http.post("/v1/leases", headers={**proved, **once}, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert await there.world.events(kind="lease.replayed") == []


async def test_what_another_trust_proved_goes_on(there: Platform) -> None:
    job, trust, _ = await with_access(there)
    await there.trust(job, ACTIONS)
    other = await there.headers(job, there.run_token())
    lease = await lease_of(there, other)
    await revoke(there, trust)
    assert (await there.world.proxied(lease, "/facilities")).status_code == 200
    await lease_of(there, other)


async def test_a_suspended_issuer_ends_all_that_it_proved_and_resuming_brings_none_of_it_back(there: Platform) -> None:
    job, _, headers = await with_access(there)
    lease = await lease_of(there, headers)
    await suspend(there)
    assert (await there.world.proxied(lease, "/facilities")).status_code == 403
    body = await refused(there, job, there.pod_token())
    assert body["code"] == "issuer_suspended"
    await resume(there)
    assert (await there.world.proxied(lease, "/facilities")).status_code == 403
    again = await there.headers(job)
    fresh = await lease_of(there, again)
    assert (await there.world.proxied(fresh, "/facilities")).status_code == 200
    kinds = [event["kind"] for event in await there.world.events(limit=50)]
    assert kinds.count("issuer.suspended") == kinds.count("issuer.resumed") == 1


async def test_a_trust_ends_with_its_time_also_under_leases_that_last_longer(there: Platform) -> None:
    await there.world.key_for("acme")
    job = await there.world.job()
    await there.world.grant(job, "acme")
    await there.trust(job.id, expires_at=later(there.now, 60_000))
    headers = await there.headers(job.id)
    lease = await lease_of(there, headers)
    there.world.clock.forward(seconds=61)
    body = await refused(there, job.id, there.pod_token())
    assert "code" not in body, "as if there were no trust"
    await there.world.broker.worker.once()
    assert (await there.world.proxied(lease, "/facilities")).status_code == 403
    assert len(await there.world.events(kind="trust.expired")) == 1


async def test_a_revoked_workload_is_told_so_once_it_proved_itself(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    await there.world.call("POST", "/v1/workloads/sync/revoke", json={"reason": "retired"})
    assert (await refused(there, job.id, there.pod_token()))["code"] == "workload_revoked"
    assert "code" not in await refused(there, job.id, there.pod_token(iss="https://elsewhere.example"))


async def test_a_trust_that_the_broker_did_not_write_gives_nothing_and_is_told_of(there: Platform) -> None:
    job = await there.world.job()
    trust = await there.trust(job.id)
    parts = there.world.services.parts
    async with parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(TrustRow).where(TrustRow.id == trust).values(claims={"namespace": ["sync"]}))
    assert "code" not in await refused(there, job.id, there.pod_token())
    assert [event["core"]["subject"] for event in await there.world.events(kind="right.altered")] == [trust]


async def test_a_dba_who_lets_a_suspended_issuer_count_brings_nothing_back(there: Platform) -> None:
    job, _, headers = await with_access(there)
    await suspend(there)
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(text("UPDATE issuers SET suspended_at = NULL"))
    fresh = await there.headers(job)
    for each in (headers, fresh):
        body = {"organization": "acme", "provider": "raptor-comply"}
        answer = await there.world.http.post("/v1/leases", headers=each, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "trust_over")


async def test_an_issuer_that_is_away_is_a_503_for_whoever_is_named(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    for named in (job.id, ids.new(ids.WorkloadId)):
        answer = await there.exchange(named, there.pod_token())
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "issuer_unreachable"
        assert int(answer.headers["Retry-After"]) > 0
    assert there.issuer.asked[JWKS] == 1


async def test_known_keys_do_for_a_day_of_outage_and_no_longer(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    (await there.exchange(job.id, there.pod_token())).raise_for_status()
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    there.world.clock.forward(hours=23.9)
    assert (await there.exchange(job.id, there.pod_token())).status_code == 200
    there.world.clock.forward(hours=0.2)
    assert (await there.exchange(job.id, there.pod_token())).status_code == 503


async def test_the_worker_puts_on_the_record_what_becomes_of_an_issuer(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    worker, clock = there.world.broker.worker, there.world.clock
    await worker.once()
    there.issuer.keys[0] = pair("k2")
    clock.forward(hours=1.1)
    await worker.once()
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    clock.forward(hours=1.1)
    await worker.once()
    clock.forward(hours=0.2)
    await worker.once()
    there.issuer.answers.clear()
    clock.forward(hours=0.2)
    await worker.once()
    kinds = [event["kind"] for event in await there.world.events(limit=50) if event["kind"].startswith("issuer.")]
    assert kinds == ["issuer.keys_changed", "issuer.unreachable", "issuer.recovered"]
    told = [one["kind"] for one in await there.world.items("/v1/notices")]
    assert ("issuer_unreachable" in told, "issuer_well" in told) == (True, True)


async def test_a_refresh_has_every_replica_ask_for_the_keys_again(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    (await there.exchange(job.id, there.pod_token())).raise_for_status()
    token = there.pod_token()
    there.issuer.keys[:] = [pair("k2")]
    assert (await there.exchange(job.id, token)).status_code == 200, "known for an hour"
    declared = there.world.services.federation.issuers.get(CLUSTER)
    assert declared is not None
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await trusts.refresh(session, BROKER, declared, now=there.now)
    assert (await there.exchange(job.id, token)).status_code == 401
    assert there.issuer.asked[JWKS] == 2
    (await there.exchange(job.id, there.pod_token())).raise_for_status()


@pytest.mark.parametrize(
    ("issuer", "claims", "says"),
    [
        (CLUSTER, {"namespace": ["sync"]}, "serviceaccount"),
        (ACTIONS, {"repository_id": ["456789"], "repository_owner_id": ["123456"]}, "environment"),
        (CLUSTER, {**RULES[CLUSTER], "sub": ["x"]}, "sub"),
    ],
)
async def test_a_trust_that_binds_too_little_is_not_made(
    there: Platform, issuer: str, claims: dict[str, list[str]], says: str
) -> None:
    job = await there.world.job()
    with pytest.raises(Invalid, match=says):
        await there.trust(job.id, issuer, claims=claims)


async def test_a_trust_is_not_made_for_a_job_that_has_ended_nor_for_the_past(there: Platform) -> None:
    job = await there.world.job()
    with pytest.raises(Invalid, match="expires_at"):
        await there.trust(job.id, expires_at=there.now)
    with pytest.raises(Invalid, match="networks"):
        await there.trust(job.id, networks=["203.0.113.0/33"])
    await there.world.call("POST", "/v1/workloads/sync/revoke", json={"reason": "retired"})
    with pytest.raises(Conflict):
        await there.trust(job.id)


async def test_the_first_trusts_in_an_issuer_are_made_at_one_moment(there: Platform) -> None:
    jobs = [await there.world.job(name) for name in ("sync", "other", "third")]
    await asyncio.gather(*(there.trust(job.id) for job in jobs))
    for job in jobs:
        await there.headers(job.id)


async def test_operators_are_told_of_each_trust_that_is_made(there: Platform) -> None:
    job = await there.world.job()
    trust = await there.trust(job.id)
    (told,) = [one for one in await there.world.items("/v1/notices") if one["kind"] == "trust_made"]
    assert trust in told["text"]
    (event,) = await there.world.events(kind="trust.created")
    assert (event["core"]["subject"], event["core"]["provider"], event["core"]["workload"]) == (trust, CLUSTER, job.id)
    assert "serviceaccount=nightly" in event["personal"]["note"]


async def test_only_its_own_type_of_assertion_is_taken(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    assert "code" not in await refused(there, job.id, there.pod_token(), client_assertion_type=SPIFFE_TYPE)
    answer = await there.exchange(job.id, there.pod_token(), grant_type="authorization_code")
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


async def test_readiness_names_an_issuer_that_is_away_and_a_file_that_is_another(there: Platform) -> None:
    async def told() -> str:
        answer = await there.world.http.get("/readyz")
        assert answer.status_code == 200, "it takes no broker out"
        return str(answer.json()["issuers"])

    job = await there.world.job()
    await there.trust(job.id)
    assert await told() == "ok"
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    assert (await there.exchange(job.id, there.pod_token())).status_code == 503
    assert await told() == f"unreachable: {CLUSTER}"
    there.issuer.answers.clear()
    there.world.clock.forward(seconds=61)
    (await there.exchange(job.id, there.pod_token())).raise_for_status()
    assert await told() == "ok"
    async with there.world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(text("UPDATE issuers SET digest = 'of another file'"))
    assert await told() == f"differs: {CLUSTER}"
    await there.world.broker.worker.once()
    assert await told() == "ok"
    assert [event["core"]["provider"] for event in await there.world.events(kind="issuer.declared")] == [CLUSTER]


async def test_tokens_are_counted_by_platform_and_what_came_of_them_and_by_nothing_that_names_a_tenant(
    there: Platform,
) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    await there.headers(job.id)
    await refused(there, job.id, there.run_token())
    await refused(there, job.id, there.pod_token(aud=["https://elsewhere.example"]))
    told = (await there.world.http.get("/metrics")).text
    for preset, outcome in (
        ("kubernetes", "taken"),
        ("github-actions", "issuer_unknown"),
        ("kubernetes", "wrong_audience"),
    ):
        assert f'keybroker_platform_tokens_total{{outcome="{outcome}",preset="{preset}"}} 1.0' in told
    assert there.issuer.url not in told


async def test_whoever_looks_through_a_restored_database_sees_its_trusts(there: Platform) -> None:
    job = await there.world.job()
    trust = await there.trust(job.id)
    gone = await there.trust(job.id, ACTIONS)
    await revoke(there, gone)
    found = [row async for row in to_confirm(there.world.services.parts.db) if row["what"] == "trust"]
    assert found == [{"what": "trust", "id": trust, "name": "sync", "of": CLUSTER}]
