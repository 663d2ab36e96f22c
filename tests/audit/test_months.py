"""The record in months: each is a partition, made before it begins, that nobody reaches but by way of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from broker.audit.duties import duties
from broker.audit.log import AuditLog
from broker.audit.months import month_of
from broker.audit.record import record
from broker.audit.subjects import SubjectKeys
from broker.audit.tables import EventRow, HeadRow
from broker.base.clock import Millis, now_ms
from broker.base.db import EVERY_TENANT, Database
from tests.audit.test_log import event
from tests.support.databases import Postgres
from tests.support.past import signers

NOW = month_of(now_ms())


def after(month: int, months: int) -> int:
    number = month // 100 * 12 + month % 100 - 1 + months
    return number // 12 * 100 + number % 12 + 1


async def months_of(db: Database) -> list[int]:
    async with db.read(EVERY_TENANT) as session:
        return list(await session.scalars(select(EventRow.month).order_by(EventRow.idx)))


async def partitions(db: Database) -> list[int]:
    async with db.engine.connect() as connection:
        names = await connection.scalars(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_events'::regclass")
        )
        return sorted(int(name.removeprefix("audit_events_")) for name in names)


def test_a_month_is_written_as_year_and_month_of_utc() -> None:
    last = datetime(2026, 12, 31, 23, 59, 59, 999_000, UTC).timestamp() * 1000
    assert (month_of(Millis(int(last))), month_of(Millis(int(last) + 1))) == (202612, 202701)


async def test_an_event_has_the_month_in_which_it_was_committed_by_either_way(db: Database, log: AuditLog) -> None:
    await log.append(event())
    async with db.write(EVERY_TENANT) as session:
        await record(session, event())
    assert await months_of(db) == [NOW, NOW]


async def test_a_month_never_goes_back(db: Database, log: AuditLog) -> None:
    """Else a month would be no range of indices; a clock may."""
    async with db.write(EVERY_TENANT) as session:
        await session.execute(update(HeadRow).values(month=after(NOW, 1)))
    await log.append(event())
    assert await months_of(db) == [after(NOW, 1)]


async def test_a_month_that_is_not_there_is_made_by_whoever_needs_it(postgres_url: str) -> None:
    db = Database(postgres_url)
    db.subjects = SubjectKeys(bytes(32))
    log = AuditLog(db, deadline=20)
    await log.start()
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text(f"DROP TABLE audit_events_{NOW}"))
    await asyncio.gather(*(log.append(event()) for _ in range(20)))
    assert await months_of(db) == [NOW] * 20
    await log.stop()
    await db.close()


async def nothing() -> int:
    """The log isn't what is made here."""
    return 0


async def test_months_are_made_before_they_begin(postgres_url: str) -> None:
    db = Database(postgres_url)
    (duty,) = [duty for duty in duties(db, signers, nothing, now_ms) if duty.name == "make_months"]
    await duty.run()
    assert await partitions(db) == [NOW, after(NOW, 1), after(NOW, 2)]
    await duty.run()
    assert len(await partitions(db)) == 3
    await db.close()


@pytest.fixture
async def user(postgres_url: str, prepared_postgres: Postgres) -> AsyncIterator[str]:
    """The address of a role that owns nothing and may use what is there, as in production."""
    name = postgres_url.partition("@/")[2].partition("?")[0]
    role = f"user_of_{name}"
    await prepared_postgres.admin(f"CREATE ROLE {role} LOGIN")
    owner = await asyncpg.connect(host=prepared_postgres.socket, user="broker_app", database=name)
    await owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    yield prepared_postgres.url(name, role)
    await owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
    await owner.close()
    await prepared_postgres.admin(f"DROP ROLE {role}")


async def test_who_owns_nothing_may_record_in_a_new_month_and_reaches_no_month_but_by_the_whole(
    user: str, postgres_url: str
) -> None:
    owner = Database(postgres_url)
    async with owner.write(EVERY_TENANT) as session:
        await session.execute(text(f"DROP TABLE audit_events_{NOW}"))
    db = Database(user)
    db.subjects = SubjectKeys(bytes(32))
    log = AuditLog(db, deadline=20)
    await log.start()
    await log.append(event())
    assert await months_of(db) == [NOW]
    await log.stop()
    inside = text(f"SELECT count(*) FROM audit_events_{NOW}")
    with pytest.raises(DBAPIError, match="permission denied"):
        async with db.engine.connect() as connection:
            await connection.execute(inside)
    async with owner.write(EVERY_TENANT) as session:
        assert await session.scalar(inside) == 0, "nor does its owner"
    await db.close()
    await owner.close()


@pytest.mark.parametrize("change", ["UPDATE {} SET kind = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
async def test_a_month_only_grows_as_the_whole_does(postgres_url: str, change: str) -> None:
    db = Database(postgres_url)
    for table in ("audit_events", f"audit_events_{NOW}"):
        with pytest.raises(Exception, match="the record only grows"):
            async with db.write(EVERY_TENANT) as session:
                await session.execute(text(change.format(table)))
    await db.close()
