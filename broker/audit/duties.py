"""What is to be done about the record from time to time."""

from __future__ import annotations

from functools import partial
from typing import Final

from sqlalchemy import text

from broker.audit.events import BROKER, Event
from broker.audit.indexing import follow
from broker.audit.integrating import Cover, integrate, size
from broker.audit.log_keys import retire
from broker.audit.organization_heads import head_all
from broker.audit.record import record
from broker.audit.signing import Signers
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Counts, Duty

# A month is made so early that one that can't be made now is no fault yet.
_AHEAD: Final = 2
_EVERY_MS: Final = 3_600_000
_MAKE = text("SELECT keybroker_month(:ahead)")


def duties(db: Database, signers: Signers, cover: Cover, clock: Clock) -> tuple[Duty, ...]:
    """The record's duties."""

    async def make_months() -> None:
        """Make the partitions of the months to come (:mod:`broker.audit.months`)."""
        if db.dialect != "postgresql":
            return
        for ahead in range(1, _AHEAD + 1):
            async with db.write(EVERY_TENANT) as session:
                await session.execute(_MAKE, {"ahead": ahead})

    async def grow() -> Counts:
        """Bring the log to the record's end; tells how many events it has, and when that was."""
        await integrate(db, signers, cover)
        async with db.read(EVERY_TENANT) as session:
            return {("size",): await size(session), ("seconds",): clock() / 1000}

    async def retire_log_key() -> None:
        async with db.write(EVERY_TENANT) as session:
            if (old := await retire(session, clock())) is not None:
                reason = f"number={old.number},good_to={old.good_to}"
                await record(session, Event(kind="log.key_retired", time=clock(), actor=BROKER, reason=reason))

    return (
        Duty("index_record", partial(follow, db)),
        Duty("integrate", grow),
        Duty("head_organizations", partial(head_all, db, clock), every=_EVERY_MS),
        Duty("retire_log_key", retire_log_key, every=_EVERY_MS, final=True),
        Duty("make_months", make_months, every=_EVERY_MS),
    )
