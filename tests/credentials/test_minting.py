"""Providers whose API makes keys: rotation without people, and one new key however often a process dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.base.outbound import Outbound
from broker.keystore.envelope import EnvelopeKeystore
from broker.rotations import minting
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


async def test_a_key_is_made_verified_used_and_the_old_one_deleted_without_people(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    rotation = await begin(world, credential)
    await world.work()
    assert (await world.rotation(rotation))["state"] == "grace"
    assert (await job.ask("acme")).status_code == 201
    assert len(live(world)) == 2
    await finished(world, credential)
    assert (await world.rotation(rotation))["state"] == "completed"

    calls = [event["core"] for event in await world.events(kind="rotation.call.*")]
    done = [(call["kind"].rpartition(".")[2], call["reason"]) for call in calls]
    steps = ["own", "list", "create", "delete"]
    assert done == [(half, step) for step in steps for half in ("authorized", "completed")]
    # and again, with a key that the broker made
    await begin(world, credential)
    for _ in range(8):
        await world.work(hours=1)
    assert await world.states(credential) == ["revoked", "revoked", "active"]
    assert len(live(world)) == 1


async def test_it_is_made_ahead_of_time_by_itself(world: World) -> None:
    credential = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{credential}/policy", json={"rotation_days": 31})
    await world.work(hours=24 * 2)
    (rotation,) = (await world.call("GET", "/v1/rotations"))["items"]
    assert (rotation["credential"], rotation["kind"], rotation["intake"]) == (credential, "minted", None)
    await world.work()
    assert await world.states(credential) == ["retiring", "active"]


STEPS = ["_identify", "_clear", "_make", "_keep"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_dies_between_two_steps_leaves_one_new_key(
    world: World, step: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    real = getattr(Minting, step)

    async def dying(self: Minting, *arguments: Any) -> Any:
        if moment == "after":
            await real(self, *arguments)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Minting, step, dying)
        await world.work()
    states = await world.states(credential)
    assert states[0] == "active", "the key in force stays"
    await world.work(seconds=400)
    assert (await world.rotation(rotation))["state"] == "grace"
    assert len(live(world)) == 2
    await finished(world, credential)


@pytest.mark.parametrize("lost", ["list", "create", "delete"])
async def test_an_answer_that_is_lost_leaves_one_new_key(
    world: World, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    from broker.credentials.probe import exchange as real

    methods = {"list": ("GET", "/api-keys"), "create": ("POST", "/api-keys"), "delete": ("DELETE", "/api-keys/")}

    were_lost: list[str] = []

    async def losing(outbound: Outbound, *arguments: Any, **more: Any) -> Any:
        done = await real(outbound, *arguments, **more)
        method, path = methods[lost]
        asked = arguments[3]
        if asked.method == method and asked.path.startswith(path) and asked.path != "/api-keys/current":
            were_lost.append(path)
            return done._replace(status=None, body=b"")
        return done

    with monkeypatch.context() as patched:
        patched.setattr(minting, "exchange", losing)
        for _ in range(3):
            await world.work(seconds=400)
        for _ in range(2):  # until the old key is due to be deleted
            await world.work(hours=1)
    assert were_lost
    await finished(world, credential)


async def test_two_workers_at_once_make_one_key(world: World) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    await asyncio.gather(*(world.broker.worker.duties["make_keys"].run() for _ in range(4)))
    assert len(live(world)) == 2
    assert await world.states(credential) == ["retiring", "active"]
    await finished(world, credential)


async def test_a_try_that_outlives_its_claim_keeps_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    real = Minting._make
    overtaken = False

    async def slow(self: Minting, claimed: Any) -> Any:
        nonlocal overtaken
        made = await real(self, claimed)
        if not overtaken:
            overtaken = True
            world.clock.forward(seconds=400)
            await world.broker.worker.duties["make_keys"].run()
        return made

    monkeypatch.setattr(Minting, "_make", slow)
    await world.work()
    assert await world.states(credential) == ["retiring", "active"]
    assert len(live(world)) == 2
    await finished(world, credential)


async def test_a_try_that_outlives_its_claim_keeps_nothing_that_the_next_one_has_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    real = Minting._make
    tries = 0

    async def slow(self: Minting, claimed: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries > 1:
            raise Crash
        made = await real(self, claimed)
        world.clock.forward(seconds=400)
        await world.broker.worker.duties["make_keys"].run()
        return made

    with monkeypatch.context() as patched:
        patched.setattr(Minting, "_make", slow)
        await world.work()
    assert (tries, len(live(world))) == (2, 1)
    assert await world.states(credential) == ["active"]
    await finished(world, credential)


async def test_upstream_down_for_a_day_leaves_the_old_key_in_force(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    rotation = await begin(world, credential)
    world.upstream.faults = Faults(outage=True)
    for _ in range(12):
        await world.work(hours=2)
        assert await world.states(credential) == ["active"]
        assert (await job.ask("acme")).status_code == 201
    told = [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"]]
    assert told.count("mint_failed") == 1
    world.upstream.faults = Faults()
    await world.work(hours=2)
    assert (await world.rotation(rotation))["state"] == "grace"
    await finished(world, credential)


async def test_an_upstream_that_refuses_is_told_once_with_its_status_and_the_old_key_stays(world: World) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    world.upstream.refuse_new_keys = True
    for _ in range(4):
        await world.work(hours=2)
    (told,) = [one for one in (await world.call("GET", "/v1/notices"))["items"] if one["kind"] == "mint_failed"]
    assert "it answered 403" in told["text"]
    assert await world.states(credential) == ["active"]
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    await world.work(hours=2)
    assert len(live(world)) == 1


async def test_a_cancelled_rotation_leaves_no_key_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)

    async def dying(*_arguments: Any) -> Any:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Minting, "_keep", dying)
        await world.work()
    assert len(live(world)) == 2
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    await world.work(seconds=400)
    assert len(live(world)) == 1
    assert await world.states(credential) == ["active"]


async def test_an_exposed_key_can_make_no_other_so_the_customer_is_asked(world: World) -> None:
    credential = await world.key_for("acme")
    rotation = await begin(world, credential)
    done = await world.call(
        "POST", f"/v1/credentials/{credential}/exposure", json={"found_by": "a scanner", "where": "a log"}
    )
    assert (await world.rotation(rotation))["state"] == "cancelled"
    assert done["exposure"]["rotation"] != rotation["id"]
    path, _, secret = done["link"].partition("#")
    answer = await world.submit(path.rpartition("/")[2], secret, world.new_key("acme"))
    assert answer.json()["state"] == "accepted"
    await world.work(hours=1)
    assert await world.states(credential) == ["revoked", "active"]


async def test_the_customer_is_told_that_a_key_is_being_made_and_asked_for_none(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    await begin(world, (await world.call("GET", f"/v1/intakes/{intake}"))["credential"])
    seen = (await world.say("status", intake, world.codes[intake], "open")).json()
    assert (seen["wanted"], seen["can"]["submit"], seen["can"]["withdraw"]) == (False, False, True)
    refused = await world.say("status", intake, world.codes[intake], "rotate")
    assert (refused.status_code, refused.json()["code"]) == (409, "rotation_open")
    assert "made automatically" in refused.json()["detail"]


async def test_a_timeline_counts_what_the_broker_did_with_the_key(world: World) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    await world.work()
    report = {"found_by": "a scanner", "where": "a log", "version": 1}
    done = await world.call("POST", f"/v1/credentials/{credential}/exposure", json=report)
    exported = await world.http.get(f"/v1/exposures/{done['exposure']['id']}/timeline", headers=world.admin)
    (used,) = json.loads(exported.text.splitlines()[-1])["used_by"]
    assert (used["actor"], used["uses"]) == ("broker", 4), "its verification, and three calls that made the next one"


async def test_two_rotations_at_once_are_one(world: World) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    refused = await world.call("POST", f"/v1/credentials/{credential}/rotate", status=409, json={})
    assert refused["code"] == "rotation_open"


async def test_a_clock_that_steps_back_makes_no_second_key(world: World) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    world.clock.back(world.broker, hours=24)
    await world.work()
    world.clock.forward(hours=24)
    await world.work()
    assert len(live(world)) == 2
    await finished(world, credential)


async def test_the_new_key_is_in_nothing_that_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    credential = await world.key_for("acme")
    await begin(world, credential)
    seen: list[str] = []
    real = EnvelopeKeystore.seal

    async def sealing(self: EnvelopeKeystore, value: Any, *given: Any) -> bytes:
        seen.append(value.reveal().decode("latin1"))
        return await real(self, value, *given)

    monkeypatch.setattr(EnvelopeKeystore, "seal", sealing)
    await world.work()
    (key,) = [value for value in seen if value.startswith("rc_live_")]
    written = json.dumps([await world.events(), await world.versions(credential)]) + "".join(capfd.readouterr())
    assert key not in written
