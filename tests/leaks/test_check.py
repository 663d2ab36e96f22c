"""The broker says which candidates are keys of ours, and to whom they belong only to who may know."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import update

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from tests.support.world import World

OTHER = "rc_live_" + "k9Zq" * 16


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def check(
    world: World, *keys: str, as_: dict[str, str] | None = None, status: int = 200, folder: str = "src"
) -> Any:
    candidates = [{"digest": digest(key), "place": f"{folder}/app.py:{line}"} for line, key in enumerate(keys, 1)]
    return await world.call("POST", "/v1/leaks/check", as_=as_, status=status, json={"candidates": candidates})


async def told_of(world: World, credential: str) -> list[dict[str, Any]]:
    notices = (await world.call("GET", "/v1/notices"))["items"]
    return [
        one for one in notices if one["kind"] in {"leak_found", "dead_key_found"} and one["credential"] == credential
    ]


async def test_our_keys_are_recognised_and_others_are_not(world: World) -> None:
    credential = await world.key_for("acme")
    ours, other = (await check(world, world.upstream_keys["acme"], OTHER))["items"]
    assert (ours["ours"], ours["credential"], ours["version"], ours["state"]) == (True, credential, 1, "active")
    assert (other["ours"], other["credential"]) == (False, None)


async def test_who_may_not_see_the_organization_learns_nothing_of_it(world: World) -> None:
    await world.key_for("acme")
    await world.organization("globex")
    limited = await world.operator("olga", "security", organizations=["globex"])
    job = await world.job("ci")
    for headers in (limited, await job.headers()):
        (item,) = (await check(world, world.upstream_keys["acme"], as_=headers))["items"]
        assert {name for name, value in item.items() if value} == {"digest", "ours"}
    await check(world, OTHER, as_={}, status=401)
    assert (await world.call("GET", "/v1/leaks/findings", as_=limited))["items"] == []


async def test_a_finding_is_recorded_once_for_each_place_and_operators_are_told(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job("ci")
    for _ in range(3):
        await check(world, world.upstream_keys["acme"], world.upstream_keys["acme"], as_=await job.headers())
    findings = (await world.call("GET", "/v1/leaks/findings"))["items"]
    assert sorted(one["place"] for one in findings) == ["src/app.py:1", "src/app.py:2"]
    events = await world.events(kind="leak.found")
    assert [(one["core"]["credential"], one["core"]["actor"]["id"]) for one in events] == [(credential, job.id)] * 2
    assert len(await world.events(kind="leak.checked")) == 3


async def test_a_key_that_is_often_in_a_place_is_one_event_with_the_count(world: World) -> None:
    await world.key_for("acme")
    candidate = {"digest": digest(world.upstream_keys["acme"]), "place": "app.log:1", "count": 1_000}
    await world.call("POST", "/v1/leaks/check", json={"candidates": [candidate, {**candidate, "count": 2_000}]})
    (event,) = await world.events(kind="leak.found")
    assert event["personal"]["note"] == "app.log:1 (3000 times)"
    (finding,) = (await world.call("GET", "/v1/leaks/findings"))["items"]
    assert finding["place"] == "app.log:1"


async def test_a_key_that_is_found_everywhere_is_one_alarm_a_day(world: World) -> None:
    credential = await world.key_for("acme")
    await check(world, *[world.upstream_keys["acme"]] * 61)
    (told,) = await told_of(world, credential)
    assert told["severity"] == "urgent"
    assert "src/app.py:1 (places: 61)" in told["text"]

    # a fresh checkout elsewhere on the same day, then the next day
    await check(world, world.upstream_keys["acme"], folder="checkout-2")
    assert len(await told_of(world, credential)) == 1
    world.clock.forward(hours=24)
    await check(world, world.upstream_keys["acme"], folder="checkout-3")
    assert len(await told_of(world, credential)) == 2
    assert len((await world.call("GET", "/v1/leaks/findings"))["items"]) == 63


async def test_a_dead_key_is_no_alarm(world: World) -> None:
    credential = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    await check(world, world.upstream_keys["acme"], folder="while-upstream-may-accept-it")
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()
    await check(world, world.upstream_keys["acme"])
    told = await told_of(world, credential)
    assert [(one["kind"], one["severity"]) for one in told] == [("leak_found", "urgent"), ("dead_key_found", "info")]


async def test_a_place_that_holds_the_key_is_kept_without_it(world: World) -> None:
    await world.key_for("acme")
    key = world.upstream_keys["acme"]
    candidate = {"digest": digest(key), "place": f"backup/{key}.txt:1 {OTHER}"}
    await world.call("POST", "/v1/leaks/check", json={"candidates": [candidate]})
    (finding,) = (await world.call("GET", "/v1/leaks/findings"))["items"]
    assert finding["place"] == "backup/….txt:1 …"
    kept = json.dumps([await world.events(), (await world.call("GET", "/v1/notices"))])
    assert key not in kept
    assert OTHER not in kept


async def test_a_key_that_was_given_twice_is_found_where_it_is_in_use(world: World) -> None:
    used, over, newer = [await world.key_for(slug) for slug in ("acme", "globex", "initech")]
    for credential in (over, newer):
        await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    fingerprint = world.services.parts.keys.leak_fingerprint(digest(OTHER))
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(VersionRow).values(leak_fingerprint=fingerprint))
    (item,) = (await check(world, OTHER))["items"]
    assert (item["credential"], item["state"]) == (used, "active")
    await world.call("POST", f"/v1/credentials/{used}/revoke", json={})
    (item,) = (await check(world, OTHER))["items"]
    assert item["credential"] == newer, "all are over: the newest"


async def test_a_key_is_recognised_long_after_it_was_destroyed(world: World) -> None:
    credential = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()
    (item,) = (await check(world, world.upstream_keys["acme"]))["items"]
    assert (item["ours"], item["state"]) == (True, "revoked")


async def test_a_key_from_before_there_were_marks_is_recognised_after_its_next_check(world: World) -> None:
    await world.key_for("acme")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(VersionRow).values(leak_fingerprint=None))
    assert (await check(world, world.upstream_keys["acme"]))["items"][0]["ours"] is False
    await world.work(hours=30)
    assert (await check(world, world.upstream_keys["acme"]))["items"][0]["ours"] is True
