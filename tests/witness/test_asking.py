"""The broker has its log cosigned, and stops it where a witness has another one."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest

from broker import app as composition
from broker import restored
from broker.audit import integrating
from broker.audit.integrating import Contradicted
from broker.audit.tables import WitnessRow
from broker.audit.unavailable import DatabaseBehind
from broker.base.db import EVERY_TENANT
from broker.config import SettingsUnusable
from broker.formats.checkpoint import Checkpoint
from broker.formats.cosignature import cosigned_at
from broker.formats.signed_note import NoteRefused, Verifier, opened, taken_apart
from broker.witness.duties import ALARM_MS
from tests.audit.test_integrating import put
from tests.support.logs import MadeLog
from tests.support.world import World
from tests.witness.conftest import Auditor, Town

LOG = "/v1/audit/log"


async def turn(world: World, *names: str) -> None:
    for name in names or ("integrate", "ask_witnesses"):
        await world.broker.worker.duties[name].run()


async def read(world: World, path: str) -> httpx2.Response:
    return await world.http.get(LOG + path)


async def size_of(world: World, path: str) -> int:
    key = Verifier.read((await read(world, "/key")).text.splitlines()[-1])
    return Checkpoint.read(opened((await read(world, path)).content, key)).size


async def kinds(world: World) -> list[str]:
    return [notice["kind"] for notice in await world.items("/v1/notices")]


async def show(auditor: Auditor, log: MadeLog, old: int = 0) -> None:
    """Have a witness cosign what another copy of the broker signed."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{auditor.url}/add-checkpoint", content=log.request(old).encode())
    assert answer.status_code == 200, answer.text


def other(world: World, size: int) -> MadeLog:
    """Another history of the broker's log, signed by its key."""
    return MadeLog(*map(str, range(size)), signer=world.services.parts.keys.log(0))


async def test_a_checkpoint_is_served_with_the_cosignatures_that_it_has(town: Town) -> None:
    async with town.world(quorum=2) as world:
        await world.organization("acme")
        await turn(world, "integrate")
        nothing = await read(world, "/cosigned")
        assert (nothing.status_code, "BROKER_WITNESSES_FILE" in nothing.json()["detail"]) == (404, True)
        plain = (await read(world, "/checkpoint")).content
        await turn(world, "ask_witnesses")
        # then anybody who has a witness's key verifies that it saw this checkpoint
        for path in ("/checkpoint", "/cosigned"):
            answer = await read(world, path)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
            assert answer.content.startswith(plain)
            for auditor in town.auditors:
                assert cosigned_at(answer.content, auditor.key)
        # and a larger one is without, until they were asked again
        await world.organization("zeta")
        await turn(world, "integrate")
        assert len(taken_apart((await read(world, "/checkpoint")).content)[1]) == 1
        assert await size_of(world, "/cosigned") < await size_of(world, "/checkpoint")
        await turn(world)
        assert await size_of(world, "/cosigned") == await size_of(world, "/checkpoint")


async def test_a_log_of_any_size_is_shown_to_go_on(town: Town) -> None:
    async with town.world(quorum=2) as world:
        for count in (1, 255, 3, 256, 300):
            await put(world.services.parts.db, count)
            await turn(world)
            assert await size_of(world, "/cosigned") == await size_of(world, "/checkpoint")


async def test_a_checkpoint_that_is_cosigned_is_not_shown_again(town: Town) -> None:
    async with town.world() as world:
        await turn(world)
        asked = [auditor.asked for auditor in town.auditors]
        await turn(world, "ask_witnesses")
        assert [auditor.asked for auditor in town.auditors] == asked


async def test_what_a_witness_has_is_asked_where_it_is_not_known(town: Town) -> None:
    async with town.world(quorum=2) as world:
        await turn(world)
        async with world.services.parts.db.write(EVERY_TENANT) as session:
            await session.delete(await session.get_one(WitnessRow, town.auditors[0].key.line()))
        await town.auditors[1].forget()
        await world.organization("acme")
        await turn(world)
        assert await size_of(world, "/cosigned") == await size_of(world, "/checkpoint")


async def test_a_witness_that_is_dead_or_slow_holds_up_nobody(town: Town) -> None:
    slow, dead = Auditor("slow", town.folder), Auditor("dead", town.folder)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        dead.url = "http://127.0.0.1:9"
        town.auditors = [slow, dead, *town.auditors]
        async with asyncio.timeout(60), town.world(quorum=2) as world:
            await turn(world)
            found = (await read(world, "/cosigned")).content
            for auditor in town.auditors[2:]:
                assert cosigned_at(found, auditor.key)
            with pytest.raises(NoteRefused):
                cosigned_at(found, slow.key)


async def test_people_are_told_once_that_too_few_cosign_until_it_is_mended(town: Town) -> None:
    async with town.world(quorum=2) as world:
        await turn(world)
        for lost in (1, 2):
            town.auditors[0].fails = 503
            await world.organization(f"c{lost}")
            await turn(world)
            world.clock.forward(seconds=ALARM_MS / 1000 - 10)
            await turn(world)
            assert (await kinds(world)).count("log_unwitnessed") == lost - 1
            world.clock.forward(seconds=20)
            for _ in range(3):
                await turn(world)
            assert (await kinds(world)).count("log_unwitnessed") == lost
            town.auditors[0].fails = None
            await turn(world)


async def test_one_of_several_that_fails_is_no_alarm_while_enough_cosign(town: Town) -> None:
    async with town.world(quorum=1) as world:
        town.auditors[0].fails = 500
        await turn(world)
        world.clock.forward(seconds=ALARM_MS / 1000 * 2)
        await turn(world)
        assert "log_unwitnessed" not in await kinds(world)
        counted = world.broker.worker.duties["ask_witnesses"]
        await counted.do(world.clock())
        assert counted.counted["west", "size"] == await size_of(world, "/checkpoint")
        shown = (await world.http.get("/metrics", headers=world.admin)).text
        assert 'keybroker_log_witness_size{witness="west"}' in shown


@pytest.mark.parametrize("answer", [200, 400, 403, 404, 409, 422, 500])
async def test_whatever_a_broken_witness_answers_the_log_goes_on(town: Town, answer: int) -> None:
    async with town.world() as world:
        town.auditors[0].fails = answer
        await world.organization("acme")
        await turn(world)
        await world.organization("zeta")
        await turn(world)
        assert await size_of(world, "/cosigned") == await size_of(world, "/checkpoint")


@pytest.mark.parametrize("size", [1, 300])
async def test_a_log_that_a_witness_has_another_history_of_is_signed_no_more(town: Town, size: int) -> None:
    """At a size that this one has grown beyond, or that it hasn't yet."""
    async with town.world() as world:
        await world.organization("acme")
        await show(town.auditors[0], other(world, size))
        await turn(world)
        signed = await size_of(world, "/checkpoint")
        # then people are told once
        await turn(world, "ask_witnesses")
        assert (await kinds(world)).count("log_contradicted") == 1
        # and what happens is recorded, but no larger log is signed
        await world.organization("zeta")
        with pytest.raises(Contradicted, match=r"broker restored --since"):
            await turn(world, "integrate")
        assert await size_of(world, "/checkpoint") == signed


async def test_another_root_at_the_same_size_stops_the_log(town: Town) -> None:
    async with town.world() as world:
        await turn(world, "integrate")
        await show(town.auditors[0], other(world, await size_of(world, "/checkpoint")))
        await turn(world, "ask_witnesses")
        await world.organization("acme")
        with pytest.raises(Contradicted):
            await turn(world, "integrate")


async def test_a_new_epoch_goes_on_where_a_witness_has_another_history(town: Town) -> None:
    async with town.world() as world:
        await show(town.auditors[0], other(world, 300))
        await turn(world)
        db, since = world.services.parts.db, world.clock()
        done = await restored.go_on(world.broker, await restored.size(db), since)
        for auditor in town.auditors:
            auditor.logs += [world.services.parts.keys.log(done.began_at).verifier()]
        await turn(world)
        keys = (await read(world, "/key")).text.splitlines()
        found = Checkpoint.read(opened((await read(world, "/cosigned")).content, Verifier.read(keys[-1])))
        assert (len(keys), found.origin) == (2, Verifier.read(keys[1]).name)
        assert cosigned_at((await read(world, "/cosigned")).content, town.auditors[0].key)


async def test_a_witness_that_is_listed_no_more_stops_nothing(town: Town) -> None:
    async with town.world() as world:
        await show(town.auditors[0], other(world, 300))
        await turn(world)
    town.auditors.pop(0)
    async with town.world(bootstrap=False) as world:
        await turn(world, "ask_witnesses")
        await put(world.services.parts.db, 1)
        await turn(world)
        assert await size_of(world, "/cosigned") == await size_of(world, "/checkpoint")


async def test_a_broker_whose_log_is_behind_a_witness_does_not_start(town: Town) -> None:
    async with town.world() as world:
        await turn(world)
        await town.auditors[1].forget()
        await show(town.auditors[1], other(world, 300))
    with pytest.raises(DatabaseBehind, match=r"west cosigned the log at 300 events.*broker restored --since"):
        async with town.world(bootstrap=False):
            raise AssertionError("it is served")


async def test_a_broker_starts_though_no_witness_answers(town: Town) -> None:
    async with town.world() as world:
        await turn(world)
    for auditor in town.auditors:
        auditor.fails = 500
    async with town.world(bootstrap=False) as world:
        assert world.services.parts.audit.closed is None


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("https://w.example", "line 1: write `URL VKEY`"),
        ("https://w.example x", "line 1: the key is no line"),
        ("#\nhttp://w.example {key}", "line 2: the address"),
        ("https://u:p@w.example {key}", "line 1: the address"),
        ("https://w.example/?a=b {key}", "line 1: the address has a query"),
        ("https://w.example {key} inner", "line 1: write"),
        ("https://w.example {key}\nhttps://v.example {key}", "a witness twice"),
        ("https://w.example {key}", "BROKER_WITNESS_QUORUM: 2 is more than the 1"),
        (None, "can't be read"),
        ("\xff", "UTF-8"),
    ],
)
async def test_a_list_that_is_wrong_is_refused_with_its_fix(town: Town, text: str | None, fix: str) -> None:
    settings = town.settings(quorum=2)
    if text is None:
        town.list.unlink()
    else:
        key = town.auditors[0].key.line()
        town.list.write_bytes(text.replace("{key}", key).encode("latin-1"))
    with pytest.raises(SettingsUnusable, match=fix):
        async with composition.running(settings):
            raise AssertionError("it runs")


async def test_no_witness_is_asked_where_none_is_listed(world: World) -> None:
    assert "ask_witnesses" not in world.broker.worker.duties
    await turn(world, "integrate")
    assert (await read(world, "/cosigned")).status_code == 404
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert await integrating.newest(session) is not None
