"""Somebody else's code accepts our log: the Go team's ``golang.org/x/mod/sumdb``, as Debian has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.audit import integrating, receipts
from broker.audit.integrating import integrate
from broker.audit.tables import EventRow
from broker.base.db import EVERY_TENANT, Database
from broker.formats.tile import WIDTH, Tile
from tests.audit.test_integrating import entries, put
from tests.support.past import signers

SOURCES = Path("/usr/share/gocode")  # where Debian's golang-golang-x-mod-dev has them
PROGRAM = Path(__file__).parent / "third_party" / "main.go"
needs_go = pytest.mark.skipif(
    shutil.which("go") is None or not (SOURCES / "src/golang.org/x/mod/sumdb").is_dir(),
    reason="golang-go and golang-golang-x-mod-dev aren't installed: nobody else's code saw our log",
)


async def note(db: Database) -> bytes:
    async with db.read(EVERY_TENANT) as session:
        row = await integrating.newest(session)
    assert row is not None
    return row.note


async def laid_out(db: Database, folder: Path) -> None:
    """Every tile of the log, where it is served."""
    async with db.read(EVERY_TENANT) as session:
        size = await integrating.size(session)
        level = 0
        while hashes := size >> 8 * level:
            for number in range(-(-hashes // WIDTH)):
                tile = Tile(level, number, min(WIDTH, hashes - number * WIDTH))
                data = await integrating.tile(session, tile)
                assert data is not None
                file = folder / tile.path()
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            level += 1


@needs_go
@pytest.mark.timeout(300)
async def test_the_go_teams_code_opens_our_checkpoint_and_proves_from_our_tiles(db: Database, tmp_path: Path) -> None:
    # given a log that grew
    await put(db, 300)
    await integrate(db, signers)
    (tmp_path / "before").write_bytes(await note(db))
    await put(db, 500)
    await integrate(db, signers)
    # when its key, checkpoints, tiles, entries and a receipt are laid out
    (tmp_path / "key").write_text(signers(0).verifier().line() + "\n")
    (tmp_path / "checkpoint").write_bytes(await note(db))
    (tmp_path / "entries").write_bytes(b"".join(await entries(db)))
    await laid_out(db, tmp_path)
    async with db.read(EVERY_TENANT) as session:
        row = (await session.scalars(select(EventRow).where(EventRow.idx == 277))).one()
        (tmp_path / "receipt").write_bytes(await receipts.of_row(session, row, personal=False))
    # then that code accepts them all, and refuses what was altered
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(SOURCES),
        "GOCACHE": str(tmp_path / "cache"),
        "GOFLAGS": "",
    }
    done = subprocess.run(
        ["go", "run", str(PROGRAM), str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "800 entries, of which 300 were there before\n"), done.stderr
