"""The log over HTTP: whoever has its key makes its root of its tiles, without an account."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx2
import pytest

from broker.base.clock import now_ms
from broker.formats.checkpoint import Checkpoint
from broker.formats.merkle import Tree, root_of
from broker.formats.ml_dsa import MlDsaKey, signed_at
from broker.formats.signed_note import NoteRefused, Verifier, opened, taken_apart
from broker.formats.tile import whole_by
from tests.support.world import World, running_world, settings_for, upstream

LOG = "/v1/audit/log"


async def get(world: World, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=world.app)
    async with httpx2.AsyncClient(transport=transport, base_url=world.settings.public_url) as anybody:
        return await anybody.get(LOG + path)


async def test_anybody_verifies_the_log_by_its_key(world: World) -> None:
    # given a few events
    await world.key_for("acme")
    await world.broker.worker.duties["integrate"].run()
    # when somebody reads what the log says of itself
    key = Verifier.read((await get(world, "/key")).text.splitlines()[-1])
    answer = await get(world, "/checkpoint")
    found = Checkpoint.read(opened(answer.content, key))
    # then it names itself by its key, and its tiles make its root
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == (
        "text/plain; charset=utf-8",
        "no-cache",
    )
    assert found.origin == key.name
    hashes = await get(world, f"/tile/0/000.p/{found.size}")
    assert hashes.headers["content-type"] == "application/octet-stream"
    assert hashes.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert root_of(found.size, whole_by(lambda _level, _number: hashes.content)) == found.root
    # and so do its entries
    bundle, tree = (await get(world, f"/tile/entries/000.p/{found.size}")).content, Tree()
    for at in range(0, len(bundle), 34):
        assert bundle[at : at + 2] == b"\0\x20"
        tree.add(bundle[at + 2 : at + 34])
    assert (tree.size, tree.root()) == (found.size, found.root)
    # which are the events' commitments
    told = (await world.call("GET", "/v1/audit/events", params={"limit": 1}))["items"][0]["commitment"]
    assert base64.b64encode(bundle[2:34]).decode() == told


async def test_a_log_without_a_checkpoint_says_who_makes_it(world: World) -> None:
    answer = await get(world, "/checkpoint")
    assert answer.status_code == 404
    assert "worker" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["0/000", "1/000.p/1", "0/001.p/1", "0/0", "data/000", "entries/000.p/0", "x", "0/000/"]
)
async def test_there_is_no_other_tile(world: World, path: str) -> None:
    await world.organization("acme")
    await world.broker.worker.duties["integrate"].run()
    answer = await get(world, f"/tile/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_checkpoint_is_signed_with_ml_dsa_as_well_where_that_is_on(tmp_path: Path, database_url: str) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, database_url, url, log_ml_dsa=True)
        async with running_world(settings, state, url) as world:
            await world.organization("acme")
            await world.broker.worker.duties["integrate"].run()
            ml_dsa, ed25519 = (await get(world, "/key")).text.splitlines()
            note = (await get(world, "/checkpoint")).content
            # then whoever knows either key verifies it, and ignores the other's line
            found = Checkpoint.read(opened(note, Verifier.read(ed25519)))
            assert abs(signed_at(note, MlDsaKey.read(ml_dsa)) - now_ms() // 1000) < 120
            assert MlDsaKey.read(ml_dsa).name == found.origin


async def test_without_it_there_is_one_key_and_one_signature(world: World) -> None:
    await world.broker.worker.duties["integrate"].run()
    assert len((await get(world, "/key")).text.splitlines()) == 1
    assert len(taken_apart((await get(world, "/checkpoint")).content)[1]) == 1


async def test_the_logs_key_is_changed_on_the_record_and_both_are_told(world: World) -> None:
    integrate, retire = (world.broker.worker.duties[name] for name in ("integrate", "retire_log_key"))
    security = await world.operator("sam", "security")
    await integrate.run()
    (old,) = (await get(world, "/key")).text.splitlines()
    told = await world.call("POST", f"{LOG}/rotate-key", as_=security)
    assert told["old"] == old
    assert (await get(world, "/key")).text.splitlines() == [old, told["new"]]
    (event,) = await world.events(kind="log.key_rotated")
    assert event["core"]["reason"] == f"old={old},new={told['new']}"
    # then either key verifies what is signed
    await integrate.run()
    note = (await get(world, "/checkpoint")).content
    assert opened(note, Verifier.read(old)) == opened(note, Verifier.read(told["new"]))
    # and after 30 days the old one is good to a size that is told
    size = Checkpoint.read(opened(note, Verifier.read(old))).size
    world.clock.forward(hours=24 * 30)
    await retire.run()
    assert (await get(world, "/key")).text.splitlines() == [f"# good to size {size}", old, told["new"]]
    assert (await world.events(kind="log.key_retired"))[0]["core"]["reason"] == f"number=0,good_to={size}"
    await integrate.run()
    with pytest.raises(NoteRefused):
        opened((await get(world, "/checkpoint")).content, Verifier.read(old))


async def test_who_may_change_the_logs_key(world: World) -> None:
    await world.organization("acme")
    operator = await world.operator("olga", "operator")
    limited = await world.operator("lee", "security", organizations=["acme"])
    for caller in (operator, limited):
        refused = await world.call("POST", f"{LOG}/rotate-key", as_=caller, status=403)
        assert refused["code"] == "forbidden"
    await world.call("POST", f"{LOG}/rotate-key")
    again = await world.call("POST", f"{LOG}/rotate-key", status=409)
    assert "30 days" in again["detail"]
