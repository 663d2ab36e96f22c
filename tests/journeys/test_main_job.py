"""The main job, end to end, over HTTP on both databases."""

from __future__ import annotations

from tests.support.world import World


async def test_a_key_is_received_used_and_cut_off(world: World) -> None:
    # given a customer who submits a key over a one-time link
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    submitted = await world.submit(intake, secret, world.upstream_keys["acme"])
    assert submitted.json()["state"] == "accepted"

    # and a job with a right to use it
    job = await world.job()
    await world.grant(job, "acme")

    # when it leases and calls through the broker
    lease = await job.lease("acme", purpose="nightly sync")
    answer = await world.proxied(lease, "/facilities")

    # then upstream answers, and the job never saw the key
    assert answer.status_code == 200
    assert len(answer.json()) == 3
    assert lease["key"] is None

    # when the credential is revoked
    await world.call("POST", f"/v1/credentials/{lease['lease']['credential']}/revoke", json={"reason": "leak"})

    # then the next call is refused, and all of it is on the record without a gap
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code, refused.json()["code"]) == (403, "key_revoked")
    events = await world.events()
    assert [event["index"] for event in events] == list(range(len(events)))
    kinds = [event["kind"] for event in events]
    assert kinds.index("use.authorized") < kinds.index("credential.revoked")
    assert kinds.index("use.authorized") < kinds.index("use.completed"), "an outcome follows within moments"
    assert kinds[-2:] == ["use.denied", "audit.read"]
