"""However many rows a table has, a page of a list and a round of the worker read some of them only.

Every list is asked for with each of its filters, first and late, and with pairs of filters; every duty of the worker is
done.  Each statement that this takes is explained (:mod:`tests.support.reads`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import func, select

from broker.base.db import EVERY_TENANT
from broker.tables import METADATA
from tests.bench.growth.asked import PageAsked, lists
from tests.growth.conftest import Grown
from tests.support.reads import MOST, Read, reading

# What grows with people, files and releases, not with customers or with what is done for them.
SMALL: Mapping[str, str] = {
    "audit_batches": "forgotten a while after each commit",
    "audit_head": "one row",
    "audit_series": "one for each restore",
    "bootstrap": "one row",
    "internal_keys": "one row",
    "keystore_strays": "what a keystore elsewhere has yet to destroy",
    "operators": "people",
    "signing_keys": "few, whatever is signed with them",
    "webhooks": "made by hand",
}
_NO_INDEX = "no index has the filter and the order"
_ALL_DUE = "all that is due is read"
# Lists and duties with a statement that reads more, on some database, and why.  What can be otherwise is to leave.
KNOWN: Mapping[str, str] = {
    "/v1/audit/events": "pairs of filters meet in no index",
    "/v1/credentials": "selections join and sort all keys in use",
    "/v1/grants": _NO_INDEX,
    "/v1/intakes": _NO_INDEX,
    "/v1/leases": _NO_INDEX,
    "/v1/notices": _NO_INDEX,
    "/v1/notices/deliveries": _NO_INDEX,
    "/v1/organizations": "a word within a name is looked for in all names",
    "/v1/rotations": _NO_INDEX,
    "/v1/workloads": "a word within a name is looked for in all names",
    "ask_for_due": "the times at which keys have to be replaced are computed",
    "catch_up": "all keys in use are looked through",
    "check_health": _ALL_DUE,
    "confirm_revocations": _ALL_DUE,
    "count": "all keys are counted",
    "cut_off_rest": "all organizations are looked through",
    "expire_links": "each link is compared with all keys of its organization",
    "forget_answers": _ALL_DUE,
    "forget_assertions": _ALL_DUE,
    "forget_proofs": _ALL_DUE,
    "retire_due": "all leases of the key are read",
}


def too_much(found: Iterable[Read], dialect: str) -> list[Read]:
    """The statements that read more than a page and what belongs to it."""
    return [read for read in found if read.read > MOST[dialect]]


def told(worst: Mapping[str, Collection[Read]]) -> str:
    """For whoever has to mend it."""
    return "\n".join(f"{name}: {read}" for name, reads in worst.items() for read in reads)


async def test_every_table_has_many_rows_or_is_small_for_a_reason(grown: Grown) -> None:
    async with grown.world.services.parts.db.read(EVERY_TENANT) as session:
        rows = {
            name: await session.scalar(select(func.count()).select_from(table)) or 0
            for name, table in METADATA.tables.items()
        }
    few = {name for name, count in rows.items() if count < 3 * MOST["postgresql"]}
    assert few == SMALL.keys()


async def test_a_page_of_a_list_reads_no_more_than_is_on_it(grown: Grown) -> None:
    world, worst = grown.world, {}

    async def ask(page: PageAsked) -> Any:
        with reading(world.services.parts.db) as found:
            answer = await world.call("GET", page.path, params={**page.parameters, "limit": 20})
        assert found
        if page.path not in KNOWN and (reads := too_much(found, world.services.parts.db.dialect)):
            worst[page.name] = reads
        return answer

    for first in lists(world.app.openapi(), grown.customers):
        if late := first.late((await ask(first))["next"]):
            await ask(late)
    assert not worst, told(worst)


async def test_a_broker_compares_what_it_kept_with_the_end_of_the_record_alone(grown: Grown) -> None:
    db = grown.world.services.parts.db
    with reading(db) as found:
        await grown.world.broker.heads.check()
    assert found
    assert not too_much(found, db.dialect)


async def test_a_round_of_the_worker_reads_no_more_than_it_works_on(grown: Grown) -> None:
    db, worst = grown.world.services.parts.db, {}
    for name, duty in grown.world.broker.worker.duties.items():
        with reading(db, times=5) as found:
            await duty.run()
        if name not in KNOWN and (reads := too_much(found, db.dialect)):
            worst[name] = reads
    assert not worst, told(worst)
