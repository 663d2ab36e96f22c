"""The record's page leads to exports of what it shows: in each form of a SIEM, and with proof."""

from __future__ import annotations

import html
import json
import re

from broker.client import verify
from tests.console.conftest import Reader
from tests.support.integrated import integrate, integrating
from tests.support.world import World


def forms(page: str) -> list[str]:
    """The forms that a page offers."""
    return re.findall(r'<option value="([a-z]+)"', page)


def proofs(page: str) -> list[str]:
    """The addresses of exports with proof on a page."""
    return [html.unescape(path) for path in re.findall(r'<a href="(/v1/audit/[^"]*)" download', page)]


async def test_what_is_sought_is_exported_in_each_form_of_the_api(admin: Reader, world: World) -> None:
    # given two customers, of whom one had a lease yesterday
    for slug in ("acme", "globex"):
        await world.key_for(slug)
    job = await world.job()
    await world.grant(job, "acme", "globex")
    await job.lease("acme")
    day = (await world.events(kind="lease.issued"))[0]["time"][:10]
    world.clock.forward(hours=48)
    await job.lease("acme")
    await job.lease("globex")
    await integrate(world)
    # when that day's leases of that customer are searched
    sought = f"organization=acme&kind=lease.*&workload=sync&since={day}&until={day}&decision=allowed"
    offered = forms(await admin.get(f"/audit/export?{sought}"))
    # then each form gives these alone, and a checkpoint
    assert offered == ["ocsf", "ecs", "cef"]
    for form in offered:
        answer = await world.http.get(f"/console/audit/export/file?{sought}&format={form}", headers=admin.who)
        lines = answer.text.splitlines()
        assert (answer.status_code, len(lines)) == (200, 2), answer.text
        assert "lease.issued" in lines[0]
    # and each is on the record with what it was asked for
    reasons = [event["core"]["reason"] for event in await world.events(kind="audit.exported")]
    assert [reason.split(",")[:3] for reason in reasons] == [
        [f"format={form}", "kind=lease.", "decision=allowed"] for form in ("ocsf", "ecs", "cef")
    ]


async def test_a_customers_events_are_exported_with_their_proof(admin: Reader, world: World) -> None:
    await world.key_for("acme")
    (proof,) = proofs(await admin.get("/audit/export?organization=acme&kind=lease.*"))
    async with integrating(world):
        answer = await world.http.get(proof, headers=admin.who)
    keys = verify.keys((await world.http.get("/v1/audit/log/key")).text)
    found = verify.export(answer.text.splitlines(keepends=True), keys)
    acme = (await world.call("GET", "/v1/organizations/acme"))["id"]
    assert (found.organization, found.events > 2) == (acme, True)


async def test_without_a_customer_no_proof_is_offered_and_all_events_are_exported(admin: Reader, world: World) -> None:
    assert proofs(await admin.get("/audit/export")) == []
    answer = await world.http.get("/console/audit/export/file?format=ocsf", headers=admin.who)
    lines = answer.text.splitlines()
    assert len({json.loads(line)["metadata"]["uid"] for line in lines if "uid" in json.loads(line)["metadata"]}) > 1
