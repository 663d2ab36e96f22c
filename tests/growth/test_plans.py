"""However many rows a table has, a page of a list and a round of the worker read some of them only.

Every list is asked for with each of its filters, first and late, and with pairs of filters; every duty of the worker is
done.  Each statement that this takes is explained (:mod:`tests.support.reads`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest
from sqlalchemy import func, select

from broker.base import paging
from broker.base.db import EVERY_TENANT
from broker.tables import METADATA
from tests.bench.growth.asked import PageAsked, lists
from tests.growth.conftest import Grown
from tests.support.reads import MOST, Read, reading

# What grows with people, files and releases, not with customers or with what is done for them.
SMALL: Mapping[str, str] = {
    "audit_archives": "one for each month that is archived",
    "audit_blocks": "one for thousands of events",
    "audit_checkpoint": "one row",
    "audit_cosigned": "the newest ones",
    "audit_cursors": "one for each that follows the record",
    "audit_head": "one row",
    "audit_log_keys": "two for each change of the log's key",
    "audit_holds": "made by hand",
    "audit_pruned": "one for thousands of events",
    "audit_series": "one for each restore",
    "audit_subjects": "one for each of whom there are events: customers, people, jobs",
    "audit_tiles": "one for hundreds of events",
    "audit_witnesses": "listed by hand",
    "bootstrap": "one row",
    "device_sign_ins": "those of a day",
    "identities": "people",
    "identity_rechecks": "people who are signed in",
    "days": "one for each day",
    "internal_keys": "one row",
    "issuers": "declared by files",
    "keystore_strays": "what a keystore elsewhere has yet to destroy",
    "needed_keystores": "one for each keystore there ever was",
    "one_time_links": "one of each person at most",
    "operators": "people",
    "passkeys": "a few of each person",
    "sessions": "those of a day or two, of people",
    "signing_keys": "few, whatever is signed with them",
    "used_ceremonies": "of a day, in which people sign in a few times each",
    "pending_sign_ins": "those of a day",
    "used_logout_tokens": "those of a day",
    "webhooks": "made by hand",
}
# Lists and duties with a statement that reads more, on some database, and why.  What can be otherwise is to leave.
KNOWN: Mapping[str, str] = {
    "index_record": "all terms of a block are written together",
    "confirm_revocations": "of a key that died the record is searched once, for its end and its last use",
    "ask_for_due": "of each of a page of keys its organization's notices are looked through",
    "/v1/audit/events": "a search looks at some thousand events at once; what its statements read has tests of its own",
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


async def test_a_page_of_a_list_reads_no_more_than_is_on_it(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "LOOKED_AT", 50)  # rows that no index can tell apart
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


@pytest.mark.timeout(300)
async def test_a_round_of_the_worker_reads_no_more_than_it_works_on(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.audit.integrating.LONGEST_PAUSE_S", 0)  # nobody else is there
    db, worst = grown.world.broker.worker.db, {}
    for name, duty in grown.world.broker.worker.duties.items():
        with reading(db, times=5) as found:
            await duty.run()
        if name not in KNOWN and (reads := too_much(found, db.dialect)):
            worst[name] = reads
    assert not worst, told(worst)
