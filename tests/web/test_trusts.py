"""/v1/trusts and /v1/issuers: who may make and end trusts, and what a token's trial shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from broker import app as composition
from broker.base.clock import rfc3339
from broker.formats import ids
from broker.identity.federation.assertion import NotProved
from broker.issuers.issuer import IssuerUnreachable
from tests.support.issuer import pair, signed
from tests.support.platform import ACTIONS, CLUSTER, RULES, Platform, platform, token_form
from tests.support.world import World

JWKS = "/jwks"


@pytest.fixture
async def there(tmp_path: Path, database_url: str) -> AsyncIterator[Platform]:
    async with platform(tmp_path, database_url) as made:
        yield made


async def made(there: Platform, *, status: int = 201, **more: Any) -> Any:
    """What the broker answers to an admin who makes a trust."""
    as_ = more.pop("as_", None)
    wanted = {"workload": "sync", "issuer": CLUSTER, "claims": RULES[CLUSTER], **more}
    return await there.world.call("POST", "/v1/trusts", as_=as_, status=status, json=wanted)


async def test_a_keyless_job_proves_itself_by_a_trust_alone(there: Platform) -> None:
    world = there.world
    job = await world.call("POST", "/v1/workloads", status=201, json={"name": "sync", "keyless": True})
    assert (job["key_ids"], job["trusts"], job["client_secret"]) == ([], 0, None)
    assert (await there.exchange(job["id"], there.pod_token())).status_code == 401
    trust = await made(there, note="the nightly pod")
    assert (trust["workload"], trust["workload_name"], trust["issuer"]) == (job["id"], "sync", CLUSTER)
    assert (trust["claims"], trust["state"], trust["warnings"]) == (RULES[CLUSTER], "active", [])
    assert (await there.exchange(job["id"], there.pod_token())).status_code == 200
    assert [one["trusts"] for one in await world.items("/v1/workloads")] == [1]
    (event,) = await world.events(kind="trust.created")
    assert (event["core"]["subject"], event["core"]["workload"]) == (trust["id"], job["id"])


@pytest.mark.parametrize(
    "body", [{}, {"keyless": False}, {"keyless": True, "jwks": {"keys": []}}, {"keyless": True, "client_secret": True}]
)
async def test_a_job_has_a_key_or_none_and_never_both(world: World, body: dict[str, Any]) -> None:
    answer = await world.http.post("/v1/workloads", headers=world.admin, json={"name": "sync", **body})
    assert answer.status_code in {403, 422}, answer.text  # client secrets are off here
    assert await world.items("/v1/workloads") == []


async def test_a_trust_is_made_by_an_admin_who_just_signed_in(there: Platform) -> None:
    await there.world.job()
    for role in ("operator", "security"):
        as_ = await there.world.operator(role, role)
        assert "needs the role admin" in (await made(there, as_=as_, status=403))["detail"]
    machine = await there.world.machine("robot", "admin")
    assert (await made(there, as_=machine, status=403))["code"] == "person_needed"
    there.world.people.stay = False
    there.world.clock.forward(seconds=301)
    assert (await made(there, status=401))["code"] == "reauthentication_needed"
    assert await there.world.events(kind="trust.created") == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"issuer": "nobody"}, "broker issuer list"),
        ({"workload": "nobody"}, "broker workload list"),
        ({"claims": {"namespace": ["sync"]}}, "bind serviceaccount"),
        ({"claims": {**RULES[CLUSTER], "repository_id": ["1"]}}, "repository_id: Kubernetes has no such claim; take"),
        ({"claims": {**RULES[CLUSTER], "namespace": []}}, "claims"),
        ({"networks": ["203.0.113.1/24"]}, "is no network"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "lies in the past"),
    ],
)
async def test_what_could_never_fit_is_refused_with_what_to_write(
    there: Platform, more: dict[str, Any], says: str
) -> None:
    await there.world.job()
    wanted = {"workload": "sync", "issuer": CLUSTER, "claims": RULES[CLUSTER], **more}
    answer = await there.world.http.post("/v1/trusts", headers=there.world.admin, json=wanted)
    assert answer.status_code in {404, 422}, answer.text
    assert says in answer.json()["detail"]


async def test_what_may_be_meant_as_a_pattern_is_told(there: Platform) -> None:
    await there.world.job()
    trust = await made(there, issuer=ACTIONS, claims={**RULES[ACTIONS], "environment": ["prod*"]})
    assert trust["warnings"] == ["environment: `prod*` is taken as it stands; there are no patterns."]
    assert (await there.world.call("GET", f"/v1/trusts/{trust['id']}"))["warnings"] == trust["warnings"]


async def test_nobody_makes_a_trust_for_a_job_that_may_see_keys(tmp_path: Path, database_url: str) -> None:
    """Whoever has such a token could see them, and no second person approved that."""
    async with platform(tmp_path, database_url, reveal_approval="on") as there:
        world = there.world
        await world.key_for("acme")
        grant = await world.grant(await world.job(), "acme", modes=("reveal",))
        token = await composition.bootstrap_token(world.services, replace=True)
        bea = await world.call("POST", "/v1/bootstrap", status=201, json={"token": token, "name": "bea"})
        await world.call("POST", f"/v1/grants/{grant}/approve", as_={"Authorization": f"Bearer {bea['token']}"})
        assert (await made(there, status=409))["code"] == "job_sees_keys"
        assert await world.items("/v1/trusts") == []


async def test_trusts_are_found_by_job_issuer_state_and_the_time_that_they_have_left(there: Platform) -> None:
    world = there.world
    for name in ("sync", "other"):
        await world.job(name)
    soon = await made(there, expires_at=rfc3339(world.clock() + 86_400_000))
    later = await made(there, expires_at=rfc3339(world.clock() + 40 * 86_400_000))
    other = await made(there, workload="other", issuer=ACTIONS, claims=RULES[ACTIONS])
    await world.call("POST", f"/v1/trusts/{other['id']}/revoke", json={"reason": "x"})

    async def found(**wanted: Any) -> list[str]:
        return [one["id"] for one in await world.items("/v1/trusts", **wanted)]

    assert await found() == [soon["id"], later["id"], other["id"]]
    assert await found(workload="sync") == [soon["id"], later["id"]]
    assert await found(issuer=ACTIONS) == [other["id"]]
    assert await found(state="active") == [soon["id"], later["id"]]
    assert await found(expiring_days=30) == [soon["id"]]
    assert await found(expiring_days=30, workload="other") == []
    assert await world.call("GET", f"/v1/trusts/{soon['id']}") == soon
    missing = await world.call("GET", f"/v1/trusts/{ids.new(ids.TrustId)}", status=404)
    assert "broker trust list" in missing["detail"]


async def test_whoever_may_cut_off_revokes_a_trust_and_what_it_proved_ends(there: Platform) -> None:
    world = there.world
    job = await world.job()
    for role in ("operator", "security"):
        trust = await made(there)
        headers = await there.headers(job.id)
        as_ = await world.operator(role, role)
        for _ in range(2):
            over = await world.call("POST", f"/v1/trusts/{trust['id']}/revoke", as_=as_, json={"reason": "left"})
            assert (over["state"], over["id"]) == ("revoked", trust["id"])
        refused = await world.http.get("/v1/leases", headers=headers)
        assert refused.status_code in {401, 403}, refused.text
    assert len(await world.events(kind="trust.revoked")) == 2


async def test_issuers_show_what_their_files_say_and_what_a_trust_has_to_bind(there: Platform) -> None:
    found = {one["id"]: one for one in await there.world.items("/v1/issuers")}
    assert {CLUSTER, ACTIONS, "github-actions", "gitlab-com", "google"} <= set(found)
    mine = found[CLUSTER]
    assert (mine["preset"], mine["title"], mine["issuer"]) == ("kubernetes", "Kubernetes", there.issuer.url)
    assert (mine["state"], mine["once"], mine["audience"]) == ("active", False, there.world.settings.public_url)
    assert mine["required"] == [["namespace"], ["serviceaccount"]]
    assert "serviceaccount_uid" in mine["claims"]
    assert (mine["answered_at"], mine["failing_since"]) == (None, None)
    assert found["github-actions"]["shared"]
    assert await there.world.call("GET", f"/v1/issuers/{CLUSTER}") == mine
    missing = await there.world.call("GET", "/v1/issuers/nobody", status=404)
    assert (missing["code"], "broker issuer list" in missing["detail"]) == ("unknown_issuer", True)
    first = await there.world.call("GET", "/v1/issuers", params={"limit": 2})
    rest = await there.world.call("GET", "/v1/issuers", params={"cursor": first["next"]})
    assert [one["id"] for one in first["items"] + rest["items"]] == list(found)


async def test_a_suspended_issuer_proves_nothing_until_an_admin_resumes_it(there: Platform) -> None:
    world = there.world
    job = await world.job()
    await made(there)
    headers = await there.headers(job.id)
    guard = await world.operator("guard", "security")
    over = await world.call("POST", f"/v1/issuers/{CLUSTER}/suspend", as_=guard, json={"reason": "stolen"})
    assert (over["state"], over["suspended_at"] is not None) == ("suspended", True)
    assert (await world.http.get("/v1/leases", headers=headers)).status_code in {401, 403}
    assert (await there.exchange(job.id, there.pod_token())).status_code == 401
    assert failed(await tried(there)) == {"issuer": "issuer_suspended"}
    await world.call("POST", f"/v1/issuers/{CLUSTER}/resume", as_=guard, status=403, json={})
    back = await world.call("POST", f"/v1/issuers/{CLUSTER}/resume", json={"reason": "found"})
    assert (back["state"], back["suspended_at"]) == ("active", None)
    assert (await world.http.get("/v1/leases", headers=headers)).status_code in {401, 403}, "what ended stays ended"
    assert (await there.exchange(job.id, there.pod_token())).status_code == 200


async def test_a_refreshed_issuer_is_asked_at_once_and_a_key_that_it_withdrew_verifies_nothing(there: Platform) -> None:
    world = there.world
    job = await world.job()
    await made(there)
    old = there.pod_token()
    assert (await there.exchange(job.id, old)).status_code == 200
    there.issuer.keys = [pair("k2")]
    seen = await world.call("POST", f"/v1/issuers/{CLUSTER}/refresh", as_=await world.operator("olga", "operator"))
    assert (seen["answered_at"] is not None, seen["failing_since"]) == (True, None)
    assert there.issuer.asked[JWKS] == 2
    assert (await there.exchange(job.id, old)).status_code == 401
    assert (await there.exchange(job.id, there.pod_token())).status_code == 200
    # and if it gives none, what was kept of it stays, and is said to be old
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    assert (await world.call("POST", f"/v1/issuers/{CLUSTER}/refresh"))["failing_since"] is not None
    assert len(await world.events(kind="issuer.refreshed")) == 2


async def test_an_account_of_some_customers_decides_about_its_own_jobs_trusts_and_no_issuer(there: Platform) -> None:
    world = there.world
    for slug in ("acme", "globex"):
        await world.organization(slug)
        await world.grant(await world.job(f"{slug}-job"), slug)
    theirs = await made(there, workload="globex-job")
    ours = await made(there, workload="acme-job")
    amy = await world.operator("amy", "admin", organizations=["acme"])
    listed = (await world.call("GET", "/v1/trusts", as_=amy))["items"]
    assert [one["id"] for one in listed] == [ours["id"]]
    await world.call("GET", f"/v1/trusts/{theirs['id']}", as_=amy, status=404)
    await world.call("POST", f"/v1/trusts/{theirs['id']}/revoke", as_=amy, status=404, json={})
    await made(there, as_=amy, status=404, workload="globex-job")
    assert (await world.call("GET", f"/v1/trusts/{theirs['id']}"))["state"] == "active"
    await made(there, as_=amy, workload="acme-job")
    for act in ("suspend", "resume", "refresh"):
        refused = await world.call("POST", f"/v1/issuers/{CLUSTER}/{act}", as_=amy, status=403, json={})
        assert "limited" in refused["detail"]


async def tried(there: Platform, token: str | None = None, **more: Any) -> Any:
    """What the broker says to a token that is tried, a pod's unless another is given."""
    asked = {"workload": "sync", "token": token or there.pod_token(), **more}
    return await there.world.call("POST", "/v1/trusts/explain", json=asked)


def failed(found: Any) -> dict[str, str]:
    """The checks that failed, each with its word on the record."""
    every = [*found["checks"], *(one for trust in found["trusts"] for one in trust["checks"])]
    return {one["check"]: one["code"] for one in every if one["passed"] is False}


async def test_a_token_that_a_sign_in_takes_passes_every_check_in_order(there: Platform) -> None:
    await there.world.job()
    trust = await made(there)
    found = await tried(there)
    assert (found["accepted"], found["issuer"], found["trust"]) == (True, CLUSTER, trust["id"])
    assert [one["check"] for one in found["checks"]] == [
        *("workload", "form", "issuer", "header", "key", "signature", "audience", "times", "use"),
    ]
    assert all(one["passed"] for one in found["checks"])
    (by,) = found["trusts"]
    assert [(one["check"], one["presented"], one["expected"]) for one in by["checks"]] == [
        ("namespace", "sync", "sync"),
        ("serviceaccount", "nightly", "nightly"),
    ]


async def test_a_trial_spends_nothing_and_puts_nothing_on_the_record(there: Platform) -> None:
    job = await there.world.job()
    await made(there, issuer=ACTIONS, claims=RULES[ACTIONS])
    token = there.run_token()
    before = await there.world.events()
    for _ in range(2):
        assert (await tried(there, token))["accepted"]
    after = await there.world.events()
    assert [one["core"]["kind"] for one in after[len(before) :]] == ["audit.read"]
    assert (await there.exchange(job.id, token)).status_code == 200
    used = await tried(there, token)
    assert failed(used) == {"use": "token_used"}
    assert not used["accepted"]


Claims = Callable[[Platform], dict[str, Any]]


@pytest.mark.parametrize(
    ("claims", "check", "code", "says"),
    [
        (lambda _: {"aud": ["https://elsewhere.example"]}, "audience", "wrong_audience", "projected volume"),
        (lambda _: {"aud": None}, "audience", "wrong_audience", "ask your platform"),
        (lambda at: {"exp": at.issuer.second - 60}, "times", "token_over", "s ago; bring a fresh one"),
        (lambda at: {"exp": at.issuer.second + 20}, "times", "token_over", "less than 30 s"),
        (lambda at: {"iat": at.issuer.second + 90}, "times", "token_not_yet", "clock"),
        (lambda at: {"exp": at.issuer.second + 90_000}, "times", "lives_too_long", "at most 86400 are taken"),
        (lambda _: {"exp": "soon"}, "times", "malformed", "has to say when"),
        (lambda _: {"exp": 2**41}, "times", "malformed", "has to say when"),
        (lambda _: {"kubernetes.io": None}, "namespace", "claim_missing", "no namespace"),
        (lambda _: {"sub": "system:serviceaccount:sync:other"}, "kubernetes", "claim_differs", "another service"),
    ],
)
async def test_each_check_that_fails_says_what_was_brought_and_what_fixes_it(
    there: Platform, claims: Claims, check: str, code: str, says: str
) -> None:
    await there.world.job()
    await made(there)
    found = await tried(there, there.pod_token(**claims(there)))
    assert not found["accepted"]
    assert failed(found)[check] == code
    every = [*found["checks"], *found["trusts"][0]["checks"]]
    assert any(one["check"] == check and says in one["fix"] for one in every), every


async def test_a_claim_that_differs_is_shown_with_what_the_trust_expects(there: Platform) -> None:
    await there.world.job()
    await made(there, claims={"namespace": ["sync", "batch"], "serviceaccount": ["weekly"]})
    mine = await made(there)
    found = await tried(there)
    assert (found["accepted"], found["trust"]) == (True, mine["id"])
    other = next(one for one in found["trusts"] if not one["takes"])
    first, second = other["checks"]
    assert (first["passed"], first["expected"]) == (True, "batch or sync")
    assert (second["passed"], second["presented"], second["expected"]) == (False, "nightly", "weekly")
    assert second["fix"]


async def test_networks_are_checked_for_an_address_that_somebody_names(there: Platform) -> None:
    await there.world.job()
    await made(there, networks=["203.0.113.0/24"])
    untold = await tried(there)
    assert (untold["accepted"], untold["trusts"][0]["checks"][-1]["passed"]) == (True, None)
    assert (await tried(there, address="203.0.113.7"))["accepted"]
    elsewhere = await tried(there, address="198.51.100.1")
    assert (elsewhere["accepted"], failed(elsewhere)) == (False, {"network": "address_refused"})


async def test_a_trust_whose_time_is_over_is_shown_and_takes_nothing(there: Platform) -> None:
    await there.world.job()
    await made(there, expires_at=rfc3339(there.world.clock() + 60_000))
    there.world.clock.forward(seconds=61)
    found = await tried(there)
    assert (found["accepted"], failed(found)) == (False, {"in force": "trust_over"})


async def test_forms_keys_and_issuers_that_are_none_are_named_and_nobody_else_is_asked(there: Platform) -> None:
    await there.world.job()
    await made(there)
    assert failed(await tried(there, "no token")) == {"form": "malformed"}
    assert failed(await tried(there, there.pod_token(iss=f"{there.issuer.url}/"))) == {"issuer": "issuer_unknown"}
    assert there.issuer.asked[JWKS] == 0
    claims = {"iss": there.issuer.url, "aud": "x", "sub": "y"}
    assert failed(await tried(there, signed(pair("k9"), claims)))["key"] == "key_unknown"
    assert failed(await tried(there, signed(pair(), claims)))["signature"] == "bad_signature"
    by_other = failed(await tried(there, signed(pair("k", "P-256"), claims, "ES256")))
    assert by_other["header"] == "algorithm_refused"
    assert "key" not in by_other, "what can't be checked didn't fail"
    assert failed(await tried(there, there.issuer.sign(claims, typ="at+jwt")))["header"] == "type_refused"
    assert failed(await tried(there, there.run_token()))["issuer"] == "issuer_unknown", "no trust names it"


async def test_an_issuer_that_cant_be_asked_is_named(there: Platform) -> None:
    await there.world.job()
    await made(there)
    there.issuer.answers[JWKS] = lambda: Response(status_code=500)
    assert failed(await tried(there)) == {"key": "issuer_unreachable"}


async def test_a_trial_says_what_a_sign_in_says(there: Platform) -> None:
    """For what each of many faults alone does to a token."""
    job = await there.world.job()
    await made(there)
    now = there.issuer.second
    faults: list[dict[str, Any]] = [
        {},
        {"aud": "https://elsewhere.example"},
        {"aud": None},
        {"iat": None},
        {"iat": now + 25, "nbf": None},
        {"iat": now + 40},
        {"nbf": now + 40},
        {"exp": now - 29},
        {"exp": now + 29},
        {"exp": now + 31},
        {"exp": True},
        {"sub": "system:serviceaccount:sync:other"},
        {"kubernetes.io": {"namespace": "sync", "serviceaccount": {"name": "nightly"}}},
        {"kubernetes.io": {"namespace": ["sync"], "serviceaccount": {"name": "nightly"}, "pod": {"name": "x"}}},
        {"jti": None},
        {"iss": "https://elsewhere.example"},
    ]
    for fault in faults:
        token = there.pod_token(**fault)
        taken = False
        with suppress(NotProved, IssuerUnreachable):
            await there.world.services.federation.prove(job.id, token_form(job.id, token), "203.0.113.7")
            taken = True
        assert (await tried(there, token))["accepted"] == taken, fault


async def test_a_token_that_is_tried_is_in_no_log_answer_or_event(
    there: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    await there.world.job()
    await made(there)
    token = there.pod_token()
    found = await tried(there, token)
    too_long = await there.world.http.post(
        "/v1/trusts/explain", headers=there.world.admin, json={"workload": "sync", "token": token + "x" * 16_384}
    )
    assert too_long.status_code == 422
    everything = f"{found} {too_long.text} {await there.world.events()} {''.join(capfd.readouterr())}"
    for part in token.split("."):
        assert part not in everything


async def test_trials_of_one_token_at_once_all_answer(there: Platform) -> None:
    await there.world.job()
    await made(there)
    token = there.pod_token()
    answers = await asyncio.gather(*(tried(there, token) for _ in range(8)))
    assert all(one["accepted"] for one in answers)
    assert there.issuer.asked[JWKS] == 1
