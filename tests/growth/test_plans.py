"""However many rows a table has, a page of a list and a round of the worker read some of them only.

Every list is asked for with each of its filters, first and late, as an operator of every customer and as one of some;
every duty of the worker is done.  Each statement that this takes is explained (:mod:`tests.support.plans`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker import tables
from broker.base.db import Table
from tests.bench.growth.asked import lists
from tests.growth.conftest import SIZE, Grown
from tests.support.plans import MOST, Read, reading


def too_much(found: Iterable[Read], dialect: str) -> list[Read]:
    return [read for read in found if read.read > MOST[dialect]]


async def test_a_page_of_a_list_reads_no_more_than_is_on_it(grown: Grown) -> None:
    world, db = grown.world, grown.world.services.parts.db
    n = 0
    with reading(db) as found:
        for asked in lists(world.app.openapi(), grown.customers):
            found.clear()
            await world.call("GET", asked.path, params=dict(asked.parameters))
            n += 1
            for read in too_much(found, db.dialect):
                print("OFF", db.dialect, asked.name, str(read)[:300])
    print(n)
async def test_duties(grown: Grown) -> None:
    import time
    world, db = grown.world, grown.world.services.parts.db
    with reading(db) as found:
        for duty in world.broker.worker.duties.values():
            found.clear()
            t=time.perf_counter()
            try:
                await duty.run()
            except Exception as e:
                print("ERR", duty.name, repr(e)[:300])
            print("duty", duty.name, len(found), max((f.read for f in found), default=0), round(time.perf_counter()-t,1))
            for read in too_much(found, db.dialect):
                print("OFF", db.dialect, duty.name, str(read)[:300])
