"""A broker whose older months are in archives: who searches is told, and an incident's timeline says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broker.archiving import Archiving
from broker.base.db import Database
from tests.support.past import as_broker, count_uses, record_many
from tests.support.world import World, running_world, settings_for, upstream


async def test_what_asks_the_record_is_told_of_archives(database_url: str, db: Database, tmp_path: Path) -> None:
    async with upstream() as (state, address):
        settings = settings_for(tmp_path, database_url, address)
        await as_broker(db, settings)
        await record_many(db, 202506, 4)
        await record_many(db, 202507, 3)
        async with running_world(settings, state, address) as world:
            credential = await world.key_for("acme")
            before = await world.call("GET", "/v1/audit/events")
            assert before["archived"] is None
            assert before["items"][0]["index"] == 0
            await count_uses(db)
            (tmp_path / "archives").mkdir()
            archiving = Archiving(world.broker, tmp_path / "archives", lambda _done, _total: None)
            assert [one.events async for one in archiving.before(202508)] == [4, 3]

            # a search finds what is here, and names the months that may hold more
            archived = {"first": 7, "months": ["2025-06", "2025-07"]}
            found = await world.call("GET", "/v1/audit/events", params={"limit": 2})
            assert [one["index"] for one in found["items"]] == [7, 8]
            assert found["archived"] == archived
            assert (await world.call("GET", "/v1/audit/events", params={"order": "newest"}))["archived"] == archived
            assert await months(world, until="2025-07-01T00:00:00Z") == ["2025-06"]
            assert await months(world, since="2025-08-01T00:00:00Z") is None
            assert await months(world, cursor=found["next"]) is None

            # a key that was exposed before that: its timeline isn't taken for the whole of it
            assert "archived" not in await timeline(world, credential, since="2025-08-01T00:00:00Z")
            lines = await timeline(world, await world.key_for("globex"), since="2025-07-01T00:00:00Z")
            assert lines["archived"] == {"type": "archived", "months": ["2025-07"], "first": 7}


async def months(world: World, **asked: str) -> list[str] | None:
    archived = (await world.call("GET", "/v1/audit/events", params=asked))["archived"]
    return None if archived is None else list(archived["months"])


async def timeline(world: World, credential: str, since: str) -> dict[str, dict[str, Any]]:
    """One line of each type."""
    body = {"found_by": "Sven, security", "where": "public repository x/y", "since": since}
    done = await world.call("POST", f"/v1/credentials/{credential}/exposure", json=body)
    response = await world.http.get(f"/v1/exposures/{done['exposure']['id']}/timeline", headers=world.admin)
    return {line["type"]: line for line in map(json.loads, response.text.splitlines())}
