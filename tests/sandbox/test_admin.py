"""What the demo and the tests may do to the sandbox, and what it shows of what reached it."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest

from broker.sandbox.app import create_sandbox
from broker.sandbox.state import State
from tests.sandbox.conftest import TOKEN, Sandbox

CALLS = [
    ("POST", "/_admin/organizations"),
    ("POST", "/_admin/organizations/x/keys"),
    ("DELETE", "/_admin/keys/x"),
    ("POST", "/_admin/keys/x/expire"),
    ("POST", "/_admin/keys"),
    ("PUT", "/_admin/faults"),
    ("GET", "/_admin/requests"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_an_admin_call_needs_the_admin_token(sandbox: Sandbox, method: str, path: str) -> None:
    _, key = await sandbox.customer()
    for headers in ({}, key, {"X-Admin-Token": "wrong"}, {"X-Admin-Token": TOKEN + "x"}):
        assert (await sandbox.http.request(method, path, headers=headers)).status_code == 401
    foreign = await sandbox.http.request(method, path, headers=[(b"X-Admin-Token", "é".encode())])
    assert foreign.status_code == 401
    assert list(sandbox.state.organizations) != []
    assert len(sandbox.state.organizations) == 1


async def test_an_organization_has_as_many_facilities_as_asked_for(sandbox: Sandbox) -> None:
    assert len((await sandbox.organization(facilities=7))["facilities"]) == 7
    assert (await sandbox.organization(facilities=0))["facilities"] == []
    assert (await sandbox.admin.post("/_admin/organizations")).status_code == 201


async def test_no_two_organizations_share_an_id(sandbox: Sandbox) -> None:
    kinds = ("facilities", "control-centers", "cyber-systems", "cyber-assets")
    made = [await sandbox.organization(name) for name in ("Acme", "Globex", "Acme")]
    ids = [item for organization in made for kind in kinds for item in organization[kind]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{", b'{"name": ""}', b'{"facilities": "3"}', b'{"facilities": -1}', b'{"facilities": true}', b'{"x": 1}'],
)
async def test_an_organization_that_is_wrongly_described_is_refused(sandbox: Sandbox, body: bytes) -> None:
    assert (await sandbox.admin.post("/_admin/organizations", content=body)).status_code == 422
    assert not sandbox.state.organizations


async def test_a_new_key_leaves_the_old_one_valid_until_it_is_revoked(sandbox: Sandbox) -> None:
    organization = await sandbox.organization()
    old_id, old = await sandbox.key(organization)
    _, new = await sandbox.key(organization)
    answers = [(await sandbox.http.get("/facilities", headers=key)) for key in (old, new)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert (await sandbox.admin.delete(f"/_admin/keys/{old_id}")).status_code == 204
    refused = await sandbox.http.get("/facilities", headers=old)
    assert (refused.status_code, refused.json()["message"]) == (401, "Invalid API key")
    assert (await sandbox.http.get("/facilities", headers=new)).status_code == 200


async def test_an_expired_key_says_so_and_a_revoked_one_stays_revoked(sandbox: Sandbox) -> None:
    key_id, key = await sandbox.key(await sandbox.organization())
    await sandbox.admin.post(f"/_admin/keys/{key_id}/expire")
    expired = await sandbox.http.get("/facilities", headers=key)
    assert (expired.status_code, expired.json()["message"]) == (401, "API key has expired")
    await sandbox.admin.delete(f"/_admin/keys/{key_id}")
    await sandbox.admin.post(f"/_admin/keys/{key_id}/expire")
    assert (await sandbox.http.get("/facilities", headers=key)).json()["message"] == "Invalid API key"


async def test_what_is_not_there_is_not_found(sandbox: Sandbox) -> None:
    for method, path in [*CALLS[1:4], ("GET", "/_admin/nothing")]:
        assert (await sandbox.admin.request(method, path)).status_code == 404
    assert (await sandbox.admin.get("/_admin/faults")).status_code == 405


async def test_an_outage_answers_every_call_alike_until_it_ends(sandbox: Sandbox) -> None:
    _, key = await sandbox.customer()
    for status, name in ((500, "Internal Server Error"), (503, "Service Unavailable")):
        await sandbox.faults(outage=True, status=status)
        for headers in (key, {}):
            answer = await sandbox.http.get("/facilities", headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (status, name)
    await sandbox.faults()
    assert (await sandbox.http.get("/facilities", headers=key)).status_code == 200


async def test_a_rate_limit_counts_each_key_by_itself(sandbox: Sandbox) -> None:
    organization = await sandbox.organization()
    (_, one), (_, other) = await sandbox.key(organization), await sandbox.key(organization)
    await sandbox.faults(rate_limit_per_minute=2)
    statuses = [(await sandbox.http.get("/facilities", headers=one)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    limited = await sandbox.http.get("/facilities", headers=one)
    assert limited.json()["error"] == "Too Many Requests"
    assert 1 <= int(limited.headers["retry-after"]) <= 60
    assert (await sandbox.http.get("/facilities", headers=other)).status_code == 200
    await sandbox.faults(rate_limit_per_minute=None)
    assert (await sandbox.http.get("/facilities", headers=one)).status_code == 200


async def test_latency_delays_an_answer(sandbox: Sandbox) -> None:
    _, key = await sandbox.customer()
    await sandbox.faults(latency_ms=80)
    began = time.monotonic()
    assert (await sandbox.http.get("/facilities", headers=key)).status_code == 200
    assert time.monotonic() - began >= 0.08


@pytest.mark.parametrize(
    "wanted",
    [
        {"latency": 1},
        {"latency_ms": -1},
        {"latency_ms": 1.5},
        {"latency_ms": None},
        {"outage": 1},
        {"status": 200},
        {"rate_limit_per_minute": "many"},
        {"rate_limit_per_minute": True},
        {"é": 1},
    ],
)
async def test_a_fault_that_does_not_exist_is_refused_and_changes_nothing(
    sandbox: Sandbox, wanted: dict[str, Any]
) -> None:
    await sandbox.faults(latency_ms=1)
    answer = await sandbox.admin.put("/_admin/faults", json=wanted)
    assert answer.status_code == 422
    assert ascii(next(iter(wanted)))[1:-1] in answer.json()["message"]
    assert sandbox.state.faults.latency_ms == 1


async def test_what_reached_the_sandbox_is_shown_without_the_key(sandbox: Sandbox) -> None:
    key_id, key = await sandbox.key(await sandbox.organization())
    await sandbox.http.get("/facilities?page=1", headers={**key, "X-Trace": "t"})
    await sandbox.http.delete("/nowhere", headers={"X-API-Key": "rc_live_" + "z" * 64})
    shown = await sandbox.admin.get("/_admin/requests")
    known, unknown = shown.json()
    assert (known["method"], known["path"], known["query"], known["key"]) == ("GET", "/facilities", ["page"], key_id)
    assert {"x-api-key", "x-trace"} <= set(known["headers"])
    assert (unknown["method"], unknown["path"], unknown["key"]) == ("DELETE", "/nowhere", None)
    assert "rc_live_" not in shown.text


async def test_admin_calls_are_not_among_the_requests(sandbox: Sandbox) -> None:
    await sandbox.organization()
    assert (await sandbox.admin.get("/_admin/requests")).json() == []


def test_only_the_latest_requests_are_kept() -> None:
    state = State()
    state.requests.extend({"number": number} for number in range(5_000))
    assert len(state.requests) == 1_000


async def test_the_sandbox_keeps_digests_of_keys_and_not_the_keys(sandbox: Sandbox) -> None:
    _, headers = await sandbox.customer()
    text = headers["X-API-Key"]
    kept = repr({name: getattr(sandbox.state, name) for name in vars(sandbox.state)})
    assert text not in kept
    assert text[8:] not in kept
    assert sandbox.state.key_of(text) is not None


async def test_a_key_is_minted_by_the_name_of_its_organization_which_is_made_if_need_be(sandbox: Sandbox) -> None:
    acme = await sandbox.organization("acme")
    for name in ("acme", "ACME", "globex"):
        made = await sandbox.admin.post("/_admin/keys", json={"organization": name})
        assert made.status_code == 201
        assert made.json()["organization"] == name.lower()
        seen = await sandbox.http.get("/facilities", headers={"X-API-Key": made.json()["key"]})
        assert ([one["id"] for one in seen.json()] == acme["facilities"]) == (name != "globex")
    for wrong in ({}, {"organization": " "}, {"organization": 7}):
        assert (await sandbox.admin.post("/_admin/keys", json=wrong)).status_code == 422
    assert (await sandbox.http.post("/_admin/keys", json={"organization": "acme"})).status_code == 401


async def test_all_that_it_knows_outlives_it_as_json_without_a_key(sandbox: Sandbox) -> None:
    organization, headers = await sandbox.customer("acme")
    asset = (await sandbox.http.post("/cyber-assets", headers=headers, json={"name": "RTU 9"})).json()
    revoked, gone = await sandbox.key(organization)
    await sandbox.admin.delete(f"/_admin/keys/{revoked}")
    kept = json.dumps(sandbox.state.document())
    assert headers["X-API-Key"] not in kept
    restored = create_sandbox(TOKEN, State.restored(json.loads(kept)))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=restored), base_url="http://sandbox") as http:
        assert asset in (await http.get("/cyber-assets", headers=headers)).json()
        assert (await http.get("/facilities", headers=gone)).status_code == 401
        new = (await http.post("/cyber-assets", headers=headers, json={"name": "RTU 10"})).json()
    assert new["id"] not in kept
