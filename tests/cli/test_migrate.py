"""``broker migrate``: a way that isn't there is a message; the way down asks, and the record needs a word."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from broker import schema
from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.audit.subjects import SubjectKeys
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.keystore.local import MasterKeys
from tests.support.commands import MINIMAL, run


class Stored:
    """A database, and its commands."""

    def __init__(self, directory: Path, url: str) -> None:
        MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
        self.url = url
        self.environment = {**MINIMAL, "BROKER_STATE_DIR": str(directory), "BROKER_DATABASE_URL": url}

    async def name(self) -> str:
        async with self.opened() as db:
            return Path(db.engine.url.database or "").name

    def opened(self) -> _Opened:
        return _Opened(self.url)

    async def keep_an_event(self) -> None:
        async with self.opened() as db, db.write(EVERY_TENANT) as session:
            await record(session, Event(kind="audit.read", time=now_ms(), actor=BROKER))

    async def at(self) -> str | None:
        async with self.opened() as db:
            return await schema.current(db)

    def migrate(self, *words: str) -> tuple[int, str]:
        """The status, and what was written, with nobody to ask."""
        done = run("migrate", *words, environment=self.environment)
        return done.returncode, (done.stdout + done.stderr).decode()

    def on_a_terminal(self, *words: str, typed: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        command = [sys.executable, "-m", "broker", "migrate", *words]
        with subprocess.Popen(command, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            said = b""
            with suppress(OSError):  # how a terminal says that nobody writes any more
                while part := os.read(ours, 4096):
                    said += part
        os.close(ours)
        return process.returncode, said.decode()


class _Opened:
    def __init__(self, url: str) -> None:
        self._db = Database(url)
        self._db.subjects = SubjectKeys(bytes(32))

    async def __aenter__(self) -> Database:
        return self._db

    async def __aexit__(self, *_: object) -> None:
        await self._db.close()


@pytest.fixture
def stored(tmp_path: Path, database_url: str) -> Stored:
    return Stored(tmp_path, database_url)


@pytest.fixture
def embedded(tmp_path: Path, sqlite_url: str) -> Stored:
    return Stored(tmp_path, sqlite_url)


NEWEST = [*schema.revisions()][-1]


@pytest.mark.parametrize("words", [("nosuchrev",), ("nosuchrev", "--down"), ("+1",), ("00",)], ids=" ".join)
async def test_a_revision_that_is_none_is_refused_with_those_there_are(
    embedded: Stored, words: tuple[str, ...]
) -> None:
    status, said = embedded.migrate(*words)
    assert status == 1
    assert said == f"error: {words[0]}: there is no such revision; write head, base, or one from 0001 to {NEWEST}.\n"


async def test_a_way_that_leads_the_other_way_is_refused_with_the_right_one(embedded: Stored) -> None:
    status, said = embedded.migrate("0002")
    assert (status, f"is at {NEWEST}, which is beyond 0002; --down goes" in said) == (1, True)
    assert embedded.migrate("0001", "--down", "--yes")[0] == 0
    assert await embedded.at() == "0001"
    status, said = embedded.migrate("head", "--down", "--yes")
    assert (status, "is at 0001, which is below head; leave --down out" in said) == (1, True)
    # going up half the way goes no further
    status, said = embedded.migrate("0002")
    assert (status, said.startswith("The database is at 0002.\n")) == (0, True)
    assert await embedded.at() == "0002"


@pytest.mark.parametrize("words", [("serve",), ("doctor",), ("migrate",), ("migrate", "base", "--down", "--yes")])
async def test_a_database_of_a_newer_version_is_said_to_be_one(stored: Stored, words: tuple[str, ...]) -> None:
    async with stored.opened() as db, db.write_connection() as connection:
        await connection.execute(text("UPDATE schema_version SET version_num = '9999'"))
    refused = run(*words, environment=stored.environment)
    assert refused.returncode == 1
    assert refused.stderr.decode() == (
        "error: The database is at revision 9999, which this version doesn't know, as a newer one made it: run that "
        "one.\n"
    )


async def test_where_nobody_can_be_asked_the_way_down_is_refused_and_what_would_stop_is_named(
    stored: Stored,
) -> None:
    status, said = stored.migrate("0001", "--down")
    assert status == 2
    assert f"The database {await stored.name()} goes down to 0001." in said
    assert "every job's access stops" in said
    for undone in ("0002", "0003"):
        assert f"{undone}  {schema.revisions()[undone]}" in said
    assert "Nothing was changed" in said
    assert "Add --yes if you mean it" in said
    assert "[y/N]" not in said
    assert await stored.at() == NEWEST


async def test_a_database_with_a_record_goes_down_only_by_its_name(stored: Stored) -> None:
    await stored.keep_an_event()
    name = await stored.name()
    for words in (("--yes",), ("--yes-destroy-the-record", "another"), ("--yes", "--yes-destroy-the-record", "")):
        status, said = stored.migrate("base", "--down", *words)
        assert (status in {1, 2}, "Nothing was changed" in said) == (True, True), said
        assert name in said
        assert await stored.at() == NEWEST
    assert "events: 1." in stored.migrate("base", "--down")[1]
    assert stored.migrate("base", "--down", "--yes-destroy-the-record", name) == (0, "The database is at base.\n")
    assert await stored.at() is None
    assert stored.migrate("base", "--down") == (0, "The database is at base.\n"), "there is nothing to ask"


async def test_at_a_terminal_the_name_of_a_database_with_a_record_is_typed(embedded: Stored) -> None:
    await embedded.keep_an_event()
    for typed in ("y\n", "yes\n", "\n\n\x04"):
        assert embedded.on_a_terminal("0002", "--down", typed=typed)[0] == 1
        assert await embedded.at() == NEWEST
    status, said = embedded.on_a_terminal("0002", "--down", typed=f"{await embedded.name()}\n")
    assert (status, "The database is at 0002." in said) == (0, True)
    assert await embedded.at() == "0002"


@pytest.mark.parametrize(("typed", "stands"), [("\n", NEWEST), ("n\n", NEWEST), ("y\n", "0002")])
async def test_at_a_terminal_a_database_without_a_record_is_asked_for_in_a_word(
    embedded: Stored, typed: str, stands: str
) -> None:
    embedded.on_a_terminal("0002", "--down", typed=typed)
    assert await embedded.at() == stands


@pytest.mark.parametrize("words", [("migrate",), ("doctor",), ("serve",)], ids=" ".join)
async def test_a_database_from_before_the_first_release_is_refused_with_what_to_do(
    stored: Stored, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "master-keys.toml").unlink()
    async with stored.opened() as db, db.write_connection() as connection:
        await connection.execute(text(f"ALTER TABLE {schema.VERSION_TABLE} RENAME TO alembic_version"))
    refused = run(*words, environment=stored.environment)
    assert refused.returncode == 1
    said = refused.stderr.decode()
    assert said.startswith(
        "error: The database has alembic_version, so a version from before the first release made it"
    )
    assert "name a new, empty database" in said
    assert not (tmp_path / "master-keys.toml").exists(), "nothing is begun"


async def test_another_programs_table_of_that_name_beside_is_no_matter(stored: Stored) -> None:
    async with stored.opened() as db:
        async with db.write_connection() as connection:
            await connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        await schema.check(db)
