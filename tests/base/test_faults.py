"""A database that refuses what it is given is not a database that is away."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from broker.base.db import EVERY_TENANT, Database
from broker.base.faults import is_away, is_contradiction, is_refused_value
from broker.base.storable import Unstorable, check
from broker.organizations.tables import OrganizationRow
from broker.web.errors import render
from tests.support.databases import Postgres
from tests.support.ids import nth


def organization(**more: Any) -> dict[str, Any]:
    return {
        "id": nth("org"),
        "slug": "acme",
        "name": "Acme",
        "state": "active",
        "created_at": 1,
        "revoked_at": None,
        "rotation_days": None,
        **more,
    }


async def refusal(db: Database, **more: Any) -> Exception:
    """What comes of a row with such a value."""
    with pytest.raises(Exception) as refused:  # noqa: PT011 - which one is the question
        async with db.write(EVERY_TENANT) as session:
            await session.execute(insert(OrganizationRow), organization(**more))
    return refused.value


@pytest.mark.parametrize(
    "value", [{"name": "\udcff"}, {"name": "a\ud800"}, {"created_at": 2**63}, {"created_at": -(2**70)}]
)
async def test_a_refused_value_is_named_as_such_on_both_databases(db: Database, value: dict[str, Any]) -> None:
    error = await refusal(db, **value)
    assert isinstance(error, Unstorable)
    assert (await render(error)).status_code == 422
    with pytest.raises(Unstorable):
        check(value.values())


@pytest.mark.parametrize("value", [{"name": "a\0b"}, {"slug": "x" * 3_000_000}, {"created_at": "soon"}])
async def test_what_postgresql_alone_refuses_is_named_as_well(postgres_url: str, value: dict[str, Any]) -> None:
    db = Database(postgres_url)
    answer = await render(await refusal(db, **value))
    assert (answer.status_code, json.loads(bytes(answer.body))["code"]) == (422, "invalid")
    await db.close()


async def test_a_row_that_contradicts_another_is_neither(db: Database) -> None:
    async with db.write(EVERY_TENANT) as session:
        await session.execute(insert(OrganizationRow), organization())
    error = await refusal(db)
    assert is_contradiction(error)
    assert not is_away(error)
    assert not is_refused_value(error)
    assert (await render(error)).status_code == 409


async def test_a_statement_that_can_never_succeed_is_no_outage(db: Database) -> None:
    with pytest.raises(SQLAlchemyError) as failed:
        async with db.write(EVERY_TENANT) as session:
            await session.execute(text("SELECT nothing FROM nowhere"))
    assert not is_away(failed.value)
    assert (await render(failed.value)).status_code == 500


async def test_a_writer_that_is_waited_for_in_vain_is_one(sqlite_url: str) -> None:
    path = sqlite_url.partition(":///")[2]
    holder, other = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as busy:
        other.execute("BEGIN IMMEDIATE")
    assert is_away(busy.value)
    holder.close()
    other.close()


@pytest.mark.parametrize(
    "trouble",
    [
        "SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(9)",
        "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(9)",
        "SELECT set_config('transaction_read_only', 'on', true), nextval('s')",
    ],
)
async def test_a_server_that_ends_a_statement_or_only_reads_is_one(postgres_url: str, trouble: str) -> None:
    db = Database(postgres_url)
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text("CREATE SEQUENCE s"))
    with pytest.raises(SQLAlchemyError) as failed:
        async with db.write(EVERY_TENANT) as session:
            await session.execute(text(trouble))
    assert is_away(failed.value)
    assert (await render(failed.value)).status_code == 503
    await db.close()


async def test_a_database_that_is_not_there_is_one(prepared_postgres: Postgres) -> None:
    db = Database(prepared_postgres.url("nowhere"))
    with pytest.raises(SQLAlchemyError) as failed:
        async with db.read(EVERY_TENANT):
            pass
    assert is_away(failed.value)
    await db.close()


class Stated(Exception):
    """A driver's error with an SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def wrapped(sqlstate: str) -> DBAPIError:
    return DBAPIError("SELECT 1", (), Stated(sqlstate))


@pytest.mark.parametrize("state", ["08006", "26000", "40001", "40P01", "53100", "53300", "55P03", "57P03", "58030"])
def test_states_of_the_server_are_outages(state: str) -> None:
    assert is_away(wrapped(state))
    assert not is_refused_value(wrapped(state))


@pytest.mark.parametrize("state", ["22001", "22003", "22021", "22P02", "23505", "42501", "42P01", "54000", "P0001"])
def test_states_of_what_was_asked_are_none(state: str) -> None:
    assert not is_away(wrapped(state))
    assert is_refused_value(wrapped(state)) == state.startswith(("22", "54"))


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), PoolTimeout()])
def test_lost_ways_and_waits_are_outages(error: Exception) -> None:
    assert is_away(error)
