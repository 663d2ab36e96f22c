"""What an upstream lists may be longer than one answer: it is read whole, or taken for no more than a part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.rotations import minting
from broker.rotations.minting import Minting
from broker.sandbox.keys import KeysApi
from broker.sandbox.state import Key
from tests.support.crash import Crash
from tests.support.minting import begin, finished, live, minting_world
from tests.support.world import World

PAGES = 'items = "data[]"\npages = { parameter = "cursor", next = "next" }'


@pytest.fixture
def instead() -> list[Any]:
    """What the provider answers in a list's place, while there is anything."""
    return []


@pytest.fixture
async def paged(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, instead: list[Any]
) -> AsyncIterator[World]:
    """A broker whose provider makes keys by its API, and lists two of them at a time."""
    real = KeysApi.collection

    async def two_at_a_time(self: KeysApi, request: Request, key: Key) -> Response:
        if request.method != "GET":
            return await real(self, request, key)
        if instead:
            return JSONResponse(instead[0])
        keys = [one for one in self._state.keys.values() if one.state == "active"]
        at = int(request.query_params.get("cursor", "0"))
        data = [{"id": one.id, "name": one.name} for one in keys[at : at + 2]]
        return JSONResponse({"data": data, "next": str(at + 2) if at + 2 < len(keys) else None})

    monkeypatch.setattr(KeysApi, "collection", two_at_a_time)
    async with minting_world(tmp_path, database_url, listing=PAGES) as made:
        yield made


async def _made_and_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """A rotation whose first try died with a key made, which stands at the end of a list of five."""
    credential = await world.key_for("acme")
    for _ in range(3):
        world.new_key("acme")
    rotation = await begin(world, credential)

    async def dies(*_arguments: Any) -> Any:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Minting, "_keep", dies)
        await world.work()
    assert len(live(world)) == 5
    return credential, rotation


async def test_a_key_that_nobody_kept_is_found_on_the_last_page(paged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rotation = await _made_and_not_kept(paged, monkeypatch)
    left = live(paged)[-1]
    await paged.work(hours=1)
    assert (await paged.rotation(rotation))["state"] == "grace"
    assert left.state == "revoked"
    assert len(live(paged)) == 5, "three of the customer's, the old one and the new one"


async def test_no_key_is_made_where_the_list_has_no_end_and_people_are_told(
    paged: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minting, "_PAGES_MAX", 2)
    _, rotation = await _made_and_not_kept(paged, monkeypatch)
    for _ in range(2):
        await paged.work(hours=1)
    assert (await paged.rotation(rotation))["state"] == "requested"
    assert len(live(paged)) == 5
    told = [one for one in (await paged.call("GET", "/v1/notices"))["items"] if one["kind"] == "mint_failed"]
    assert "list_too_long" in told[-1]["text"]


async def test_no_key_is_made_where_the_answer_is_no_list(paged: World, instead: list[Any]) -> None:
    credential = await paged.key_for("acme")
    rotation = await begin(paged, credential)
    instead.append({"status": "maintenance"})
    await paged.work()
    instead.clear()
    (told,) = [one for one in (await paged.call("GET", "/v1/notices"))["items"] if one["kind"] == "mint_failed"]
    assert "list_unreadable" in told["text"]
    assert (await paged.rotation(rotation))["state"] == "requested"
    await finished(paged, credential)


async def test_a_first_key_with_more_ids_than_are_read_waits_for_an_operator(world: World) -> None:
    await world.organization("acme", facilities=1_001)
    intake, secret = await world.request_key("acme")
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "held"


async def test_a_new_key_with_more_ids_than_are_read_is_unproven_and_not_called_anothers(world: World) -> None:
    # given a key that shows three ids, and a customer who has a thousand more since, listed first
    credential = await world.key_for("acme")
    there = next(one for one in world.upstream.organizations.values() if one.name == "acme")
    known = dict(there.owned["facilities"])
    more = {f"fac_{number:06}": {"id": f"fac_{number:06}", "name": "x"} for number in range(1_000)}
    there.owned["facilities"] = {**more, **known}
    # when the customer submits the next one
    rotation, intake, secret = await world.rotate(credential)
    assert (await world.submit(intake, secret, world.new_key("acme"))).json()["state"] == "held"
    # then the operator sees that nobody knows, not that none is in both
    shown = await world.rotation(rotation)
    assert (shown["ids_of_new_key"], shown["ids_known_before"], shown["ids_in_both"]) == (1_000, 3, None)


async def test_a_key_whose_ids_are_too_long_to_be_read_works_and_is_unproven(world: World) -> None:
    # given a verification that is answered with more than a mebibyte
    await world.organization("acme", facilities=1)
    there = next(one for one in world.upstream.organizations.values() if one.name == "acme")
    (facility,) = there.owned["facilities"].values()
    facility["name"] = "x" * 1_100_000
    intake, secret = await world.request_key("acme")
    # then the key is not taken for one that can't be checked
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "held"
