"""A new deployment's first steps: several migrate at once, the first master key, files that only their owner reads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker import app as composition
from broker import database, schema
from broker.base.db import Database
from broker.config import Settings
from broker.keystore.local import MasterKeys
from tests.support.commands import MINIMAL, run
from tests.support.databases import ROLE, Postgres


async def empty(postgres: Postgres, name: str, encoding: str = "UTF8") -> AsyncIterator[str]:
    await postgres.admin(
        f"CREATE DATABASE {name} OWNER {ROLE} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    yield postgres.url(name)
    await postgres.drop(postgres.url(name))


@pytest.fixture
async def empty_url(prepared_postgres: Postgres) -> AsyncIterator[str]:
    """A PostgreSQL database in which nothing is."""
    async for url in empty(prepared_postgres, "first_start"):
        yield url


@pytest.fixture
async def latin1_url(prepared_postgres: Postgres) -> AsyncIterator[str]:
    """One that can't hold every name."""
    async for url in empty(prepared_postgres, "of_the_west", "LATIN1"):
        yield url


def environment(directory: Path, url: str | None) -> dict[str, str]:
    database = {} if url is None else {"BROKER_DATABASE_URL": url}
    return {**MINIMAL, "BROKER_STATE_DIR": str(directory), **database}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A deployment that never ran; on PostgreSQL it has been given its master key."""
    if request.param == "sqlite":
        return Settings(state_dir=tmp_path)
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    return Settings(state_dir=tmp_path, database_url=request.getfixturevalue("empty_url"))


async def test_three_migrate_at_once_and_all_end_well(new: Settings) -> None:
    """One makes schema and master key; the others wait, and find them made."""
    await asyncio.gather(*(database.migrate(new) for _ in range(3)))
    assert len(MasterKeys.from_file(new.key_file()).keys) == 1
    async with composition.running(new) as broker:
        await broker.services.parts.keystore.check()


async def test_who_changes_the_schema_is_waited_for(database_url: str) -> None:
    first, second = Database(database_url), Database(database_url)
    order: list[str] = []
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        async with schema.alone(second):
            order.append("second")

    async with schema.alone(first):
        waiting = asyncio.create_task(waits())
        await begun.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.05)
        order.append("first")
    await waiting
    assert order == ["first", "second"]
    await first.close()
    await second.close()


@pytest.mark.parametrize("command", ["migrate", "serve", "doctor", "worker"])
def test_a_database_that_can_not_hold_every_name_is_refused(tmp_path: Path, latin1_url: str, command: str) -> None:
    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    refused = run(command, environment=environment(tmp_path, latin1_url))
    assert refused.returncode == 1
    assert b"BROKER_DATABASE_URL: this database's encoding is LATIN1" in refused.stderr
    assert b"ENCODING 'UTF8'" in refused.stderr


def test_a_new_deployment_is_told_how_to_make_its_first_master_key(tmp_path: Path, empty_url: str) -> None:
    own = environment(tmp_path, empty_url)
    # given PostgreSQL and no key file
    refused = run("migrate", environment=own)
    assert refused.returncode == 1
    assert b"`broker keystore init`" in refused.stderr
    assert b"restore" not in refused.stderr
    # when the command is run that is named
    made = run("keystore", "init", environment=own)
    assert (made.returncode, b"back it up" in made.stdout) == (0, True), made.stderr
    # then it goes on
    assert b"There is no operator yet" in run("migrate", environment=own).stdout
    assert run("doctor", environment=own).returncode == 0
    # and once something is sealed, no other key is made
    again = run("keystore", "init", environment=own)
    assert (again.returncode, b"there already" in again.stderr) == (1, True)
    (tmp_path / "master-keys.toml").unlink()
    for words in (("keystore", "init"), ("migrate",), ("doctor",)):
        refused = run(*words, environment=own)
        assert (refused.returncode, b"from your backup" in refused.stderr) == (1, True), words
    assert not (tmp_path / "master-keys.toml").exists()


@pytest.mark.parametrize("more", [{"BROKER_MASTER_KEYS": f"a:{'A' * 43}="}, {"BROKER_KEYSTORE": "vault-transit"}])
def test_keys_that_are_not_in_a_file_are_not_made_in_one(tmp_path: Path, more: dict[str, str]) -> None:
    vault = {
        "BROKER_VAULT_URL": "http://127.0.0.1:1",
        "BROKER_VAULT_AUTH": "token",
        "BROKER_VAULT_TOKEN_FILE": str(tmp_path / "token"),
    }
    refused = run("keystore", "init", environment={**environment(tmp_path, None), **vault, **more})
    assert (refused.returncode, b"not in a file" in refused.stderr) == (1, True)
    assert not (tmp_path / "master-keys.toml").exists()


@pytest.mark.usefixtures("open_umask")
async def test_the_state_is_its_owners_alone_in_a_folder_that_everybody_may_enter(tmp_path: Path) -> None:
    directory = tmp_path / "var"
    directory.mkdir(0o777)
    for _ in range(2):
        async with composition.running(Settings(state_dir=directory)):
            modes = {path.name: path.stat().st_mode & 0o777 for path in directory.rglob("*") if path.is_file()}
            assert {"broker.db", "broker.db-wal", "broker.db-shm", "master-keys.toml"} <= set(modes)
            assert set(modes.values()) == {0o600}, modes
        # as an older version left them
        for path in directory.glob("broker.db*"):
            path.chmod(0o644)


def test_a_umask_that_takes_everything_leaves_the_owner_the_state(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
        database.open_database(Settings(state_dir=tmp_path))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
