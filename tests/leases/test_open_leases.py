"""Who holds a key is read from the leases that stand, however many there ever were."""

from __future__ import annotations

import re

from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT
from broker.formats.ids import CredentialId
from broker.leases.access_holders import in_use_by
from broker.rotations.retirement import retirable
from tests.support.sent import Sent, noted, plan
from tests.support.world import World

# What the plan says of an index that leads to those that have not ended yet.
BY_ITS_END = {"sqlite": r"USING INDEX ix_leases_\w+ \(.*expires_at>\?\)", "postgresql": r"Index Cond: .*expires_at > "}


async def found_by_their_end(world: World, sent: Sent) -> None:
    db = world.services.parts.db
    assert sent
    for statement, parameters in sent:
        found = await plan(db, statement, parameters)
        assert re.search(BY_ITS_END[db.dialect], found), found


async def test_the_holders_of_a_version(world: World) -> None:
    credential = CredentialId(await world.key_for("acme"))
    with noted(world.services.parts.db, "leases") as sent:
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            await in_use_by(session, credential, 1, now=now_ms())
    await found_by_their_end(world, sent)


async def test_whether_an_old_key_may_be_retired(world: World) -> None:
    with noted(world.services.parts.db, "leases") as sent:
        await retirable(world.services.parts.db, world.services.parts.clock, 5)
    await found_by_their_end(world, sent)
