"""Rotation without people at its limits: no key to work with, nobody who may, a pause, and what may be left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from broker.audit.events import BROKER
from broker.audit.tables import QuotaRow
from broker.base.db import EVERY_TENANT
from broker.base.validity import Validity
from broker.credentials import cooldown, pausing
from broker.credentials.verification import Verification
from broker.formats.ids import CredentialId
from broker.organizations.tables import OrganizationRow
from broker.rotations.minting import Minting
from broker.sandbox.state import Faults
from tests.support.crash import Crash
from tests.support.minting import begin, finished, live, minting_world
from tests.support.world import World


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    """A broker whose provider makes keys by its API."""
    async with minting_world(tmp_path, database_url) as made:
        yield made


async def dies(*_arguments: Any) -> Any:
    raise Crash


async def dies_before_it_keeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of the worker whose process ends right after upstream made the key."""

    with monkeypatch.context() as patched:
        patched.setattr(Minting, "_keep", dies)
        await world.work()


async def kinds_told(world: World) -> list[str]:
    return [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"]]


async def test_a_key_that_nobody_kept_is_deleted_as_soon_as_there_is_one_to_delete_it_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a key that was made and not kept, and the one in force exposed
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    await dies_before_it_keeps(world, monkeypatch)
    done = await world.call(
        "POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "a scanner", "where": "a log"}
    )
    await world.work(hours=2)
    name = f"keybroker-{rotation['id']}"
    assert [key.name for key in live(world)].count(name) == 1, "there is nothing to delete it with"

    # when the customer submits a new key
    path, _, secret = done["link"].partition("#")
    await world.submit(path.rpartition("/")[2], secret, world.new_key("acme"))
    await world.work(hours=2)

    # then it is gone
    assert name not in [key.name for key in live(world)]
    assert await world.states(credential) == ["revoked", "active"]
    assert "key_left_upstream" not in await kinds_told(world)


@pytest.mark.parametrize("kept", [False, True], ids=["not kept", "kept, not yet verified"])
async def test_people_are_told_of_a_key_that_may_be_left_when_its_credential_is_over(
    world: World, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    if kept:
        with monkeypatch.context() as patched:
            patched.setattr(Verification, "run", dies)
            await world.work()
        assert await world.states(credential) == ["active", "staged"]
    else:
        await dies_before_it_keeps(world, monkeypatch)
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    for _ in range(3):
        await world.work(hours=2)
    (told,) = [one for one in (await world.call("GET", "/v1/notices"))["items"] if one["kind"] == "key_left_upstream"]
    assert f"keybroker-{rotation['id']}" in told["text"]


async def test_an_answer_without_ids_holds_no_key_that_was_made_with_the_one_before(world: World) -> None:
    await world.organization("acme", facilities=0)
    wanted = {"organization": "acme", "provider": "raptor-comply", "key": world.upstream_keys["acme"]}
    credential = (await world.call("POST", "/v1/credentials", status=201, json=wanted))["credential"]
    rotation = await begin(world, credential)
    await world.work()
    assert (await world.rotation(rotation))["state"] == "grace"
    await finished(world, credential)


async def test_a_made_key_whose_ids_are_anothers_is_not_used(world: World) -> None:
    credential = await world.key_for("acme")
    await world.key_for("borealis")
    rotation = await begin(world, credential)
    there = {one.name: one for one in world.upstream.organizations.values()}
    there["acme"].owned = there["borealis"].owned
    await world.work()
    assert (await world.rotation(rotation))["state"] == "requested"
    assert await world.states(credential) == ["active", "destroyed"]


async def test_no_key_is_made_while_the_customer_pauses_theirs(world: World) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    await pause(world, credential)
    world.upstream.requests.clear()
    for _ in range(30):
        await world.work(hours=2)
    assert list(world.upstream.requests) == [], "nobody uses it, not even the broker"
    await resume(world, credential)
    await world.work(hours=2)
    assert (await world.rotation(rotation))["state"] == "grace"
    await finished(world, credential)


async def pause(world: World, credential: CredentialId) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await pausing.pause(session, BROKER, credential, now=world.clock())


async def resume(world: World, credential: CredentialId) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await pausing.resume(session, BROKER, credential, now=world.clock())


async def test_no_key_is_made_for_an_organization_that_was_cut_off(world: World) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    await world.call("POST", "/v1/organizations/acme/revoke", json={})
    await world.work(hours=2)
    assert (await world.rotation(rotation))["state"] == "cancelled"
    assert len(live(world)) == 1
    assert await world.events(kind="rotation.call.*") == []


async def test_no_key_is_made_for_an_organization_whose_credentials_are_not_cut_off_yet(world: World) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(OrganizationRow).values(state=Validity.REVOKED))
    await world.broker.worker.duties["make_keys"].run()
    assert await world.states(credential) == ["active"]
    assert await world.events(kind="rotation.call.*") == []


async def test_an_upstream_that_asks_to_slow_down_is_left_alone_and_nobody_is_told(world: World) -> None:
    # given a pause that a job's call met
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await cooldown.cool_down(session, credential, 30, world.clock())
    world.upstream.requests.clear()
    await world.broker.worker.duties["make_keys"].run()
    assert list(world.upstream.requests) == []

    # and one that the broker met itself
    world.clock.forward(seconds=31)
    world.upstream.faults = Faults(rate_limit_per_minute=0)
    await world.broker.worker.duties["make_keys"].run()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        paused = await session.get_one(QuotaRow, cooldown.cooldown_id(credential))
    assert paused.value > world.clock()
    assert "mint_failed" not in await kinds_told(world)

    # then it goes on afterwards
    world.upstream.faults = Faults()
    await world.work(hours=1)
    assert (await world.rotation(rotation))["state"] == "grace"
