"""A record that goes back to months that are over."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text

from broker import keystore_setup
from broker.audit.batch import EventValues, values_of
from broker.audit.events import BROKER, Event
from broker.audit.head import Head
from broker.audit.integrating import integrate
from broker.audit.record import insert_events
from broker.audit.subjects import SubjectKeys, Whose, of_process
from broker.audit.tables import HeadRow
from broker.base.clock import Millis, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.config import Settings
from broker.formats.signed_note import Signer
from broker.keystore import internal
from broker.leases import use_days

_PARTITION = (
    "CREATE TABLE IF NOT EXISTS audit_events_{0} (LIKE audit_events INCLUDING ALL)",
    "ALTER TABLE audit_events_{0} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE audit_events_{0} FORCE ROW LEVEL SECURITY",
    "ALTER TABLE audit_events ATTACH PARTITION audit_events_{0} FOR VALUES IN ({0})",
)


def signers(epoch: int, number: int = 0) -> Signer:
    """What signs a log of a test."""
    return Signer(f"a-log/{epoch}", number.to_bytes(1) + epoch.to_bytes(31))


def moment(month: int, seconds: int = 0) -> Millis:
    """A time in the month, so many seconds from its beginning."""
    return Millis(int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp() + seconds) * 1000)


async def rows_of(db: Database, *events: Event) -> list[EventValues]:
    """The rows of events, as the log makes them."""
    keys = await of_process(db).of(db, [Whose.of(event) for event in events])
    return [values_of(event, event.committed(), key) for event, key in zip(events, keys, strict=True)]


async def as_broker(db: Database, settings: Settings) -> Database:
    """The database, on which this process records as the broker of these settings does."""
    async with keystore_setup.opened(settings, db, now_ms, may_create=False) as opened:
        keys = await internal.load(db, keystore_setup.in_force(settings, opened), now_ms())
    db.subjects = SubjectKeys(keys.subjects)
    return db


async def record_in(db: Database, month: int, *events: Event) -> None:
    """Put events on the record in a month that is not before that of its last event.

    The product itself records only in the present one.
    """
    if db.dialect == "postgresql":
        async with db.write_connection() as connection:
            for statement in _PARTITION:
                await connection.execute(text(statement.format(month)))
    async with db.read(EVERY_TENANT) as session:
        head = await session.get_one(HeadRow, 1)
    values = await rows_of(db, *events)
    await db.transact(lambda transaction: insert_events(transaction, Head(head.size, head.latest, month), values))


async def record_many(db: Database, month: int, count: int) -> list[Event]:
    """So many events of a month, a second apart."""
    made = [
        Event(kind="use.denied", time=moment(month, at), actor=BROKER, note=f"{month}/{at}", decision="denied")
        for at in range(count)
    ]
    await record_in(db, month, *made)
    return made


async def count_uses(db: Database) -> None:
    """What the worker does with what is on the record."""
    await use_days.duty(db).run()
    await integrate(db, signers)
