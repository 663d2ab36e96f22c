"""What lists are narrowed by, and in which order they come: what is found is what shows what was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from broker.base import paging
from broker.base.clock import DAY_MS, later, rfc3339
from broker.base.db import EVERY_TENANT
from broker.grants.tables import GrantRow
from broker.identity.tables import AccountRow
from tests.support.world import World

_UPSTREAM = {"provider": "raptor-comply"}


async def _shown(world: World, path: str, member: str = "id", **wanted: Any) -> list[Any]:
    return [one[member] for one in await world.items(path, **wanted)]


async def _agrees(world: World, path: str, states: set[str], **wanted: Any) -> None:
    """Each state finds what shows it, and all together find everything."""
    everything = await world.items(path, limit=500, **wanted)
    assert {one["state"] for one in everything} >= states
    operation = world.app.openapi()["paths"][path]["get"]
    (parameter,) = [one for one in operation["parameters"] if one["name"] == "state"]
    for state in (choices := _choices(world, parameter["schema"])):
        found = await world.items(path, limit=500, state=state, **wanted)
        assert found == [one for one in everything if one["state"] == state], state
    assert {one["state"] for one in everything} <= set(choices)
    await world.call("GET", path, status=422, params={"state": "nosuch"})
    await world.call("GET", path, status=422, params={"state": ""})


def _choices(world: World, schema: dict[str, Any]) -> list[str]:
    (one,) = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    if "$ref" in one:
        one = world.app.openapi()["components"]["schemas"][one["$ref"].rsplit("/", 1)[-1]]
    choices: list[str] = one["enum"]
    return choices


async def test_organizations_are_found_by_state_and_by_a_part_of_their_name_or_slug(world: World) -> None:
    for slug, name in (("acme-power", "ACME Öl & Gas"), ("globex", "100% Wind_Kraft"), ("initech", "Initech")):
        await world.call("POST", "/v1/organizations", status=201, json={"slug": slug, "name": name})
    await world.call("POST", "/v1/organizations/initech/revoke", json={})
    path = "/v1/organizations"
    await _agrees(world, path, {"active", "revoked"})
    for name, found in {
        "acme": ["acme-power"],
        "POWER": ["acme-power"],
        "öl": ["acme-power"],
        "ÖL &": ["acme-power"],
        "E": ["acme-power", "globex", "initech"],
        # what would be a wildcard is a letter like any other
        "%": ["globex"],
        "d_k": ["globex"],
        "a_m": [],
        "%acme%": [],
        "\\": [],
        "/": [],
        "'": [],
    }.items():
        assert await _shown(world, path, "slug", name=name) == found, name
    assert await _shown(world, path, "slug", name="ini", state="active") == []
    await world.call("GET", path, status=422, params={"name": ""})
    await world.call("GET", path, status=422, params={"name": "a\0b"})


async def test_jobs_are_found_by_state_and_by_a_part_of_their_name(world: World) -> None:
    for name in ("nightly-sync", "night_watch", "report"):
        ended = await world.job(name)
    await world.call("POST", f"/v1/workloads/{ended.id}/revoke", json={})
    await _agrees(world, "/v1/workloads", {"active", "revoked"})
    assert await _shown(world, "/v1/workloads", "name", name="NIGHT") == ["nightly-sync", "night_watch"]
    assert await _shown(world, "/v1/workloads", "name", name="t_w") == ["night_watch"]
    assert await _shown(world, "/v1/workloads", "name", name="report", state="active") == []


async def test_accounts_are_found_by_the_state_that_they_show(world: World) -> None:
    for name in ("Zoe", "Bob", "Öslem", "zoltan"):
        await world.machine(name, "operator")
    ids = {one["name"]: one["id"] for one in await world.items("/v1/operators")}
    await world.call("POST", f"/v1/operators/{ids['Bob']}/revoke")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(AccountRow).where(AccountRow.name == "zoltan").values(roles=["admin"]))
    world.clock.forward(hours=24 * 91)
    await _agrees(world, "/v1/operators", {"active", "expired", "revoked", "altered"})
    assert await _shown(world, "/v1/operators", "name", name="ZO") == ["Zoe", "zoltan"]
    assert await _shown(world, "/v1/operators", "name", name="öS") == ["Öslem"]
    # pages go on after what was left out
    first = await world.call("GET", "/v1/operators", params={"name": "zo", "limit": 1})
    rest = await world.call("GET", "/v1/operators", params={"name": "zo", "limit": 1, "cursor": first["next"]})
    assert ([one["name"] for one in rest["items"]], rest["next"]) == (["zoltan"], None)


async def test_a_key_is_found_by_its_address_and_told_from_its_predecessor(world: World) -> None:
    first = await world.key_for("acme")
    await world.key_for("globex", label="other")
    await world.call("POST", f"/v1/credentials/{first}/revoke", json={})
    wanted = {"organization": "acme", "key": world.new_key("acme"), **_UPSTREAM}
    second = (await world.call("POST", "/v1/credentials", status=201, json=wanted))["credential"]
    path, address = "/v1/credentials", {"organization": "acme", "provider": "raptor-comply", "label": "default"}
    await _agrees(world, path, {"active", "revoked"})
    assert await _shown(world, path, **address, state="active") == [second]
    assert await _shown(world, path, **address, state="revoked") == [first]
    assert await _shown(world, path, **address) == [first, second]
    assert await _shown(world, path, "label", label="other") == ["other"]
    for nothing in ({"label": "other", "organization": "acme"}, {"provider": "github"}, {"label": "defaul"}):
        assert await _shown(world, path, **nothing) == []
    assert await _shown(world, path, only="never_used", label="default") == [second]
    await world.call("GET", path, status=422, params={"label": ""})
    await world.call("GET", path, status=404, params={**address, "organization": "nosuch"})


async def test_requests_are_found_by_the_state_that_they_show_also_before_the_worker_comes(world: World) -> None:
    await world.organization("acme")
    over, _ = await world.request_key("acme", hours=1)
    cancelled, _ = await world.request_key("acme", label="second")
    await world.call("POST", f"/v1/intakes/{cancelled}/cancel")
    taken, secret = await world.request_key("acme", label="third")
    await world.submit(taken, secret, world.upstream_keys["acme"])
    open_, _ = await world.request_key("acme", label="fourth", hours=48)
    world.clock.forward(hours=2)
    await _agrees(world, "/v1/intakes", {"open", "expired", "cancelled", "accepted"})
    assert await _shown(world, "/v1/intakes", state="expired") == [over]
    await world.broker.worker.once()
    await _agrees(world, "/v1/intakes", {"open", "expired", "cancelled", "accepted"})
    assert await _shown(world, "/v1/intakes", label="fourth", provider="raptor-comply") == [open_]
    assert await _shown(world, "/v1/intakes", provider="github") == []


async def test_grants_are_found_by_the_state_that_they_show(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    limits: list[dict[str, Any]] = [
        {},
        {"label": "second"},
        {"expires_at": "9999-01-01T00:00:00Z"},
        {"label": "third"},
        {},
    ]
    made = [await world.grant(job, "acme", **more) for more in limits]
    over = await world.grant(job, "acme", expires_at=rfc3339(world.clock() + 1_800_000))
    await world.call("POST", f"/v1/grants/{made[3]}/revoke", json={})
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(GrantRow).where(GrantRow.id == made[4]).values(max_ttl=1))
        for days, waits in ((0, made[0]), (4, made[1])):
            row = await session.get_one(GrantRow, waits)
            row.needs_approval, row.created_at = True, later(row.created_at, -days * DAY_MS)
    await _agrees(world, "/v1/grants", {"active", "waiting", "expired", "revoked", "altered"})
    assert await _shown(world, "/v1/grants", waiting=True) == [made[0]]
    assert await _shown(world, "/v1/grants", waiting=True, state="active") == []
    assert over in await _shown(world, "/v1/grants", state="active")
    world.clock.forward(hours=1)
    assert await _shown(world, "/v1/grants", state="expired") == [made[1], over]
    await _agrees(world, "/v1/grants", {"active", "waiting", "expired", "revoked", "altered"})
    # a label finds what covers it: grants that name it, and those that name none
    assert await _shown(world, "/v1/grants", label="second") == [made[0], made[1], made[2], made[4], over]
    assert await _shown(world, "/v1/grants", provider="github") == []


async def test_leases_are_found_by_the_state_that_they_show(world: World) -> None:
    await world.key_for("acme")
    job, other = await world.job(), await world.job("other")
    await world.grant(job, "acme")
    await world.grant(other, "acme")
    leases = [(await job.lease("acme", ttl=ttl))["lease"]["id"] for ttl in (1, 800, 800, 800)]
    theirs = (await other.lease("acme"))["lease"]["id"]
    await world.call("POST", f"/v1/leases/{leases[1]}/end", as_=await job.headers())
    await world.call("POST", f"/v1/leases/{leases[2]}/revoke", json={})
    world.clock.forward(seconds=10)
    await _agrees(world, "/v1/leases", {"active", "expired", "ended", "revoked"})
    assert await _shown(world, "/v1/leases", state="active", workload="sync") == [leases[3]]
    assert await _shown(world, "/v1/leases", workload=other.id) == [theirs]
    assert await _shown(world, "/v1/leases", provider="github") == []
    await world.call("GET", "/v1/leases", status=404, params={"workload": "nosuch"})
    # a job narrows its own alone
    headers = await job.headers()
    own = await world.call("GET", "/v1/leases", as_=headers, params={"state": "active", "workload": "sync"})
    assert [one["id"] for one in own["items"]] == [leases[3]]
    await world.call("GET", "/v1/leases", as_=headers, status=404, params={"workload": "other"})
    # and what was issued before the clock was set back doesn't stand, and isn't found as if it did
    world.clock.back(world.broker, hours=1)
    await _agrees(world, "/v1/leases", {"ended", "revoked"})


async def test_rotations_and_incidents_are_found_by_the_state_that_they_show(world: World) -> None:
    credential = await world.key_for("acme")
    await world.key_for("globex")
    rotation, intake, secret = await world.rotate(credential)
    key = world.new_key("acme")
    await world.submit(intake, secret, key)
    old = world.upstream_keys["acme"]
    await _agrees(world, "/v1/rotations", {"grace"})
    assert await _shown(world, "/v1/rotations", state="completed") == []
    assert await _shown(world, "/v1/rotations", provider="github") == []
    found = {"found_by": "Sven", "where": "a log"}
    exposed = await world.call("POST", f"/v1/credentials/{credential}/exposure", json={**found, "version": 1})
    theirs = (await world.items("/v1/credentials", organization="globex"))[0]["id"]
    other = await world.call("POST", f"/v1/credentials/{theirs}/exposure", json=found)
    assert [exposed["exposure"]["state"], other["exposure"]["state"]] == ["open", "open"]
    await _agrees(world, "/v1/exposures", {"open"})
    assert await _shown(world, "/v1/exposures", organization="acme") == [exposed["exposure"]["id"]]
    # once the upstream refuses the key, and another is in its place, there is nothing more to do
    world.revoke_upstream(old)
    await world.work(hours=1)
    await world.work(hours=24)
    await _agrees(world, "/v1/rotations", {"completed", "requested"})
    await _agrees(world, "/v1/exposures", {"open", "closed"})
    assert (await world.call("GET", f"/v1/exposures/{exposed['exposure']['id']}"))["state"] == "closed"
    # where the key is dead, but the next one hasn't come, there is
    world.revoke_upstream(world.upstream_keys["globex"])
    await world.work(hours=24)
    assert (await world.versions(theirs))[0]["revocation_confirmed_at"]
    assert await _shown(world, "/v1/exposures", state="open") == [other["exposure"]["id"]]
    assert rotation["id"] in await _shown(world, "/v1/rotations", state="completed")


async def test_webhooks_notices_and_findings_are_found_by_what_they_show(world: World) -> None:
    for slug in ("acme", "globex"):
        await world.key_for(slug)
        hook = {"url": f"https://hooks.example.com/{slug}", "organization": slug}
        made = (await world.call("POST", "/v1/webhooks", status=201, json=hook))["webhook"]["id"]
        credential = (await world.items("/v1/credentials", organization=slug))[0]["id"]
        await world.rotate(credential)
        await world.call("POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "x", "where": "y"})
    await world.call("POST", f"/v1/webhooks/{made}/revoke")
    await _agrees(world, "/v1/webhooks", {"active", "revoked"})
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    notices = await world.items("/v1/notices")
    kinds = {one["kind"] for one in notices}
    assert len(kinds) > 1
    for kind in kinds:
        assert await world.items("/v1/notices", kind=kind) == [one for one in notices if one["kind"] == kind]
    of_acme = await world.items("/v1/notices", organization="acme")
    assert of_acme == [one for one in notices if one["organization"] == acme] != []
    await world.call("GET", "/v1/notices", status=422, params={"kind": "nosuch"})
    await world.call("GET", "/v1/notices", status=404, params={"organization": "nosuch"})
    assert await world.items("/v1/leaks/findings", organization="acme") == []
    await world.call("GET", "/v1/leaks/findings", status=404, params={"organization": "nosuch"})


async def test_providers_and_versions_page_too(world: World) -> None:
    providers = await _shown(world, "/v1/providers")
    assert await _pages(world, "/v1/providers") == providers == sorted(providers)
    credential = await world.key_for("acme")
    _, intake, secret = await world.rotate(credential)
    await world.submit(intake, secret, world.new_key("acme"))
    path = f"/v1/credentials/{credential}/versions"
    first = await world.call("GET", path, params={"limit": 1})
    rest = await world.call("GET", path, params={"limit": 1, "cursor": first["next"]})
    assert [one["number"] for one in first["items"] + rest["items"]] == [1, 2]
    assert rest["next"] is None


async def _pages(world: World, path: str, **wanted: Any) -> list[str]:
    """All ids of a list, in pages of two."""
    found: list[str] = []
    cursor = ""
    for _ in range(50):
        page = await world.call("GET", path, params={**wanted, "limit": 2, "cursor": cursor})
        found += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found
    raise AssertionError("the list has no end")


@pytest.fixture
async def busy(world: World) -> World:
    """Several of everything that is looked at from the newest on; every other lease has an idempotency key."""
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    for number in range(5):
        headers = {"Idempotency-Key": f"once-{number}"} if number % 2 else {}
        await job.lease("acme", headers=headers)
        world.clock.forward(seconds=1)
        label = f"label-{number}"
        body = {"organization": "acme", "label": label, "key": world.new_key("acme"), **_UPSTREAM}
        made = (await world.call("POST", "/v1/credentials", status=201, json=body))["credential"]
        found = {"found_by": "x", "where": "y"}
        await world.call("POST", f"/v1/credentials/{made}/exposure", json=found)
    assert credential
    return world


@pytest.mark.parametrize("path", ["/v1/leases", "/v1/rotations", "/v1/exposures", "/v1/notices"])
async def test_the_newest_come_first_where_they_are_wanted(busy: World, path: str) -> None:
    time = {"/v1/leases": "issued_at", "/v1/rotations": "opened_at", "/v1/exposures": "reported_at"}.get(
        path, "created_at"
    )
    newest = await busy.items(path, order="newest")
    assert len(newest) >= 5
    times = [one[time] for one in newest]
    assert times == sorted(times, reverse=True)
    ids = [one["id"] for one in newest]
    assert sorted(ids) == sorted(await _shown(busy, path))
    assert await _shown(busy, path) == ids[::-1]
    # page by page there is no gap and no repeat, in either direction
    assert await _pages(busy, path, order="newest") == ids
    assert await _pages(busy, path) == ids[::-1]
    await busy.call("GET", path, status=422, params={"order": "random"})


async def test_a_cursor_goes_on_from_its_place_also_if_something_else_is_asked_for_meanwhile(busy: World) -> None:
    ids = await _shown(busy, "/v1/notices")
    page = await busy.call("GET", "/v1/notices", params={"limit": 3})
    rest = {"limit": 500, "cursor": page["next"]}
    assert await _shown(busy, "/v1/notices", **rest) == ids[3:]
    assert await _shown(busy, "/v1/notices", **rest, order="newest") == ids[1::-1]
    kind = (await busy.items("/v1/notices"))[-1]["kind"]
    of_kind = [one["id"] for one in await busy.items("/v1/notices", kind=kind) if one["id"] in ids[3:]]
    assert await _shown(busy, "/v1/notices", **rest, kind=kind) == of_kind
    # also of leases, which go by their time: another list's cursor names none
    leases = await _shown(busy, "/v1/leases", order="newest")
    page = await busy.call("GET", "/v1/leases", params={"limit": 2, "order": "newest"})
    rest = {"limit": 500, "cursor": page["next"], "order": "newest"}
    assert await _shown(busy, "/v1/leases", **rest, state="active") == leases[2:]
    assert await _shown(busy, "/v1/leases", **rest, state="ended") == []
    foreign = (await busy.call("GET", "/v1/notices", params={"limit": 1}))["next"]
    refused = await busy.call("GET", "/v1/leases", status=422, params={"cursor": foreign})
    assert refused["detail"].startswith("cursor:")


async def test_keys_and_the_requests_for_them_are_one_list(world: World) -> None:
    held = [await world.key_for(slug) for slug in ("acme", "globex")]
    asked = [(await world.request_key("acme", label=label))[0] for label in ("second", "third")]
    cancelled, _ = await world.request_key("acme", label="fourth")
    await world.call("POST", f"/v1/intakes/{cancelled}/cancel")

    def ids(found: list[dict[str, Any]]) -> list[str]:
        return [(one["credential"] or one["request"])["id"] for one in found]

    assert ids(await world.items("/v1/keys")) == [*held, *asked]
    assert ids(await world.items("/v1/keys", order="newest")) == [*held[::-1], *asked[::-1]]
    assert ids(await world.items("/v1/keys", organization="acme")) == [held[0], *asked]
    assert ids(await world.items("/v1/keys", organization="acme", label="third")) == [asked[1]]
    assert {one["kind"] for one in await world.items("/v1/keys", organization="globex")} == {"key"}
    # page by page there is no gap and no repeat, wherever a page ends
    for limit in (1, 2, 3):
        found, cursor = [], ""
        for _ in range(10):
            page = await world.call("GET", "/v1/keys", params={"limit": limit, "cursor": cursor})
            found += ids(page["items"])
            assert len(page["items"]) <= limit
            cursor = page["next"]
            if cursor is None:
                break
        assert found == [*held, *asked], limit
    limited = await world.operator("ann", "operator", organizations=["globex"])
    assert ids((await world.call("GET", "/v1/keys", as_=limited))["items"]) == [held[1]]


async def test_what_no_index_has_is_looked_for_in_so_many_rows_a_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "LOOKED_AT", 2)
    for slug in ("one-a", "two-b", "three-b", "four-b", "five-a"):
        await world.call("POST", "/v1/organizations", status=201, json={"slug": slug, "name": slug})
    for order, wanted in (("oldest", ["one-a", "five-a"]), ("newest", ["five-a", "one-a"])):
        found: list[str] = []
        sizes: list[int] = []
        cursor: str | None = ""
        while cursor is not None:
            asked = {"name": "-a", "limit": 1, "cursor": cursor, "order": order}
            page = await world.call("GET", "/v1/organizations", params=asked)
            found += [one["slug"] for one in page["items"]]
            sizes.append(len(page["items"]))
            cursor = page["next"]
        assert found == wanted
        assert 0 in sizes, "a page may be empty although there is a next one"


async def test_an_account_of_many_customers_reads_their_rows_in_one_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "AT_ONCE", 2)
    slugs = [f"org-{number}" for number in range(5)]
    for slug in slugs:
        await world.organization(slug)
    for label in ("a", "b", "c"):
        for slug in slugs:
            await world.request_key(slug, label=label)
    inside = slugs[:3]
    limited = await world.operator("ann", "operator", organizations=inside)
    everything = await world.items("/v1/intakes")
    wanted = [one["id"] for one in everything if one["organization_slug"] in inside]
    for order, ids in (("oldest", wanted), ("newest", wanted[::-1])):
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            asked = {"limit": 2, "cursor": cursor, "order": order}
            page = await world.call("GET", "/v1/intakes", as_=limited, params=asked)
            found += [one["id"] for one in page["items"]]
            cursor = page["next"]
        assert found == ids
