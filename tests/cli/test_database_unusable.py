"""A database that can't be used is one message with the setting's name: no trace, and no password."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from broker.base.db import DatabaseSlow
from broker.cli.process import run_or_fail
from broker.keystore.local import MasterKeys
from tests.support.commands import MINIMAL, run
from tests.support.databases import Postgres


def said(directory: Path, url: str, *words: str) -> str:
    MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
    given = {"BROKER_STATE_DIR": str(directory), "BROKER_DATABASE_URL": url, "BROKER_LOG_LEVEL": "error"}
    refused = run(*words, environment={**MINIMAL, **given})
    assert (refused.returncode, refused.stdout) == (1, b""), refused
    text = refused.stderr.decode()
    assert text.startswith("error: BROKER_DATABASE_URL: ")
    assert text.count("\n") == 1
    assert "s3cret" not in text
    return text


@pytest.mark.parametrize("command", ["serve", "worker", "migrate", "doctor"])
def test_a_database_that_is_not_there_is_named_in_the_servers_words(
    tmp_path: Path, prepared_postgres: Postgres, command: str
) -> None:
    url = prepared_postgres.url("nowhere").replace("@/", ":s3cret@/")
    assert 'can\'t be used: database "nowhere" does not exist' in said(tmp_path, url, command)


def test_a_role_that_is_not_there_is_named(tmp_path: Path, prepared_postgres: Postgres) -> None:
    url = prepared_postgres.url("postgres", "nobody:s3cret")
    assert 'role "nobody" does not exist' in said(tmp_path, url, "doctor")


async def test_a_role_that_may_not_change_the_schema_is_told_so(tmp_path: Path, prepared_postgres: Postgres) -> None:
    await prepared_postgres.admin("CREATE DATABASE of_somebody_else TEMPLATE template0")
    url = prepared_postgres.url("of_somebody_else")
    try:
        assert "this role may not do that (permission denied" in said(tmp_path, url, "migrate")
    finally:
        await prepared_postgres.drop(url)


@pytest.mark.parametrize("what", ["text", "folder"])
def test_a_file_that_is_no_database_is_told_so(tmp_path: Path, what: str) -> None:
    file = tmp_path / "broker.db"
    if what == "text":
        file.write_text("once upon a time, " * 100)
    else:
        file.mkdir()
    wanted = {"text": "file is not a database", "folder": "unable to open database file"}[what]
    assert wanted in said(tmp_path, f"sqlite+aiosqlite:///{file}", "doctor")


@pytest.mark.parametrize("late", [TimeoutError(), DatabaseSlow("The database did not answer in time; try again.")])
def test_a_database_that_is_late_is_not_called_away(late: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    async def wait() -> None:
        raise late

    with pytest.raises(typer.Exit):
        run_or_fail(wait())
    assert "did not answer in time" in capsys.readouterr().err
