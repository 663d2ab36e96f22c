"""What holds of every resource: repeats, pages, times, ids."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.credentials import manual_entry
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.keystore import KeystoreUnavailable
from broker.web.api import health
from broker.web.tables import IdempotencyRow
from tests.support.ids import nth
from tests.support.world import World

KEY = {"Idempotency-Key": "once"}


async def test_a_repeat_with_the_same_key_answers_the_same_and_does_nothing(world: World) -> None:
    body = {"slug": "acme", "name": "Acme"}
    first = await world.call("POST", "/v1/organizations", status=201, json=body, headers=KEY)
    again = await world.call("POST", "/v1/organizations", status=201, json=body, headers=KEY)
    assert again == first
    assert len(await world.events(kind="organization.created")) == 1
    # a new link's secret is answered again too, and is not readable where it is kept
    wanted = {"organization": "acme", "provider": "raptor-comply", "contact": "a@b.example"}
    link_key = {"Idempotency-Key": "link"}
    made = await world.call("POST", "/v1/intakes", status=201, json=wanted, headers=link_key)
    repeated = await world.call("POST", "/v1/intakes", status=201, json=wanted, headers=link_key)
    assert repeated["link"] == made["link"]
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        kept = list(await session.scalars(select(IdempotencyRow.answer_sealed)))
    assert not any(made["link"].encode() in answer for answer in kept)


async def test_a_key_that_the_release_before_was_given_answers_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, requests were told apart under a key that other uses had too."""
    body = {"slug": "acme", "name": "Acme"}
    with monkeypatch.context() as before:
        before.setattr(world.services.parts.keys, "idempotency", world.services.parts.keys.idempotency_previous)
        first = await world.call("POST", "/v1/organizations", status=201, json=body, headers=KEY)
    assert await world.call("POST", "/v1/organizations", status=201, json=body, headers=KEY) == first
    other = await world.call("POST", "/v1/organizations", status=422, json={"slug": "b", "name": "B"}, headers=KEY)
    assert "Idempotency-Key" in other["detail"]


async def test_a_customers_name_is_corrected_on_the_record_and_its_slug_stays(world: World) -> None:
    made = await world.call("POST", "/v1/organizations", status=201, json={"slug": "acme", "name": "Acne Power"})
    for _ in range(2):  # the second time changes nothing
        named = await world.call("POST", "/v1/organizations/acme/name", json={"name": "Acme Power"})
        assert named == {**made, "name": "Acme Power"}
    (event,) = await world.events(kind="organization.renamed")
    assert (event["core"]["organization"], event["personal"]["note"]) == (made["id"], "Acne Power -> Acme Power")
    assert await world.call("GET", "/v1/organizations/acme") == named, "it is still vouched for"
    refused = await world.call("POST", "/v1/organizations/acme/name", status=422, json={"name": made["id"]})
    assert refused["detail"] == "name: has the form of an id; choose another."
    await world.call("POST", "/v1/organizations/nobody/name", status=404, json={"name": "x"})


async def test_what_was_looked_for_in_the_record_is_on_it_as_fields(world: World) -> None:
    """So who looked at a customer's key is found by that key."""
    acme, credential, lease = await world.organization("acme"), nth("crd"), nth("lse")
    job = await world.job()
    wanted = {"organization": "acme", "credential": credential, "lease": lease, "workload": "sync", "operator": "ada"}
    await world.items("/v1/audit/events", kind="lease.*", decision="denied", outcome="failed", **wanted, limit=10)
    event = (await world.events(kind="audit.read", credential=credential))[0]
    core = event["core"]
    assert (core["organization"], core["credential"], core["lease"]) == (acme["id"], credential, lease)
    assert core["workload"] == job.id
    (ada,) = [one["id"] for one in await world.items("/v1/operators") if one["name"] == "ada"]
    assert core["reason"] == f"kind=lease.,operators={ada},decision=denied,outcome=failed"
    assert "note" not in event["personal"]


async def test_what_was_looked_for_as_an_id_and_is_none_is_no_part_of_the_core(world: World) -> None:
    """That holds ids and words of lists only, whatever somebody looks for."""
    for name in ("actor", "credential", "lease", "request"):
        await world.items("/v1/audit/events", **{name: "rc_live_1"})
        event = (await world.events(kind="audit.read"))[-2]
        assert "rc_live_1" not in str(event["core"])
        assert event["personal"]["note"] == "rc_live_1"


async def test_the_same_key_for_another_request_is_a_mistake(world: World) -> None:
    await world.call("POST", "/v1/organizations", status=201, json={"slug": "a", "name": "A"}, headers=KEY)
    other = await world.call("POST", "/v1/organizations", status=422, json={"slug": "b", "name": "B"}, headers=KEY)
    assert "Idempotency-Key" in other["detail"]


async def test_the_same_key_for_another_address_is_a_mistake(world: World) -> None:
    one, two = await world.job("one"), await world.job("two")
    await world.call("POST", f"/v1/workloads/{one.id}/revoke", json={}, headers=KEY)
    other = await world.call("POST", f"/v1/workloads/{two.id}/revoke", status=422, json={}, headers=KEY)
    assert "Idempotency-Key" in other["detail"]


async def test_repeats_at_once_do_it_once_and_all_have_its_answer(world: World) -> None:
    job = await world.job()
    await world.organization("acme")
    grant = {"workload": job.id, "organizations": ["acme"], "provider": "raptor-comply", "modes": ["use"]}
    link = {"organization": "acme", "provider": "raptor-comply", "contact": "a@b.example"}
    wanted = {"/v1/organizations": {"slug": "b", "name": "B"}, "/v1/grants": grant, "/v1/intakes": link}
    for path, body in wanted.items():
        headers = {**world.admin, "Idempotency-Key": f"at-once-{path}"}
        answers = await asyncio.gather(*(world.http.post(path, json=body, headers=headers) for _ in range(6)))
        assert [answer.status_code for answer in answers] == [201] * 6, path
        assert len({answer.text for answer in answers}) == 1, path
    for kind in ("organization.created", "grant.created", "intake.requested"):
        assert len(await world.events(kind=kind)) == (2 if kind == "organization.created" else 1), kind


async def test_a_repeated_paste_answers_the_same(world: World) -> None:
    await world.organization("acme")
    body = {"organization": "acme", "provider": "raptor-comply", "key": world.upstream_keys["acme"]}
    first = await world.call("POST", "/v1/credentials", status=201, json=body, headers=KEY)
    assert await world.call("POST", "/v1/credentials", status=201, json=body, headers=KEY) == first
    other = {**body, "key": "rc_live_" + "Z" * 64}
    assert (await world.call("POST", "/v1/credentials", status=422, json=other, headers=KEY))["code"] == "invalid"


@pytest.fixture
def slow_paste(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Pastes wait once they are begun: an event that one has, and one that lets them go on."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*given: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await manual_entry.add(*given)

    monkeypatch.setattr("broker.web.api.credentials.add", slow)
    return begun, go_on


async def test_a_repeat_of_a_paste_that_is_under_way_is_told_to_come_again(
    world: World, slow_paste: tuple[asyncio.Event, asyncio.Event]
) -> None:
    begun, go_on = slow_paste
    await world.organization("acme")
    body = {"organization": "acme", "provider": "raptor-comply", "key": world.upstream_keys["acme"]}
    first = asyncio.create_task(world.call("POST", "/v1/credentials", status=201, json=body, headers=KEY))
    await begun.wait()
    meanwhile = await world.call("POST", "/v1/credentials", status=409, json=body, headers=KEY)
    assert meanwhile["code"] == "request_under_way"
    go_on.set()
    made = await first
    assert await world.call("POST", "/v1/credentials", status=201, json=body, headers=KEY) == made


async def test_a_paste_whose_process_died_can_be_repeated_minutes_later(
    world: World, slow_paste: tuple[asyncio.Event, asyncio.Event]
) -> None:
    begun, go_on = slow_paste
    await world.organization("acme")
    body = {"organization": "acme", "provider": "raptor-comply", "key": world.upstream_keys["acme"]}
    first = asyncio.create_task(world.call("POST", "/v1/credentials", status=201, json=body, headers=KEY))
    await begun.wait()
    first.cancel()
    go_on.set()
    assert (await world.call("POST", "/v1/credentials", status=409, json=body, headers=KEY))["retry_after"]
    world.clock.forward(seconds=301)
    await world.call("POST", "/v1/credentials", status=201, json=body, headers=KEY)


async def test_a_paste_that_was_refused_can_be_repeated_at_once(world: World) -> None:
    body = {"organization": "acme", "provider": "raptor-comply", "key": "rc_live_" + "Z" * 64}
    await world.organization("acme")
    for _ in range(2):
        refused = await world.call("POST", "/v1/credentials", status=422, json=body, headers=KEY)
        assert refused["code"] == "key_refused_upstream"


async def test_keys_are_forgotten_after_a_day(world: World) -> None:
    await world.call("POST", "/v1/organizations", status=201, json={"slug": "a", "name": "A"}, headers=KEY)
    world.clock.forward(hours=25)
    await world.broker.worker.once()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert list(await session.scalars(select(IdempotencyRow.key))) == []


async def test_lists_page_by_cursor_without_gap_or_repeat(world: World) -> None:
    for number in range(7):
        await world.call("POST", "/v1/organizations", status=201, json={"slug": f"org-{number}", "name": "x"})
    for path, count in (("/v1/organizations", 7), ("/v1/audit/events", 8)):
        seen: list[Any] = []
        cursor = ""
        for _ in range(10):
            page = await world.call("GET", path, params={"limit": 3, "cursor": cursor})
            seen += [item.get("id") or item["index"] for item in page["items"]]
            cursor = page["next"]
            if not cursor or len(seen) >= count:
                break
        assert len(seen) == len(set(seen))
        assert len(seen) >= count


@pytest.mark.parametrize("cursor", ["x", "AAAA", "LTE=", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA="])
async def test_a_cursor_that_is_not_ours_is_refused_or_empty(world: World, cursor: str) -> None:
    answer = await world.http.get("/v1/audit/events", params={"cursor": cursor}, headers=world.admin)
    assert answer.status_code in {200, 422}


async def test_times_are_rfc_3339_utc_and_ids_carry_their_type(world: World) -> None:
    made = await world.organization("acme")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["created_at"])
    assert re.fullmatch(r"org_[0-9a-f]{32}", made["id"])


async def test_readiness_names_the_part_that_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await world.http.get("/readyz")).json() == {
        "status": "ok",
        "database": "ok",
        "keystore": "ok",
        "clock": "ok",
        "issuers": "ok",
    }

    async def down(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(EnvelopeKeystore, "seal", down)
        answer = await world.http.get("/readyz")
    assert (answer.status_code, answer.json()["keystore"], answer.json()["database"]) == (503, "ConnectionError", "ok")


async def test_a_load_balancer_keeps_a_broker_whose_keystore_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ready() -> tuple[int, str, str]:
        answer = await world.http.get("/readyz?need=database")
        return answer.status_code, answer.json()["database"], answer.json()["keystore"]

    async def away(*_: object) -> None:
        raise KeystoreUnavailable("", cause="sealed")

    async def silent(*_: object) -> None:
        await asyncio.sleep(60)

    async def no_database(*_: object) -> str:
        return "OSError"

    assert await ready() == (200, "ok", "ok")
    with monkeypatch.context() as patch:
        patch.setattr(EnvelopeKeystore, "seal", away)
        assert await ready() == (200, "ok", "sealed")
        assert (await world.http.get("/readyz")).status_code == 503
        patch.setattr(EnvelopeKeystore, "seal", silent)
        patch.setattr(health, "_TOLD_WITHIN_S", 0.05)
        assert await ready() == (200, "ok", "slow")
    monkeypatch.setattr(health, "_database", no_database)
    assert await ready() == (503, "OSError", "ok")
    assert (await world.http.get("/readyz?need=luck")).status_code == 422


async def test_metrics_name_routes_and_no_tenant(world: World) -> None:
    await world.organization("acme")
    await world.call("GET", "/v1/organizations/acme")
    text = (await world.http.get("/metrics")).text
    assert 'keybroker_requests_total{method="GET",route="/v1/organizations/{organization}",status="200"} 1.0' in text
    assert "acme" not in text


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59.999999-14:00"]
)
async def test_a_time_that_no_answer_can_show_is_refused(world: World, moment: str) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    report = {"found_by": "Sven", "where": "a log", "since": moment}
    grant = {"workload": job.id, "organizations": ["acme"], "provider": "raptor-comply", "modes": ["use"]}
    for refused in (
        await world.call("POST", f"/v1/credentials/{credential}/exposure", status=422, json=report),
        await world.call("POST", "/v1/grants", status=422, json={**grant, "expires_at": moment}),
        await world.call("GET", "/v1/audit/events", status=422, params={"since": moment}),
        await world.call("GET", "/v1/audit/events", status=422, params={"until": moment}),
    ):
        assert "1970" in refused["detail"]
    latest = {**grant, "expires_at": "9999-12-31T23:59:59.999999Z"}
    made = await world.call("POST", "/v1/grants", status=201, json=latest)
    assert made["items"][0]["expires_at"] == "9999-12-31T23:59:59.999Z"


async def test_a_parameter_that_an_address_does_not_have_is_refused_by_name(world: World) -> None:
    await world.organization("acme")
    lists = [
        path
        for path, methods in world.app.openapi()["paths"].items()
        if path.startswith("/v1/") and "get" in methods and "{" not in path
    ]
    assert len(lists) >= 13
    for path in lists:
        refused = await world.call("GET", path, status=422, params={"stat": "active"})
        assert refused["code"] == "invalid"
        assert refused["detail"].startswith("stat: "), path
    # a reader who is told what there is finds what was meant
    assert (
        "there are: limit, cursor"
        in (await world.call("GET", "/v1/grants", status=422, params={"orgs": "x"}))["detail"]
    )
    # and so is one that is given twice, of which one would be forgotten, also where nothing is listed, and of a job
    await world.call("GET", "/v1/grants?organization=acme&organization=globex", status=422)
    await world.call("GET", "/v1/organizations/acme?state=active", status=422)
    await world.call("POST", "/v1/organizations/acme/revoke?dry_run=true", status=422, json={})
    assert (await world.call("GET", "/v1/organizations/acme"))["state"] == "active"
    job = await (await world.job()).headers()
    await world.call("GET", "/v1/leases?stat=active", status=422, as_=job)


async def test_a_key_that_stands_in_a_parameters_place_is_not_repeated(world: World) -> None:
    key = "rc_live_" + "S" * 64
    refused = await world.call("GET", "/v1/credentials", status=422, params={key: key})
    assert "SSSS" not in str(refused)


async def test_a_stranger_is_asked_for_a_token_before_parameters_are_looked_at(world: World) -> None:
    await world.call("GET", "/v1/grants?stat=active", status=401, as_={})
