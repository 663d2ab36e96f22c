"""A database that is in use is brought to a newer schema: no use waits for long, and what was interrupted goes on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from broker import schema
from broker.base.db import EVERY_TENANT, Database
from tests.support.databases import Postgres
from tests.support.later import FIRST, knowing, write_revision
from tests.support.waiting import eventually

ROWS = 100_000
# What a use reads and writes.
OF_A_USE = ("organizations", "workloads", "grants", "credentials", "credential_versions", "guards", "leases", "uses")
# So long a use may wait for a lock.
LONGEST = "2s"

COLUMN = """op.add_column("leases", sa.Column("new_one", sa.BigInteger(), nullable=True))"""
INDEX = """
with op.get_context().autocommit_block():
    op.create_index(
        "ix_uses_new", "uses", ["credential_id", "version"], postgresql_concurrently=True, if_not_exists=True
    )
"""
VALUES = {
    "text": "'m' || n",
    "varchar": "'m' || n",
    "uuid": "uuidv7()",
    "int8": "n",
    "int4": "n",
    "bool": "false",
    "json": "'[]'",
    "jsonb": "'[]'",
    "bytea": "convert_to('m' || n, 'UTF8')",
}


@pytest.fixture
async def first_url(prepared_postgres: Postgres) -> AsyncIterator[str]:
    """A database at the first schema."""
    url = await prepared_postgres.fresh("template0")
    db = Database(url)
    await schema.upgrade(db, FIRST)
    await db.close()
    yield url
    await prepared_postgres.drop(url)


@pytest.fixture
async def first(first_url: str) -> AsyncIterator[Database]:
    db = Database(first_url)
    yield db
    await db.close()


@pytest.fixture
async def shipped(postgres_url: str) -> AsyncIterator[Database]:
    """A database at this version's schema."""
    db = Database(postgres_url)
    yield db
    await db.close()


@pytest.fixture
def later(tmp_path: Path) -> Iterator[Path]:
    """The next version has two more revisions: a column, and an index."""
    head = [*schema.revisions()][-1]
    write_revision(tmp_path, "9001", head, COLUMN, 'op.drop_column("leases", "new_one")')
    write_revision(tmp_path, "9002", "9001", INDEX, 'op.drop_index("ix_uses_new", "uses")')
    with knowing(tmp_path):
        yield tmp_path


@asynccontextmanager
async def session(db: Database, purpose: str, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    given = {"broker.tenants": EVERY_TENANT.setting(), **settings}
    connection = await db.dedicated(purpose, longest_s=None, settings=given)
    try:
        yield connection
    finally:
        await connection.close()


async def filling(connection: asyncpg.Connection, table: str) -> str:
    """A statement that adds the rows numbered from $1 to $2, with a value wherever the table wants one."""
    columns = await connection.fetch(
        "SELECT column_name, udt_name FROM information_schema.columns "
        "WHERE table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL",
        table,
    )
    names = ", ".join(row["column_name"] for row in columns)
    values = ", ".join(VALUES[row["udt_name"]] for row in columns)
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series($1::bigint, $2::bigint) n"


async def count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


class Uses:
    """Makes uses, one after another; any that waits for a lock for too long fails."""

    def __init__(self) -> None:
        self.made = 0
        self._end = asyncio.Event()

    async def run(self, db: Database) -> None:
        async with session(db, "use", lock_timeout=LONGEST) as connection:
            lease, use = await filling(connection, "leases"), await filling(connection, "uses")
            while not self._end.is_set():
                number = 10 * ROWS + self.made
                async with connection.transaction():
                    for table in OF_A_USE:
                        await connection.execute(f"SELECT 1 FROM {table} LIMIT 1")
                    await connection.execute(lease, number, number)
                    await connection.execute(use, number, number)
                self.made += 1
                await asyncio.sleep(0.02)

    def end(self) -> None:
        self._end.set()


@asynccontextmanager
async def uses_going_on(db: Database) -> AsyncIterator[Uses]:
    uses = Uses()
    async with asyncio.TaskGroup() as group:
        group.create_task(uses.run(db))
        await eventually(lambda: uses.made)
        yield uses
        uses.end()


async def change_waits(connection: asyncpg.Connection, sessions: int = 1) -> bool:
    waiting = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'keybroker schema' AND wait_event_type = 'Lock'"
    )
    return bool(waiting == sessions)


async def table_is_held(connection: asyncpg.Connection) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'uses'::regclass AND granted "
            "AND mode = 'ShareUpdateExclusiveLock')"
        )
    )


async def states_of_index(connection: asyncpg.Connection) -> list[bool]:
    """Whether it is whole, of each index of that name, finished or not."""
    rows = await connection.fetch(
        "SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relname = 'ix_uses_new'"
    )
    return [row["indisvalid"] for row in rows]


async def test_a_hundred_thousand_rows_of_each_table_are_migrated_while_uses_go_on(
    first: Database, later: Path
) -> None:
    # given
    async with session(first, "fill") as connection:
        for table in OF_A_USE:
            await connection.execute(await filling(connection, table), 1, ROWS)
    # when
    async with uses_going_on(first) as uses:
        before = uses.made
        await schema.upgrade(first)
        beside = uses.made - before
    # then no use failed, and
    assert beside > 0
    assert await schema.current(first) == "9002"
    async with session(first, "look") as connection:
        rows = {table: await count(connection, table) for table in OF_A_USE}
        assert await states_of_index(connection) == [True]
    assert rows == dict.fromkeys(OF_A_USE, ROWS) | dict.fromkeys(("leases", "uses"), ROWS + uses.made)


async def test_a_change_gives_way_to_uses_as_long_as_another_holds_its_table(shipped: Database, later: Path) -> None:
    async with session(shipped, "look") as look, session(shipped, "report") as report, uses_going_on(shipped) as uses:
        # given somebody reads the table in a transaction that stays open
        reading = report.transaction()
        await reading.start()
        await report.execute("SELECT 1 FROM leases LIMIT 1")
        # when
        migrating = asyncio.create_task(schema.upgrade(shipped))
        # then the change tries, gives way, and tries again
        for _ in range(2):
            await eventually(lambda: change_waits(look))
            made = uses.made
            await eventually(lambda made=made: uses.made > made + 1)  # type: ignore[misc]  # bound at once
        assert await schema.current(shipped) == [*schema.revisions()][-3]
        # and ends once it can
        await reading.rollback()
        await migrating
        assert await schema.current(shipped) == "9002"


async def test_who_held_the_table_all_the_time_is_named(shipped: Database, later: Path) -> None:
    async with session(shipped, "report") as report, report.transaction():
        await report.execute("SELECT 1 FROM leases LIMIT 1")
        holder = await report.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(schema.SchemaUnusable) as told:
            await schema.upgrade(shipped, patience_s=0.5)
    assert "Revision 9001 was given up after" in str(told.value)
    assert f"process {holder} (keybroker report, role broker_app, idle in transaction, begun " in str(told.value)
    assert "SELECT 1" not in str(told.value)
    # what is done stays, and the next run goes on
    await schema.upgrade(shipped)
    assert await schema.current(shipped) == "9002"


async def test_an_index_that_waits_for_an_old_transaction_is_given_up_and_built_at_the_next_run(
    shipped: Database, later: Path
) -> None:
    await schema.upgrade(shipped, "9001")
    async with session(shipped, "report") as report, report.transaction(isolation="repeatable_read"):
        await report.execute("SELECT 1")
        with pytest.raises(schema.SchemaUnusable, match=r"Revision 9002 was given up .*keybroker report, "):
            await schema.upgrade(shipped, patience_s=1.5)
        async with session(shipped, "look") as look:
            assert await states_of_index(look) == [False]
    await schema.upgrade(shipped)
    async with session(shipped, "look") as look:
        assert await states_of_index(look) == [True]


@pytest.mark.parametrize("server", ["goes on building", "ends it, too"])
async def test_an_index_whose_migrate_was_killed_is_whole_after_the_next_one(
    shipped: Database, postgres_url: str, later: Path, server: str
) -> None:
    # given
    await schema.upgrade(shipped, "9001")
    async with session(shipped, "look") as look, session(shipped, "report") as report:
        old = report.transaction(isolation="repeatable_read")
        await old.start()
        await report.execute("SELECT 1")
        # when migrate is killed while it builds
        process = await migrate(postgres_url, later)
        await eventually(lambda: change_waits(look))
        await eventually(lambda: states_of_index(look))
        process.kill()
        await process.wait()
        if server == "ends it, too":
            await look.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'keybroker schema'"
            )
        assert await states_of_index(look) == [False]
        half = await look.fetchval("SELECT 'ix_uses_new'::regclass::oid")
        # and run again
        again = asyncio.create_task(schema.upgrade(shipped))
        await eventually(lambda: change_waits(look, 2 if server == "goes on building" else 1))
        await old.rollback()
        await again
        # then
        assert await states_of_index(look) == [True]
        # and what the server finished was not built again
        is_the_same = half == await look.fetchval("SELECT 'ix_uses_new'::regclass::oid")
        assert is_the_same == (server == "goes on building")
    assert await schema.current(shipped) == "9002"


async def test_an_index_that_the_server_is_about_to_finish_is_not_built_again(
    shipped: Database, postgres_url: str, postgres: Postgres, later: Path
) -> None:
    # given an unfinished index
    await schema.upgrade(shipped, "9001")
    async with session(shipped, "report") as report, report.transaction(isolation="repeatable_read"):
        await report.execute("SELECT 1")
        with pytest.raises(schema.SchemaUnusable):
            await schema.upgrade(shipped, patience_s=1.5)
    async with postgres.superuser(postgres_url) as server, session(shipped, "look") as look:
        half = await look.fetchval("SELECT 'ix_uses_new'::regclass::oid")
        # and a server that let the table go, and has not ended the transaction yet
        finishing = server.transaction()
        await finishing.start()
        await server.execute("UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'ix_uses_new'::regclass")
        # when it is gone on with
        again = asyncio.create_task(schema.upgrade(shipped))
        await eventually(lambda: table_is_held(look))
        done, _ = await asyncio.wait([again], timeout=0.5)
        assert not done
        await finishing.commit()
        await again
        # then
        assert half == await look.fetchval("SELECT 'ix_uses_new'::regclass::oid")
        assert await states_of_index(look) == [True]


MIGRATE = """
import asyncio, pathlib, sys
from broker import schema
from broker.base.db import Database
from broker.base.logs import configure
from tests.support.later import knowing
configure("info")
with knowing(pathlib.Path(sys.argv[2])):
    asyncio.run(schema.upgrade(Database(sys.argv[1])))
"""


async def migrate(url: str, later: Path) -> asyncio.subprocess.Process:
    """Migrate in a process of its own, whose log can be read."""
    command = (sys.executable, "-c", MIGRATE, url, str(later))
    return await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE)


async def test_the_log_says_which_revision_runs_and_who_keeps_it_waiting(
    shipped: Database, postgres_url: str, later: Path
) -> None:
    async with session(shipped, "report") as report, report.transaction():
        await report.execute("SELECT 1 FROM leases LIMIT 1")
        process = await migrate(postgres_url, later)
        assert process.stderr is not None
        begun, waits = [json.loads(await process.stderr.readline()) for _ in range(2)]
    rest = [json.loads(line) for line in (await process.communicate())[1].splitlines()]
    assert (begun["event"], begun["revision"], begun["brings"]) == ("schema.upgrading", "9001", "What is new.")
    assert (waits["event"], waits["revision"]) == ("schema.waits", "9001")
    assert "keybroker report, role broker_app, idle in transaction" in waits["holds"]
    assert waits["seconds"] >= 0
    told = [(line["event"], line["revision"]) for line in rest]
    assert told == [("schema.upgraded", "9001"), ("schema.upgrading", "9002"), ("schema.upgraded", "9002")]


async def test_a_server_that_goes_away_in_between_is_told_as_that(shipped: Database, later: Path) -> None:
    async with session(shipped, "look") as look, session(shipped, "report") as report, report.transaction():
        await report.execute("SELECT 1 FROM leases LIMIT 1")
        migrating = asyncio.create_task(schema.upgrade(shipped))
        await eventually(lambda: change_waits(look))
        await look.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'keybroker schema'"
        )
        with pytest.raises(schema.SchemaUnusable, match=r"went away on the way to revision 9001: .* goes on there"):
            await migrating
    await schema.upgrade(shipped)


async def test_the_next_versions_revisions_go_up_and_down_on_both_databases(db: Database, later: Path) -> None:
    before = await schema.current(db)
    await schema.upgrade(db)
    assert await schema.current(db) == "9002"
    await schema.downgrade(db, str(before))
    assert await schema.current(db) == before


async def test_a_way_down_that_fails_changes_nothing(db: Database, later: Path) -> None:
    write_revision(later, "9001", [*schema.revisions()][-3], COLUMN, 'raise RuntimeError("stay here")')
    await schema.upgrade(db)
    with pytest.raises(RuntimeError, match="stay here"):
        await schema.downgrade(db, "base")
    assert await schema.current(db) == "9002"
