"""A name is never taken for an id, nor an id for a name."""

from __future__ import annotations

from typing import Any

import pytest

from broker.base.db import EVERY_TENANT
from broker.formats import ids
from broker.grants.policy import AccessTarget
from broker.identity.tables import WorkloadRow
from broker.organizations.tables import OrganizationRow
from tests.support.world import World

HEX = "0123456789abcdef" * 2


@pytest.mark.parametrize("name", [f"wkl_{HEX}", f"org_{HEX}", f"WKL_{HEX.upper()}", f"wkl-{HEX}", f" opr_{HEX} "])
def test_what_reads_as_an_id_is_told(name: str) -> None:
    assert ids.is_like_an_id(name)


@pytest.mark.parametrize("name", ["sync", "wkl_sync", "nightly_" + HEX, f"wkl_{HEX}0", f"wkl_{HEX[:-1]}g", ""])
def test_other_names_are_none(name: str) -> None:
    assert not ids.is_like_an_id(name)


async def test_nobody_is_given_a_name_that_has_the_form_of_an_id(world: World) -> None:
    job = await world.job()
    for name in (job.id, f"grt_{HEX}", job.id.upper()):
        for path, body in (
            ("/v1/workloads", {"name": name, "jwks": {"keys": []}}),
            ("/v1/operators", {"name": name, "roles": ["security"]}),
            ("/v1/organizations", {"slug": "beta", "name": name}),
        ):
            refused = await world.call("POST", path, status=422, json=body)
            assert "form of an id" in refused["detail"], path
    assert (await world.call("POST", "/v1/organizations", status=422, json={"slug": "wkl-" + HEX, "name": "x"}))["code"]


async def rename(world: World, row: Any, key: str, **changes: str) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        found = await session.get_one(row, key)
        for name, value in changes.items():
            setattr(found, name, value)


async def test_a_job_that_was_named_as_another_ones_id_is_never_taken_for_it(world: World) -> None:
    """From before such names were refused; whichever row a database would come to first."""
    first, second, third = [await world.job(name) for name in ("first", "second", "third")]
    await rename(world, WorkloadRow, first.id, name=second.id)
    await rename(world, WorkloadRow, third.id, name=f"wkl_{HEX}")
    await rename(world, WorkloadRow, second.id, name=first.id)
    for job in (first, second, third):
        assert (await world.call("GET", f"/v1/workloads/{job.id}"))["id"] == job.id
    await world.call("GET", f"/v1/workloads/wkl_{HEX}", status=404)
    await world.call("POST", f"/v1/workloads/{first.id}/revoke", json={})
    assert (await world.call("GET", f"/v1/workloads/{second.id}"))["state"] == "active"


async def test_an_organization_whose_slug_was_anothers_id_is_never_taken_for_it(world: World) -> None:
    acme, beta = await world.organization("acme"), await world.organization("beta")
    await rename(world, OrganizationRow, beta["id"], slug=acme["id"])
    await rename(world, OrganizationRow, acme["id"], slug=beta["id"])
    for made in (acme, beta):
        assert (await world.call("GET", f"/v1/organizations/{made['id']}"))["id"] == made["id"]
    job = await world.job()
    targets = [AccessTarget(job.id, made["id"], "raptor-comply", "default") for made in (acme, beta)]
    resolved = [(await world.services.snapshots.get(target)).organization_id for target in targets]
    assert resolved == [acme["id"], beta["id"]]
