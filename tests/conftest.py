"""Real parts for every test: both databases, a sandbox upstream, a whole broker."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from broker.audit.subjects import SubjectKeys
from broker.base.db import Database
from broker.base.logs import configure
from tests.support.alone import Alone
from tests.support.databases import Postgres, postgres_server, sqlite_copy, sqlite_template
from tests.support.world import World, running_world, settings_for, upstream

configure("error")
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("house")

# Servers and databases of tests are made and thrown away by the hundred: in memory, where there is room for them.
_MEMORY, _ENOUGH_BYTES = Path("/dev/shm"), 4 << 30
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def pytest_configure(config: pytest.Config) -> None:
    """One process that runs tests, or several beside each other."""
    config.pluginmanager.register(Alone(config))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: no garbage collection need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Not under pytest's own directory: a socket's path must be short, and later runs clean that up.
    with (
        tempfile.TemporaryDirectory(prefix="kb-pg-", ignore_cleanup_errors=True) as directory,
        postgres_server(Path(directory)) as server,
    ):
        yield server


@pytest.fixture(scope="session")
async def prepared_postgres(postgres: Postgres) -> Postgres:
    await postgres.prepare()
    return postgres


@pytest.fixture(scope="session")
async def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await sqlite_template(tmp_path_factory.mktemp("sqlite") / "template.db")


@pytest.fixture
async def postgres_url(prepared_postgres: Postgres) -> AsyncIterator[str]:
    url = await prepared_postgres.fresh()
    yield url
    await prepared_postgres.drop(url)


@pytest.fixture
def sqlite_url(sqlite_file: Path, tmp_path: Path) -> str:
    return sqlite_copy(sqlite_file, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    database.subjects = SubjectKeys(bytes(32))
    yield database
    await database.close()


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    """A whole broker on each kind of database."""
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, database_url, url), state, url) as made,
    ):
        yield made
