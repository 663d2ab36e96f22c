"""A broker that keeps uses for so many days: the worker prunes them, and who asks the record is told."""

from __future__ import annotations

from pathlib import Path

from broker.audit.places import BLOCK
from broker.base.db import Database
from tests.audit.test_retention import fill, gone, of
from tests.journeys.test_archived import timeline
from tests.support.past import as_broker
from tests.support.world import running_world, settings_for, upstream


async def test_what_asks_the_record_is_told_what_was_pruned(database_url: str, db: Database, tmp_path: Path) -> None:
    async with upstream() as (state, address):
        settings = settings_for(tmp_path, database_url, address, keep_uses_days=40)
        await fill(await as_broker(db, settings))
        async with running_world(settings, state, address) as world:
            credential = await world.key_for("acme")
            assert (await world.call("GET", "/v1/audit/events"))["pruned"] is None
            # when the worker has had its turns
            await world.work()
            await world.work(seconds=61)
            # then uses are gone and the rest is there, and a search says so where it matters
            assert await gone(db) == of(("use.authorized", "use.completed"))
            found = await world.call("GET", "/v1/audit/events")
            assert found["pruned"] == {"first": 0, "end": BLOCK}
            assert [one["index"] for one in found["items"][:4]] == [1, 2, 4, 5]
            late = {"since": "2025-07-01T00:00:00Z"}
            assert (await world.call("GET", "/v1/audit/events", params=late))["pruned"] is None
            told = await world.events(kind="audit.pruned")
            assert all(one["core"]["reason"].startswith("class=uses,days=40,first=") for one in told)
            # and so does an incident's timeline
            lines = await timeline(world, credential, since="2025-06-01T00:00:00Z")
            assert lines["pruned"] == {"type": "pruned", "first": 0, "end": BLOCK}
