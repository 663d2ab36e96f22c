"""Tell people of a row that gives rights and is not as the broker wrote it."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.recent import Recent
from broker.formats.ids import NoId, OrganizationId
from broker.keystore.genuine import GivesRights
from broker.notifications.notices import notify

_REMEMBERED = 10_000
# In memory, not by the notice: whoever wrote the row could have written that beforehand.
_reported: WeakKeyDictionary[Database, Recent[tuple[str, str, int], bool]] = WeakKeyDictionary()


async def report(db: Database, row: GivesRights, now: Millis) -> None:
    """Put such a row on the record and notify operators.

    That is once a day in each process, for as long as somebody meets the row.
    """
    organization: OrganizationId | NoId = getattr(row, "organization_id", "")
    table, name = row.table_name, row.id
    met, day = _reported.setdefault(db, Recent(_REMEMBERED)), now // DAY_MS
    if met.get((table, name, day)):
        return
    async with db.write(EVERY_TENANT) as session:
        await notify(
            session,
            "right_altered",
            organization=organization,
            provider=getattr(row, "provider", ""),
            now=now,
            dedup=f"altered/{table}/{name}/{day}",
            facts={"table": table, "row": name},
        )
        event = Event(kind="right.altered", time=now, actor=BROKER, organization=organization, subject=name)
        await record(session, event)
    met[table, name, day] = True


async def insist(db: Database, row: GivesRights, now: Millis) -> None:
    """Go on with a genuine row only: any other one is reported.

    Raises:
        RowAltered: it is not genuine.
    """
    if not row.genuine:
        await report(db, row, now)
        row.vouched_for()
