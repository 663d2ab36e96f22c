"""A first key is given once: requests for one that is there already, and labels that are used again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import CredentialRow
from broker.intake.proving import Links
from tests.support.world import World

PLACE = {"organization": "acme", "provider": "raptor-comply"}
ASKED = {**PLACE, "contact": "a@b.example"}


async def test_who_asks_for_a_key_that_is_in_use_is_told_the_command_that_replaces_it(world: World) -> None:
    credential = await world.key_for("acme")
    for path, body in (("/v1/intakes", ASKED), ("/v1/credentials", {**PLACE, "key": world.new_key("acme")})):
        refused = await world.call("POST", path, status=409, json=body)
        assert (refused["code"], refused["credential"]) == ("active_key_exists", credential)
        assert f"`broker key rotate {credential}`" in refused["detail"]
        assert "evoke" not in refused["detail"], "which would cut the customer's jobs off"
    # and that command does what it says, the key staying in use
    await world.rotate(credential)
    assert await world.states(credential) == ["active"]


async def test_who_asks_for_a_key_that_waits_for_a_decision_is_told_how_to_decide(world: World) -> None:
    # given a key that shows ids which nobody has seen before, beside one that shows others
    await world.key_for("acme")
    elsewhere = world.upstream.add_key(world.upstream.add_organization("acme-two", 2))[1]
    intake, secret = await world.request_key("acme", label="two")
    assert (await world.submit(intake, secret, elsewhere)).json()["state"] == "held"
    credential = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
    # then
    refused = await world.call("POST", "/v1/intakes", status=409, json={**ASKED, "label": "two"})
    assert f"`broker key activate {credential} --version 1`" in refused["detail"]
    assert f"`broker key revoke {credential} --version 1`" in refused["detail"]


async def test_a_second_request_for_the_same_first_key_is_shown_to_all_who_see_it(world: World) -> None:
    await world.organization("acme")
    first, secret = await world.request_key("acme")
    alone = (await world.open(first, secret)).json()
    other, _ = await world.request_key("acme", label="another")
    # when the same key is asked for again
    again = await world.call("POST", "/v1/intakes", status=201, json=ASKED)
    # then the operator sees the request that is open already, also when its link is made again, and the customer that
    # one of the links is enough
    assert [one["id"] for one in again["also_open"]] == [first]
    linked = await world.call("POST", f"/v1/intakes/{first}/link", json={})
    assert [one["id"] for one in linked["also_open"]] == [again["intake"]["id"]]
    opened = (await world.open(first, linked["link"].partition("#")[2])).json()
    assert (alone["also_asked"], opened["also_asked"]) == (False, True)
    # and not what asks for another key, or is over
    await world.call("POST", f"/v1/intakes/{first}/cancel")
    made = await world.call("POST", f"/v1/intakes/{again['intake']['id']}/link", json={})
    assert made["also_open"] == []
    assert (await world.call("GET", f"/v1/intakes/{other}"))["state"] == "open"


@pytest.mark.parametrize("when", ["before the page is opened", "while the page is open"])
async def test_a_customer_whose_key_was_given_over_another_link_has_nothing_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    # given two requests for one key, of which one is answered
    await world.organization("acme")
    first, second = await world.request_key("acme"), await world.request_key("acme")
    assert (await world.submit(*first, world.upstream_keys["acme"])).json()["state"] == "accepted"
    # when the other link is used
    if when == "while the page is open":
        real = Links._is_given
        given = iter([False, False])  # at opening, and in the proof of the submission

        async def not_yet(self: Links, row: Any) -> bool:
            return next(given, None) is not False and await real(self, row)

        monkeypatch.setattr(Links, "_is_given", not_yet)
    refused = await world.submit(*second, world.new_key("acme"))
    # then nothing is asked of them, least of all to revoke anything
    assert (refused.status_code, refused.json()["code"]) == (409, "key_given")
    assert refused.json()["detail"] == "A key was already given; nothing to do."
    (credential,) = (await world.call("GET", "/v1/credentials"))["items"]
    assert [version["state"] for version in credential["versions"]] == ["active"]


async def test_a_link_works_again_where_the_key_that_was_given_is_none(world: World) -> None:
    await world.organization("acme")
    first, second = await world.request_key("acme"), await world.request_key("acme")
    credential = await _accepted(world, first, world.upstream_keys["acme"])
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={})
    assert (await world.open(*second)).json()["state"] == "open"


async def _accepted(world: World, link: tuple[str, str], key: str) -> str:
    assert (await world.submit(*link, key)).json()["state"] == "accepted"
    return str((await world.call("GET", f"/v1/intakes/{link[0]}"))["credential"])


async def test_the_label_of_a_revoked_credential_is_used_again_by_a_new_one(world: World) -> None:
    # given a credential that was revoked, and a job that has a lease of it to this moment
    old = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", max_ttl=86_400)
    lease = await job.lease("acme", ttl=86_400)
    await world.call("POST", f"/v1/credentials/{old}/revoke", json={"reason": "a new contract"})
    assert (await job.ask("acme")).json()["code"] == "no_active_key"
    # when a key is asked for and given under the same label
    world.clock.forward(seconds=1)
    new = await _accepted(world, await world.request_key("acme"), world.new_key("acme"))
    # then it is another credential, and the old one stays as it was, with its history
    assert new != old
    listed = (await world.call("GET", "/v1/credentials", params={"organization": "acme"}))["items"]
    assert [(one["id"], one["state"], one["label"]) for one in listed] == [
        (old, "revoked", "default"),
        (new, "active", "default"),
    ]
    assert await world.states(old) == ["revoked"]
    assert len(await world.events(credential=old, kind="credential.revoked")) == 1
    # and grants for the label give the new key, but no lease of the old one does: revoked was for good
    assert (await job.lease("acme"))["lease"]["credential"] == new
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code, refused.json()["code"]) == (403, "key_revoked")
    # and it is rotated and revoked like every other
    await world.rotate(new)
    await world.call("POST", f"/v1/credentials/{new}/revoke", json={})
    assert (await job.ask("acme")).json()["code"] == "no_active_key"


async def test_a_pasted_key_takes_the_label_of_a_revoked_credential_too(world: World) -> None:
    old = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{old}/revoke", json={})
    made = await world.call("POST", "/v1/credentials", status=201, json={**PLACE, "key": world.new_key("acme")})
    assert (made["credential"] != old, made["verdict"]) == (True, "active")
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        labels = list(await session.scalars(select(CredentialRow.label)))
    assert labels == ["default", "default"]


async def test_a_link_from_before_a_revocation_makes_no_new_credential(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a second link for a key, whose credential is revoked
    await world.organization("acme")
    first, second = await world.request_key("acme"), await world.request_key("acme")
    credential = await _accepted(world, first, world.upstream_keys["acme"])
    world.clock.forward(seconds=1)

    async def not_yet(_self: Links, _row: Any) -> bool:
        await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
        return False

    # when it is used, by a page that was open before or by a new one
    with monkeypatch.context() as patch:
        patch.setattr(Links, "_is_withdrawn", not_yet)
        refused = [await world.submit(*second, world.new_key("acme"))]
    refused.append(await world.open(*second))
    # then it is over, as the credential is, and the worker closes it
    assert [answer.json()["code"] for answer in refused] == ["intake_cancelled", "intake_cancelled"]
    await world.call("POST", f"/v1/intakes/{second[0]}/link", status=410, json={})
    await world.work()
    assert (await world.call("GET", f"/v1/intakes/{second[0]}"))["state"] == "expired"
    assert len((await world.call("GET", "/v1/credentials"))["items"]) == 1
