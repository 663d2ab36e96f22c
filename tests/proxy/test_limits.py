"""What grants limit: methods and paths, rate, number of uses; and calls without a lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.base.recent import Recent
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from tests.proxy.conftest import Bench, problem

ALLOWED = [("GET", "/facilities"), ("HEAD", "/facilities/fac_1"), ("GET", "/f%61cilities/fac_1")]
REFUSED = [
    ("POST", "/facilities"),
    ("DELETE", "/facilities/fac_1"),
    ("GET", "/facilities/fac_1/keys"),
    ("GET", "/facilities/"),
    ("GET", "/Facilities"),
    ("GET", "/users"),
    ("OPTIONS", "/facilities"),
]


async def test_a_preset_allows_its_methods_and_paths_only(either: Bench) -> None:
    lease = await either.lease(presets=["read-only"])
    for method, path in ALLOWED:
        assert (await either.call(lease, path, method)).status_code == 200, (method, path)
    before = len(either.lab.requests)
    for method, path in REFUSED:
        refused = await either.call(lease, path, method)
        assert problem(refused) == (403, "rule_refused"), (method, path)
        assert refused.json()["allowed"] == ["GET /facilities, /facilities/*"]
        assert lease["lease"]["grant"] in refused.json()["detail"]
        assert "--allow" in refused.json()["detail"]
    assert len(either.lab.requests) == before, "nothing was forwarded"
    denied = await either.world.events(kind="use.denied")
    assert [(event["core"]["target"]["method"], event["personal"]["path"]) for event in denied] == REFUSED
    assert {event["core"]["grant"] for event in denied} == {lease["lease"]["grant"]}


async def test_explicit_rules_add_up(bench: Bench) -> None:
    rules = [
        {"methods": ["GET"], "paths": ["/**"]},
        {"methods": ["POST", "PATCH"], "paths": ["/cyber-assets", "/cyber-assets/*"]},
    ]
    lease = await bench.lease(rules=rules)
    for method, path, status in (
        ("GET", "/anything/at/all", 200),
        ("POST", "/cyber-assets", 200),
        ("PATCH", "/cyber-assets/ca_1", 200),
        ("PATCH", "/cyber-assets/ca_1/x", 403),
        ("DELETE", "/cyber-assets/ca_1", 403),
        ("POST", "/facilities", 403),
    ):
        assert (await bench.call(lease, path, method)).status_code == status, (method, path)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"presets": ["write-only"]}, "presets: Lab has no 'write-only'; it has: read-only."),
        ({"rules": [{"methods": ["get"], "paths": ["/a"]}]}, "rules[0]: methods[0]: write GET,"),
        ({"rules": [{"methods": ["GET"], "paths": ["/a?b"]}]}, "rules[0]: paths: '/a?b' holds ?"),
        (
            {"rules": [{"methods": ["GET"], "paths": ["/**/a/**"]}]},
            "rules[0]: paths: '/**/a/**' holds more than",
        ),
        ({"rules": [{"methods": ["GET"], "paths": ["/a/../b"]}]}, "rules[0]: paths[0]: write a path"),
        ({"rate": {"uses": 0, "seconds": 1}}, "rate.uses"),
        ({"max_uses": 0}, "max_uses"),
        ({"modes": ["use", "reveal"], "presets": ["read-only"]}, "modes: a key that was seen can be used in any way"),
    ],
)
async def test_a_wrong_limit_is_refused_with_its_fix(bench: Bench, terms: dict[str, Any], field: str) -> None:
    wanted = {"workload": bench.job.id, "organizations": ["acme"], "provider": "lab", "modes": ["use"], **terms}
    refused = await bench.world.call("POST", "/v1/grants", status=422, json=wanted)
    assert field in refused["detail"]


async def test_a_provider_file_that_changes_later_widens_no_grant(bench: Bench) -> None:
    lease = await bench.lease(presets=["read-only"])
    definition = bench.world.services.parts.catalog.get("lab")
    definition.presets["read-only"] = definition.presets["read-only"].model_copy(update={"paths": ("/**",)})
    assert problem(await bench.call(lease, "/users")) == (403, "rule_refused")


async def test_a_rate_counts_all_leases_of_the_grant_together(either: Bench) -> None:
    lease = await either.lease(rate={"uses": 3, "seconds": 60})
    other = await either.job.lease("acme", provider="lab", grant=lease["lease"]["grant"])
    answers = await asyncio.gather(*(either.call(each, "/x", "POST") for each in (lease, other) * 4))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5
    assert len(either.lab.calls) == 3
    refused = await either.call(lease, "/x", "POST")
    assert problem(refused) == (429, "grant_rate_limited")
    assert 15 <= int(refused.headers["retry-after"]) <= 21
    either.world.clock.forward(seconds=int(refused.headers["retry-after"]))
    assert (await either.call(lease, "/x", "POST")).status_code == 200
    assert (await either.call(lease, "/x", "POST")).status_code == 429
    assert len(await either.world.events(kind="use.denied")) == 7


async def test_the_number_of_uses_is_exact_under_concurrency(either: Bench) -> None:
    lease = await either.lease(max_uses=5)
    answers = await asyncio.gather(*(either.call(lease, "/x") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [403] * 15
    assert len(either.lab.calls) == 5
    refused = await either.call(lease, "/x")
    assert problem(refused) == (403, "uses_exhausted")
    assert len(await either.world.events(kind="use.authorized")) == 5


@pytest.mark.parametrize("away", [KeystoreUnavailable("away", cause="sealed"), CannotOpen("altered"), None])
async def test_a_use_for_which_no_key_was_opened_is_given_back(
    either: Bench, away: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keystore is away, the key can't be opened, or the job leaves (None) while it is waited for."""
    lease = await either.lease(max_uses=3)
    waiting = asyncio.Event()

    async def closed(*_: Any) -> None:
        if away is not None:
            raise away
        waiting.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(either.world.services.parts.keystore, "open", closed)
        for _ in range(7):
            if away is not None:
                assert (await either.call(lease, "/x")).status_code == 503
            else:
                waiting.clear()
                call = asyncio.create_task(either.call(lease, "/x"))
                await waiting.wait()
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            await either.uses()
    # then: the grant's three uses are all there, and no more
    assert [(await either.call(lease, "/x")).status_code for _ in range(4)] == [200, 200, 200, 403]
    assert len(either.lab.calls) == 3


async def test_a_use_whose_upstream_gave_no_answer_stays_spent(bench: Bench) -> None:
    """It may have been carried out."""
    lease = await bench.lease(max_uses=1)

    async def cut(_seen: Any, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    bench.lab.scripts["/cut"] = cut
    refused = await bench.call(lease, "/cut", "POST")
    assert problem(refused) == (502, "upstream_unreachable")
    await bench.uses()
    assert problem(await bench.call(lease, "/x")) == (403, "uses_exhausted")


async def test_a_lease_names_one_of_several_grants_and_else_gets_the_broadest(bench: Bench) -> None:
    narrow = await bench.world.grant(bench.job, "acme", provider="lab", presets=["read-only"], max_ttl=7200)
    broad = await bench.world.grant(bench.job, "acme", provider="lab")
    assert (await bench.job.lease("acme", provider="lab"))["lease"]["grant"] == broad
    assert (await bench.job.lease("acme", provider="lab", grant=narrow))["lease"]["grant"] == narrow
    foreign = await bench.job.ask("acme", provider="lab", grant="grt_" + "0" * 32)
    assert problem(foreign) == (403, "no_grant")


async def test_a_call_without_a_lease_gets_one_where_the_grant_allows_it(either: Bench) -> None:
    headers = await either.job.headers()

    async def call(path: str, method: str = "GET", **more: str) -> Any:
        return await either.world.http.request(method, f"/proxy/acme/lab{path}", headers={**headers, **more})

    assert problem(await call("/x")) == (403, "no_grant")
    await either.world.grant(either.job, "acme", provider="lab")
    assert problem(await call("/x")) == (403, "lease_required")
    grant = await either.world.grant(either.job, "acme", provider="lab", presets=["read-only"], implicit=True)
    for _ in range(3):
        assert (await call("/facilities/1", **{"X-Broker-Purpose": "nightly"})).status_code == 200
    assert problem(await call("/facilities", "POST")) == (403, "rule_refused")
    issued = await either.world.events(kind="lease.issued")
    assert [(event["core"]["grant"], event["personal"]["note"]) for event in issued] == [(grant, "nightly")]
    assert len(await either.world.events(kind="use.authorized")) == 3
    # cut off like every other access
    await either.world.call("POST", f"/v1/leases/{issued[0]['core']['lease']}/revoke", json={})
    assert (await call("/facilities/1", **{"X-Broker-Purpose": "nightly"})).status_code == 200, "a new lease"
    await either.world.call("POST", f"/v1/grants/{grant}/revoke", json={})
    assert (await call("/facilities/1", **{"X-Broker-Purpose": "nightly"})).status_code == 403
    assert problem(await call("/x%2fy"))[1] == "path_refused"
    assert (await either.world.events(kind="use.denied"))[-1]["personal"]["actor_name"] == "sync"
    assert problem(await call("/x", **{"X-Broker-Label": "NOT A LABEL"}))[1] == "invalid"


async def test_the_purpose_that_is_used_most_keeps_its_lease_however_many_others_come(bench: Bench) -> None:
    bench.world.services.proxy.authorizer._implicit._kept = Recent(2)
    await bench.world.grant(bench.job, "acme", provider="lab", implicit=True)
    headers = await bench.job.headers()
    for other in range(3):
        for purpose in ("busy", f"other {other}"):
            got = await bench.world.http.get("/proxy/acme/lab/x", headers={**headers, "X-Broker-Purpose": purpose})
            assert got.status_code == 200
    issued = [event["personal"]["note"] for event in await bench.world.events(kind="lease.issued")]
    assert issued.count("busy") == 1


async def test_an_implicit_lease_needs_a_purpose_where_the_grant_does(bench: Bench) -> None:
    headers = await bench.job.headers()
    await bench.world.grant(bench.job, "acme", provider="lab", implicit=True, purpose_required=True)
    assert problem(await bench.world.http.get("/proxy/acme/lab/x", headers=headers)) == (403, "purpose_required")
    got = await bench.world.http.get("/proxy/acme/lab/x", headers={**headers, "X-Broker-Purpose": "audit"})
    assert got.status_code == 200


@pytest.mark.parametrize("purpose", [b"\xff", b"\xc2\x9b31m", b"\xe2\x80\xae", b"a\tb", b"p" * 1001])
async def test_a_purpose_that_may_not_be_kept_is_refused_at_the_door(either: Bench, purpose: bytes) -> None:
    await either.world.grant(either.job, "acme", provider="lab", implicit=True)
    headers = [(name.encode(), value.encode()) for name, value in (await either.job.headers()).items()]
    before = await either.world.events()
    got = await either.world.http.get("/proxy/acme/lab/x", headers=[*headers, (b"X-Broker-Purpose", purpose)])
    assert problem(got) == (422, "invalid")
    assert "X-Broker-Purpose" in got.json()["detail"]
    assert [one["kind"] for one in await either.world.events()][len(before) :] == ["audit.read"]


async def test_a_reveal_grant_alone_does_not_carry_a_proxied_use(bench: Bench) -> None:
    await bench.world.grant(bench.job, "acme", provider="lab", modes=("reveal",))
    lease = await bench.job.lease("acme", provider="lab", mode="reveal")
    assert problem(await bench.call(lease, "/x")) == (403, "mode_not_granted")
