"""Cutting an organization off takes its credentials along: their keys die here at once, and then upstream."""

from __future__ import annotations

from sqlalchemy import update

from broker.base.db import EVERY_TENANT
from broker.organizations.tables import OrganizationRow
from tests.support.world import World


async def submitted(world: World, slug: str) -> str:
    """A customer who gave their key over a link; the credential's id."""
    await world.organization(slug)
    intake, secret = await world.request_key(slug)
    await world.submit(intake, secret, world.upstream_keys[slug])
    listed = (await world.call("GET", "/v1/credentials", params={"organization": slug}))["items"]
    return str(listed[0]["id"])


async def told(world: World, credential: str) -> list[str]:
    items = (await world.call("GET", "/v1/notices"))["items"]
    return [item["kind"] for item in items if item["credential"] == credential]


async def test_its_keys_are_revoked_here_and_their_revocation_upstream_asked_for_and_confirmed(world: World) -> None:
    acme, borealis = await submitted(world, "acme"), await submitted(world, "borealis")
    await world.call("POST", "/v1/organizations/acme/revoke", json={"reason": "the contract ended"})
    assert (await world.states(acme), await world.states(borealis)) == (["revoked"], ["active"])
    (done,) = await world.events(kind="credential.revoked")
    assert (done["core"]["credential"], done["core"]["reason"]) == (acme, "organization_revoked")

    await world.work()
    assert await told(world, acme) == ["revocation_wanted"]
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=1)
    (version,) = await world.versions(acme)
    assert version["revocation_confirmed_at"] is not None


async def test_to_cut_off_again_changes_nothing(world: World) -> None:
    await submitted(world, "acme")
    for _ in range(2):
        done = await world.call("POST", "/v1/organizations/acme/revoke", json={})
        assert done["state"] == "revoked"
    for kind in ("organization.revoked", "credential.revoked"):
        assert len(await world.events(kind=kind)) == 1


async def test_what_an_organization_has_left_is_cut_off_afterwards(world: World) -> None:
    # given a credential whose organization was cut off without it: by an earlier release, or in the same moment
    acme = await submitted(world, "acme")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(OrganizationRow).values(state="revoked", revoked_at=world.clock()))
    world.upstream.requests.clear()
    await world.broker.worker.duties["check_health"].run()
    assert list(world.upstream.requests) == [], "nothing is done with its key"
    await world.work()
    assert await world.states(acme) == ["revoked"]
