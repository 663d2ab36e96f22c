"""``broker record``: months are archived by who hosts the broker, and verified by whoever has the key's line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from broker.base.db import Database
from broker.cli import api, build
from broker.config import Settings
from broker.keystore.local import MasterKeys
from tests.support.commands import MINIMAL, run
from tests.support.past import as_broker, count_uses, record_many


class Hosted:
    """A database whose record goes back to June 2025, and its commands."""

    def __init__(self, directory: Path, url: str) -> None:
        MasterKeys({}, "").with_new_key().write_file(directory / "master-keys.toml")
        self.environment = {**MINIMAL, "BROKER_STATE_DIR": str(directory), "BROKER_DATABASE_URL": url}
        self.folder = directory / "archives"

    def record(self, *words: str, given: bytes = b"") -> tuple[int, str, str]:
        done = run("record", *words, environment=self.environment, given=given)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def archive(self, *words: str) -> tuple[int, str, str]:
        return self.record("archive", "--before", "2025-08", "--to", str(self.folder), *words)


@pytest.fixture
async def hosted(tmp_path: Path, database_url: str, db: Database) -> Hosted:
    made = Hosted(tmp_path, database_url)
    await as_broker(db, Settings(state_dir=tmp_path, database_url=SecretStr(database_url)))
    await record_many(db, 202506, 3)
    await record_many(db, 202507, 2)
    await count_uses(db)
    return made


async def test_months_are_archived_and_anybody_with_the_key_verifies_them(hosted: Hosted, tmp_path: Path) -> None:
    status, said, problem = hosted.archive("--yes", "--json")
    assert status == 0, problem
    june, july = json.loads(said)
    assert june == {
        "month": "2025-06",
        "file": str(hosted.folder / "record-202506.ndjson.gz"),
        "first": 0,
        "events": 3,
    }
    assert (july["month"], july["first"], july["events"]) == ("2025-07", 3, 2)
    _, key, _ = hosted.record("key")
    assert key.startswith("keybroker-record/")

    # somewhere else, where there is no broker, no setting and no database
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(hosted.folder, elsewhere)
    files = sorted(str(path) for path in elsewhere.glob("*.gz"))
    done = run("record", "verify", *files, "--key", key.strip(), "--json", environment=MINIMAL, directory=elsewhere)
    assert done.returncode == 0, done.stderr
    assert [(one["month"], one["events"]) for one in json.loads(done.stdout)] == [("2025-06", 3), ("2025-07", 2)]

    # on the server the key is its own; either of an archive's files names it
    status, said, _ = hosted.record("verify", str(hosted.folder / "record-202507.note"))
    assert status == 0
    assert "2025-07" in said
    assert hosted.archive("--yes") == (0, "The record has no month before 2025-08.\n", "")


async def test_what_does_not_verify_is_refused_and_named(hosted: Hosted) -> None:
    assert hosted.archive("--yes")[0] == 0
    _, key, _ = hosted.record("key")
    file, note = hosted.folder / "record-202506.ndjson.gz", hosted.folder / "record-202506.note"
    whole = file.read_bytes()

    def refused(*words: str) -> str:
        done = run("record", "verify", str(file), *words, environment=MINIMAL)
        assert done.returncode == 1
        return done.stderr.decode()

    ours = ("--key", key.strip())
    file.write_bytes(whole[: len(whole) // 2])
    assert "record-202506.ndjson.gz: line" in refused(*ours)
    file.write_bytes((hosted.folder / "record-202507.ndjson.gz").read_bytes())
    assert "line 1: is not the header of the archive that the note is about" in refused(*ours)
    file.write_bytes(whole)
    note.write_bytes(note.read_bytes().replace(b"count 3", b"count 2"))
    assert "record-202506.note: the note: the signature is wrong" in refused(*ours)
    note.unlink()
    assert "record-202506.note: No such file" in refused(*ours)
    other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    note.write_bytes((hosted.folder / "record-202507.note").read_bytes())
    assert "not signed by this key" in refused("--key", other)
    assert "--key: is not what `broker record key` prints" in refused("--key", "x")


async def test_nothing_is_removed_without_assent(hosted: Hosted) -> None:
    status, _, said = hosted.archive()
    assert status == 1
    assert "removed from the database" in " ".join(said.split())
    assert not hosted.folder.exists()


@pytest.mark.parametrize("month", ["2025-13", "2025", "202508", "august"])
def test_what_is_no_month_is_refused(tmp_path: Path, month: str) -> None:
    done = run("record", "archive", "--before", month, "--to", str(tmp_path), "--yes", environment=MINIMAL)
    assert done.returncode == 1
    assert f"'{month}' is no month; write it as 2026-08" in done.stderr.decode()


@pytest.mark.parametrize(
    ("months", "named"), [(["2025-06"], "2025-06"), (["2025-05", "2025-06", "2025-07"], "2025-05 to 2025-07")]
)
def test_a_search_says_beside_its_events_what_may_be_in_archives(
    monkeypatch: pytest.MonkeyPatch, months: list[str], named: str
) -> None:
    page: dict[str, Any] = {"items": [], "next": None, "archived": {"first": 12, "months": months}}
    monkeypatch.setattr(api, "call", lambda *_path, **_params: page)
    done = CliRunner().invoke(build(), ["audit", "search", "--json"])
    assert json.loads(done.stdout) == []
    assert done.stderr == f"There may be more in archives: {named}. Here are events from number 12 on.\n"
