"""Rotations beside everything else: revocations at the same moment, keys on their way in, tenants of one customer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from broker.audit.events import BROKER
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Conflict
from broker.base.secret import Secret
from broker.credentials import revocation
from broker.credentials.staging import Received, Sealing, stage
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.versions import CredentialAddress
from broker.formats.ids import CredentialId
from broker.sandbox.state import Faults
from tests.support.world import World


@pytest.fixture
async def acme(world: World) -> CredentialId:
    """A customer with a key in use; the credential's id."""
    return await world.key_for("acme")


async def rotate(world: World, credential: str) -> Any:
    return await world.http.post(
        f"/v1/credentials/{credential}/rotate", headers=world.admin, json={"contact": "admin@acme.example"}
    )


async def pasted(world: World, key: str, label: str = "default") -> dict[str, Any]:
    wanted = {"organization": "acme", "provider": "raptor-comply", "label": label, "key": key}
    made: dict[str, Any] = await world.call("POST", "/v1/credentials", status=201, json=wanted)
    return made


async def probe_at(world: World, credential: str, number: int, at: int) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(
            update(VersionRow)
            .where(VersionRow.credential_id == credential, VersionRow.number == number)
            .values(next_probe_at=at)
        )


async def test_a_rotation_that_waits_for_a_revocation_is_refused_once_that_is_done(
    world: World, acme: CredentialId
) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await revocation.revoke_credential(session, BROKER, acme, reason="", now=world.clock())
        waiting = asyncio.create_task(rotate(world, acme))
        await asyncio.sleep(0.5)  # long enough to have come to the rows that the revocation holds
        assert not waiting.done()
    refused = await waiting
    assert (refused.status_code, refused.json()["move"]) == (409, "rotate_revoked_credential")
    assert (await world.call("GET", "/v1/rotations"))["items"] == []


async def test_revoking_again_cuts_off_what_an_earlier_revocation_left(world: World, acme: CredentialId) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(CredentialRow).values(state="revoked", revoked_at=1))
    assert await world.states(acme) == ["active"]
    await world.call("POST", f"/v1/credentials/{acme}/revoke", json={})
    assert await world.states(acme) == ["revoked"]


@pytest.mark.parametrize("state", ["staged", "verified"])
async def test_a_key_that_is_on_its_way_in_is_settled_before_another_is_asked_for(world: World, state: str) -> None:
    # given a first key that upstream could not be asked about, or that waits for an operator
    acme = await world.key_for("acme")
    key = world.upstream.add_key(world.upstream.add_organization("stranger"))[1]
    world.upstream.faults = Faults(outage=state == "staged")
    second = (await pasted(world, key, "second"))["credential"]
    assert await world.states(second) == [state]
    # then no rotation begins beside it
    refused = await rotate(world, second)
    assert (refused.status_code, refused.json()["move"]) == (409, f"rotate_while_{state}")
    # while another credential's can
    assert (await rotate(world, acme)).status_code == 201


async def test_an_old_key_retires_also_where_none_was_in_use_when_its_rotation_began(
    world: World, acme: CredentialId
) -> None:
    # given a rotation that began with no key in use, and a key that came another way meanwhile
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/revoke", json={})
    rotation, intake, secret = await world.rotate(acme)
    await pasted(world, world.new_key("acme"))
    # when the customer answers it
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "accepted"
    assert await world.states(acme) == ["revoked", "retiring", "active"]
    assert (await world.rotation(rotation))["from_version"] == 2
    # then the key that was in use retires
    await world.work(hours=2)
    assert await world.states(acme) == ["revoked", "revoked", "active"]
    assert (await world.rotation(rotation))["state"] == "completed"


async def test_a_first_key_that_is_verified_late_does_not_take_over_from_one_in_use(
    world: World, acme: CredentialId
) -> None:
    # given a pasted key and a rotation's key, both received in an outage
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/revoke", json={})
    _, intake, secret = await world.rotate(acme)
    world.upstream.faults = Faults(outage=True)
    await pasted(world, world.new_key("acme"))
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "verifying"
    # when the rotation's is verified first
    world.upstream.faults = Faults()
    await probe_at(world, acme, 2, world.clock() + 1_800_000)
    await world.work(seconds=60)
    assert await world.states(acme) == ["revoked", "staged", "active"]
    await probe_at(world, acme, 2, 0)
    await world.work()
    # then the other one waits, and only a rotation could put it into use
    assert await world.states(acme) == ["revoked", "verified", "active"]
    refused = await world.call("POST", f"/v1/credentials/{acme}/versions/2/activate", status=409)
    assert refused["move"] == "activate_without_rotation"
    await world.call("POST", f"/v1/credentials/{acme}/versions/2/revoke", json={})
    assert (await rotate(world, acme)).status_code == 201


async def test_a_key_of_the_customers_other_tenant_is_held(world: World, acme: CredentialId) -> None:
    # given a customer with two tenants upstream, a credential for each
    other = world.upstream.add_organization("acme-eu")
    eu = (await pasted(world, world.upstream.add_key(other)[1], "eu"))["credential"]
    await world.call("POST", f"/v1/credentials/{eu}/versions/1/activate")
    await world.work()  # what the key shows is known from here on
    # when the key of one is to be replaced by a key of the other
    rotation, intake, secret = await world.rotate(acme)
    assert (await world.submit(intake, secret, world.upstream.add_key(other)[1])).json()["state"] == "held"
    # then an operator decides, and sees the facts of the key in use
    shown = await world.rotation(rotation)
    assert (shown["ids_of_new_key"], shown["ids_known_before"], shown["ids_in_both"]) == (3, 3, 0)
    # and each one's own is taken
    _, intake, secret = await world.rotate(eu)
    assert (await world.submit(intake, secret, world.upstream.add_key(other)[1])).json()["state"] == "accepted"


async def test_where_the_key_before_showed_nothing_what_other_credentials_showed_proves_nothing(
    world: World, acme: CredentialId
) -> None:
    empty = world.upstream.add_organization("acme-empty", facilities=0)
    second = (await pasted(world, world.upstream.add_key(empty)[1], "second"))["credential"]
    await world.call("POST", f"/v1/credentials/{second}/versions/1/activate")
    await world.work()
    rotation, intake, secret = await world.rotate(second)
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "held"
    shown = await world.rotation(rotation)
    assert (shown["ids_of_new_key"], shown["ids_known_before"], shown["ids_in_both"]) == (3, 0, 0)


async def test_after_an_operator_decided_for_a_key_the_next_is_compared_with_that(
    world: World, acme: CredentialId
) -> None:
    other = world.upstream.add_organization("acme-eu")
    rotation, intake, secret = await world.rotate(acme)
    assert (await world.submit(intake, secret, world.upstream.add_key(other)[1])).json()["state"] == "held"
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "accepted", "what the customer reads"
    await world.work(hours=2)
    rotation, intake, secret = await world.rotate(acme)
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "held"
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    _, intake, secret = await world.rotate(acme)
    assert (await world.submit(intake, secret, world.upstream.add_key(other)[1])).json()["state"] == "accepted"


async def test_a_key_that_was_never_verified_can_be_submitted_again_after_a_cancellation(
    world: World, acme: CredentialId
) -> None:
    rotation, intake, secret = await world.rotate(acme)
    world.upstream.faults = Faults(outage=True)
    key = world.new_key("acme")
    assert (await world.submit(intake, secret, key)).json()["state"] == "verifying"
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    world.upstream.faults = Faults()
    _, intake, secret = await world.rotate(acme)
    assert (await world.submit(intake, secret, key)).json()["state"] == "accepted"
    assert await world.states(acme) == ["retiring", "destroyed", "active"]


async def test_going_back_to_a_key_that_died_upstream_meanwhile_is_noticed_at_once(
    world: World, acme: CredentialId
) -> None:
    rotation, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.call("POST", f"/v1/rotations/{rotation['id']}/rollback", json={})
    await world.work()
    assert (await world.versions(acme))[0]["health"] == "failing"


async def test_keys_that_jobs_hold_for_long_keep_no_other_from_retiring(
    world: World, acme: CredentialId, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given more held keys than one round looks at, whose grace windows ended first
    from broker.rotations import duties
    from broker.rotations.retirement import retirable

    async def one_at_a_time(db: Database, clock: Clock) -> Any:
        return await retirable(db, clock, limit=1)

    monkeypatch.setattr(duties, "retirable", one_at_a_time)
    job = await world.job()
    await world.grant(job, "acme", modes=("reveal",), max_ttl=86_400)
    await job.lease("acme", mode="reveal", ttl=86_400)
    _, intake, secret = await world.rotate(acme, deadline_hours=12)
    await world.submit(intake, secret, world.new_key("acme"))
    world.clock.forward(seconds=60)
    free = (await pasted(world, world.new_key("acme"), "second"))["credential"]
    _, intake, secret = await world.rotate(free)
    await world.submit(intake, secret, world.new_key("acme"))
    # when the windows are over, then the one that nobody holds retires
    await world.work(hours=2)
    assert await world.states(acme) == ["retiring", "active"]
    assert await world.states(free) == ["revoked", "active"]
    # and the held one at its deadline
    await world.work(hours=11)
    assert await world.states(acme) == ["revoked", "active"]


async def test_who_was_shown_the_key_is_told_also_after_their_lease(world: World, acme: CredentialId) -> None:
    job = await world.job("sync")
    await world.grant(job, "acme", modes=("reveal",))
    await job.lease("acme", mode="reveal", ttl=300)
    world.clock.forward(hours=1)
    (holder,) = (await world.call("GET", f"/v1/credentials/{acme}/versions/1/holders"))["items"]
    assert (holder["open_leases"], holder["uses"], holder["reveals"]) == (0, 0, 1)
    assert holder["last_revealed"] is not None


async def test_a_rotations_key_goes_to_the_host_of_the_old_one_whatever_comes_with_it(
    world: World, acme: CredentialId
) -> None:
    _, intake, secret = await world.rotate(acme)
    answer = await world.submit(intake, secret, world.new_key("acme"), variables={"subdomain": "elsewhere"})
    assert answer.json()["state"] == "accepted"


async def test_a_rotations_key_for_another_host_is_not_staged(world: World, acme: CredentialId) -> None:
    rotation, _, _ = await world.rotate(acme)
    services = world.services
    address = CredentialAddress(rotation["organization"], services.parts.catalog.get("raptor-comply"), "default")
    key = Received(Secret(world.new_key("acme").encode()), {"subdomain": "elsewhere"}, rotation=rotation["id"])
    with pytest.raises(Conflict, match="A rotation keeps"):
        async with services.parts.db.write(Scope.of(address.organization)) as session:
            await stage(session, services.parts.keys, BROKER, address, key, Sealing(acme, 2, b""), now=world.clock())
    assert await world.states(acme) == ["active"]
