"""Long work on a page: how far it is, since when it waits, and what goes on with it, whoever does it."""

from __future__ import annotations

import json
import re

import pytest

from broker.audit.tables import ArchiveRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.keystore.local import MasterKeys
from broker.leases import use_days
from broker.rewrap import rewrap_all
from broker.siem import cursors
from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.integrated import integrate
from tests.support.world import World


class CutShort(Exception):
    """Somebody pressed Ctrl-C."""


def shares(page: str) -> dict[str, tuple[int, int]]:
    """How far each bar of the page is: of how many, how many."""
    found = re.findall(r'<progress max="(\d+)" value="(\d+)" aria-label="([^"]+)"', page)
    return {name: (int(value), int(most)) for most, value, name in found}


def state_of(page: str, name: str) -> str:
    """The state that stands behind a name."""
    return str(re.findall(r'<span class="state [a-z]+">([^<]+)<', page[page.index(f">{name}") :])[0])


PRESENT = "Values under the present master key"


async def test_a_move_to_a_new_master_key_shows_how_far_it_is_also_if_it_was_cut_short(
    admin: Reader, world: World
) -> None:
    for slug in ("acme", "globex", "initech"):
        await world.key_for(slug)
    page = await admin.get("/settings/work")
    done, total = shares(page)[PRESENT]
    assert (done, state_of(page, PRESENT)) == (total, "ok")
    # given a new master key, nothing is under it
    path = world.settings.key_file()
    keys = MasterKeys.from_file(path).with_new_key()
    keys.write_file(path)
    page = await admin.get("/settings/work")
    assert (shares(page)[PRESENT], state_of(page, PRESENT)) == ((0, total), "waiting")
    assert f"{total} values are under other master keys" in page
    assert "broker keystore rewrap" in page

    def stop(done: int, _total: int) -> None:
        if done:
            raise CutShort

    # when a move ends in the middle, the page says so, and how far it came
    with pytest.raises(CutShort):
        await rewrap_all(world.services, advance=stop)
    world.clock.forward(hours=2)
    page = await admin.get("/settings/work")
    assert 0 < shares(page)[PRESENT][0] < total
    assert state_of(page, PRESENT) == "under way"
    assert "was begun 2 hours ago, and hasn't ended" in page.replace("&#39;", "'")
    assert keys.active in page
    # and once it is done
    await rewrap_all(world.services)
    page = await admin.get("/settings/work")
    done, total = shares(page)[PRESENT]
    assert (done, state_of(page, PRESENT)) == (total, "ok")
    assert "They were moved last just now." in page


async def test_who_follows_the_record_is_behind_only_if_what_it_lacks_is_old(admin: Reader, world: World) -> None:
    await world.key_for("acme")
    await cursors.begin(world.services.parts.db, "splunk", "ocsf", world.clock())
    page = await admin.get("/settings/work")
    assert state_of(page, "Sink splunk") == "ok", "as it is a moment behind"
    world.clock.forward(hours=3)
    page = await admin.get("/settings/work")
    done, total = shares(page)["Sink splunk"]
    assert done < total
    assert state_of(page, "Sink splunk") == "behind"
    assert "3 hours ago" in page
    await cursors.move(world.services.parts.db, "splunk", total)
    await integrate(world)
    await use_days.duty(world.services.parts.db).do(1)
    page = await admin.get("/settings/work")
    assert [state_of(page, name) for name in ("The log", "Uses by day", "Sink splunk")] == ["ok"] * 3
    assert shares(page)["The log"][0] >= total


async def test_archives_show_how_much_of_the_record_they_have_and_what_was_cut_short(
    admin: Reader, world: World
) -> None:
    page = await admin.get("/settings/work")
    assert "No month of the record is archived; it goes back to 20" in page
    row = ArchiveRow(
        month=202601, first=0, count=2, root=b"", earliest=Millis(0), latest=Millis(0), archived_at=world.clock()
    )
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        session.add(row)
    page = await admin.get("/settings/work")
    assert shares(page)["Events in archives"][0] == 2
    assert "archives of 1 month, to 2026-01, written last just now" in page
    assert "2026-01 is archived, and still here" in page


async def test_long_work_is_shown_to_security_without_limits_alone(world: World, filled: Filled) -> None:
    olga = Reader(world, await world.operator("olga", "operator"))
    few = Reader(world, await world.operator("eve", "security", organizations=["acme-power"]))
    for reader in (olga, few):
        assert "/console/settings/work" not in await reader.get("/settings")
        await reader.get("/settings/work", 403)
    sam = Reader(world, await world.operator("sam", "security"))
    assert "/console/settings/work" in await sam.get("/settings")
    assert filled.grant not in await sam.get("/settings/work")


async def test_an_export_says_how_many_events_it_holds_before_it_begins(admin: Reader, filled: Filled) -> None:
    world = filled.world
    query = "kind=lease.*&organization=acme-power"
    assert "/console/audit/export?organization=acme-power" in await admin.get(f"/audit?{query}")
    expected = len(await world.events(kind="lease.*", organization="acme-power"))
    page = await admin.get(f"/audit/export?{query}")
    assert f"Export {expected} events?" in page
    size = re.findall(r'name="limit" value="(\d+)"', page)[0]
    answer = await world.http.get(f"/console/audit/export/file?{query}&limit={size}&format=ecs", headers=admin.who)
    assert answer.headers["content-disposition"] == 'attachment; filename="events.ecs.ndjson"'
    *events, mark = [json.loads(line) for line in answer.text.splitlines()]
    assert len(events) == expected
    assert mark["event"]["action"] not in {each["event"]["action"] for each in events}, "the log's checkpoint"
    # and behind the last one there is none
    last = re.findall(r"to number (\d+)", page)[0]
    assert "None fits." in await admin.get(f"/audit/export?{query}&after={last}")
    # by what only an event's core tells; each search for it is one of them
    job = 1 + len(await world.events(workload=filled.job.id))
    assert f"Export {job} events?" in await admin.get(f"/audit/export?workload={filled.job.id}")
    # that it was asked is on the record, and who may not read the record may not count it
    assert (await world.events(kind="audit.read"))[-1]["core"]["reason"]
    olga = Reader(world, await world.operator("olga", "operator"))
    await olga.get("/audit/export", 403)
    await olga.get("/audit/export/file?format=ecs", 403)


async def test_a_limited_account_exports_its_customers_events_alone(world: World, filled: Filled) -> None:
    few = Reader(world, await world.operator("eve", "security", organizations=["dune-solar"]))
    of_dune = len(await world.events(organization="dune-solar"))
    assert f"Export {of_dune} events?" in await few.get("/audit/export")
    answer = await world.http.get("/console/audit/export/file?format=cef", headers=few.who)
    assert filled.key not in answer.text
