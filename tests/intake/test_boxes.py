"""A box on the way that reads or changes everything, against who sends a key without a browser."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.client.errors import CallFailed
from broker.client.submission import submit_key
from broker.intake.throttle import LIMITS
from broker.sandbox.serve import running as serving
from tests.support.box import CHANGED, Box, Changes, swaps_the_key, tried
from tests.support.links import following, old_link
from tests.support.world import World


@pytest.mark.parametrize("changes", CHANGED.values(), ids=CHANGED)
async def test_a_submission_seals_to_nobody_but_whom_the_link_names(world: World, changes: Changes) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    box = Box(world, changes)
    async with serving(box) as url:
        with pytest.raises(CallFailed, match="tell the vendor, by another way") as refused:
            await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", world.upstream_keys["acme"].encode())
    assert refused.value.code == "recipient_changed"
    assert [one.path.rpartition("/")[2] for one in box.seen] == ["challenge", "open"], "nothing was submitted"
    assert box.read == []
    assert (await world.open(intake, secret)).json()["state"] == "open"


@pytest.mark.parametrize("answer", [{}, {"public_key": "AAAA"}, {"public_key": "A", "context": {}}, {"context": []}])
async def test_an_answer_that_names_nobody_is_none(world: World, answer: dict[str, object]) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    box = Box(world, lambda _box, path, said: said.update(seal=answer) if path.endswith("/open") else None)
    async with serving(box) as url:
        with pytest.raises(CallFailed) as refused:
            await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", b"key")
    assert refused.value.code == "another_answer"


async def test_over_a_link_from_before_a_box_reads_the_key_and_the_receipt_says_so(world: World) -> None:
    await world.organization("acme")
    intake, secret = await old_link(world, "acme")
    box = Box(world, swaps_the_key)
    async with serving(box) as url:
        key = world.upstream_keys["acme"]
        received = await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", key.encode())
    assert box.read == [key]
    assert "old kind" in received["old_link"]


async def test_over_a_link_of_today_the_receipt_says_nothing_of_the_kind(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    async with serving(Box(world)) as url:
        key = world.upstream_keys["acme"].encode()
        received = await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", key)
    assert set(received) == {"state", "receipt", "status_code", "status_page"}
    assert received["status_page"] == f"{url}/status/{intake}"


async def test_nothing_that_a_box_saw_serves_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "address", 10_000)
    monkeypatch.setitem(LIMITS, "link", 10_000)
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    box = Box(world)
    async with serving(box) as url:
        key = world.upstream_keys["acme"].encode()
        received = await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", key)
    code = received["status_code"]
    await tried(world, box, {intake: (secret, code)})


async def test_what_is_said_of_the_next_key_can_not_be_turned_either(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    code = world.codes[intake]
    rotated = (await world.say("status", intake, code, "rotate")).json()
    link = following(rotated, code)
    turned = {**rotated, "seal": {**rotated["seal"], "public_key": Box(world).public}}
    assert following(turned, code)[1] != link[1]
    assert (await world.open(*following(turned, code))).json()["code"] == "link_invalid"
    assert json.dumps(rotated).find(link[1]) == -1
