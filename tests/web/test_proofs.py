"""Receipts and exports over HTTP: who gets them, that getting them is on the record, and that they verify."""

from __future__ import annotations

import httpx2

from broker.client import verify
from tests.support.integrated import integrate, integrating, used
from tests.support.world import World

EXPORT = "/v1/audit/organizations/{}/export"


async def keys(world: World) -> list[verify.Key]:
    return verify.keys((await world.http.get("/v1/audit/log/key")).text)


async def get(world: World, path: str, as_: dict[str, str] | None = None, **params: str) -> httpx2.Response:
    return await world.http.get(path, params=params, headers=world.admin if as_ is None else as_)


def lines(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return answer.content.decode().splitlines(keepends=True)


async def test_the_receipt_of_a_use_verifies_without_the_broker(world: World) -> None:
    # given a use
    event = await used(world)
    # when security asks for its receipt
    path = f"/v1/audit/receipts/{event['core']['id']}"
    answer = await get(world, path)
    # then it proves the use, without its personal part
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{event["core"]["id"]}.tlog-proof"'
    proven = verify.receipt(answer.text, await keys(world))
    assert (proven.core, proven.personal) == (event["core"], None)
    # and with it, if they say so
    whole = verify.receipt((await get(world, path, personal="true")).text, await keys(world))
    assert whole.personal == event["personal"]
    # and both are on the record
    asked = await world.events(kind="audit.exported")
    assert [(one["core"]["subject"], one["core"]["reason"]) for one in asked] == [
        (event["core"]["id"], "core"),
        (event["core"]["id"], "personal"),
    ]


async def test_a_receipt_that_is_not_there_says_what_to_do(world: World) -> None:
    nobody = await get(world, "/v1/audit/receipts/evt_" + "0" * 32)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")
    assert "archive" in nobody.json()["detail"]
    (event,) = (await world.events())[:1]
    early = await get(world, f"/v1/audit/receipts/{event['core']['id']}")
    assert (early.status_code, early.json()["code"]) == (503, "not_in_the_log_yet")
    assert "broker worker" in early.json()["detail"]


async def test_an_export_has_all_of_an_organization_and_says_so_to_anybody(world: World) -> None:
    for slug in ("acme", "globex"):
        await world.key_for(slug)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    async with integrating(world):
        found = lines(await get(world, EXPORT.format("acme")))
        verified = verify.export(found, await keys(world))
        recorded = await world.events(organization="acme")
        assert (verified.organization, verified.events) == (
            acme,
            len([e for e in recorded if e["kind"] != "audit.read"]),
        )
        # that it was given out is in it, as the last event
        assert [event["kind"] for event in recorded if event["kind"] != "audit.read"][-1] == "audit.exported"
        # a later one goes on from a head before
        world.clock.forward(hours=1)
        await world.call("POST", "/v1/organizations/acme/name", json={"name": "Acme Power"})
        since = (await world.events(kind="organization.renamed"))[0]["time"]
        later = lines(await get(world, EXPORT.format(acme), since=since))
        assert verify.export(later, await keys(world)).since == verified.until
    assert len(later) < len(found)


async def test_who_may_not_see_an_organization_gets_nothing_of_it(world: World) -> None:
    for slug in ("acme", "globex"):
        await world.organization(slug)
    limited = await world.operator("eve", "security", organizations=["globex"])
    operator = await world.operator("oz", "operator")
    (made,) = await world.events(kind="organization.created", organization="acme")
    await integrate(world)
    receipt = f"/v1/audit/receipts/{made['core']['id']}"
    for path in (receipt, EXPORT.format("acme")):
        assert (await get(world, path, limited)).status_code == 404
        assert (await get(world, path, operator)).status_code == 403
    refused = await get(world, "/v1/audit/log/export", limited)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await get(world, "/v1/audit/log/export", {})).status_code == 401
    async with integrating(world):
        assert (await get(world, EXPORT.format("globex"), limited)).status_code == 200


async def test_all_of_the_log_is_exported_to_who_sees_all(world: World) -> None:
    await world.key_for("acme")
    await integrate(world)
    security = await world.operator("sec", "security")
    found = lines(await get(world, "/v1/audit/log/export", security))
    verified = verify.export(found, await keys(world))
    saved = verify.checkpoint((await get(world, "/v1/audit/log/checkpoint")).text, await keys(world))
    assert verified.checkpoint == saved


async def test_an_export_waits_for_a_worker_and_says_that_there_is_none(world: World) -> None:
    await world.organization("acme")
    answer = await get(world, EXPORT.format("acme"))
    assert (answer.status_code, answer.json()["code"]) == (503, "not_in_the_log_yet")
