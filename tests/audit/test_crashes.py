"""Under load, twenty kills of each kind: nothing acknowledged is lost, nothing is altered, and the log never forks."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.audit import exporting
from broker.audit.integrating import integrate
from broker.audit.tables import EventRow, HeadRow
from broker.base.db import EVERY_TENANT, Database
from broker.client import verify
from tests.support.databases import Postgres, postgres_server
from tests.support.past import signers

CYCLES = 20
KEYS = [verify.Key(signers(0).name, signers(0).verifier().public)]

WRITER = textwrap.dedent(
    """
    import asyncio, sys
    from broker.audit.events import BROKER, Event
    from broker.audit.log import AuditLog
    from broker.audit.subjects import SubjectKeys
    from broker.audit.unavailable import AuditUnavailable
    from broker.base.clock import now_ms
    from broker.base.db import Database

    async def write(log):
        while True:
            try:
                receipt = await log.append(Event(kind="use.denied", time=now_ms(), actor=BROKER, decision="denied"))
                print(receipt.index, receipt.id, receipt.entry.hex(), flush=True)
            except AuditUnavailable:
                await asyncio.sleep(0.01)

    async def main():
        db = Database(sys.argv[1])
        db.subjects = SubjectKeys(bytes(32))
        log = AuditLog(db)
        await log.start()
        await asyncio.gather(*(write(log) for _ in range(16)))

    asyncio.run(main())
    """
)

INTEGRATOR = textwrap.dedent(
    """
    import asyncio, sys
    from sqlalchemy.exc import SQLAlchemyError
    from broker.audit import integrating
    from broker.base.db import EVERY_TENANT, Database
    from broker.base.errors import Unavailable
    from tests.support.past import signers

    async def main():
        db = Database(sys.argv[1])
        while True:
            try:
                await integrating.integrate(db, signers, share=1)
                async with db.read(EVERY_TENANT) as session:
                    newest = await integrating.newest(session)
                if newest is not None:
                    print(newest.note.hex(), flush=True)
            except (Unavailable, SQLAlchemyError, OSError):
                await asyncio.sleep(0.01)

    asyncio.run(main())
    """
)


class Told:
    """What processes said before they were killed: events that were acknowledged, and checkpoints that were seen."""

    def __init__(self) -> None:
        self.events: dict[int, tuple[str, str]] = {}
        self.checkpoints: dict[int, verify.Checkpoint] = {}

    def take(self, lines: str) -> None:
        for line in lines.splitlines(keepends=True):
            words = line.split()
            if not line.endswith("\n"):  # it was killed while it wrote
                continue
            if len(words) == 3:
                assert self.events.setdefault(int(words[0]), (words[1], words[2])) == (words[1], words[2])
            else:
                found = verify.checkpoint(bytes.fromhex(words[0]).decode(), KEYS)
                assert self.checkpoints.setdefault(found.size, found) == found, "two checkpoints of one size"


@contextmanager
def processes(url: str, folder: Path, told: Told) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One that writes, and two that integrate; killed at the end, and what they said is taken."""
    programs = [WRITER, INTEGRATOR, INTEGRATOR]
    files = [folder / f"said-{number}" for number in range(len(programs))]
    begun = []
    for program, file in zip(programs, files, strict=True):
        with file.open("wb") as into:
            begun.append(subprocess.Popen([sys.executable, "-c", program, url], stdout=into, stderr=subprocess.PIPE))
    try:
        yield begun
    finally:
        for one in begun:
            one.kill()
            _, errors = one.communicate()
            assert one.returncode == -9, errors.decode()
        for file in files:
            told.take(file.read_text())


@asynccontextmanager
async def crashing() -> AsyncIterator[tuple[str, Postgres]]:
    """A database on a PostgreSQL that waits for its disk, and the server."""
    with (
        tempfile.TemporaryDirectory(prefix="kb-pg-", ignore_cleanup_errors=True) as directory,
        postgres_server(Path(directory)) as server,
    ):
        await server.prepare(durable=True)
        yield await server.fresh(), server


async def whole(url: str, told: Told) -> None:
    """Nothing is lost, nothing is altered, and every checkpoint that anybody saw is of the one log that there is."""
    db = Database(url)
    await integrate(db, signers, share=1)
    async with db.read(EVERY_TENANT) as session:
        stored = {row.idx: (row.id, row.entry.hex()) for row in await session.scalars(select(EventRow))}
        size = await session.scalar(select(HeadRow.size))
    assert sorted(stored) == [*range(size or 0)]
    assert told.events
    assert {index: stored.get(index) for index in told.events} == told.events
    assert told.checkpoints
    tree, seen = verify.Tree(), 0
    for _, entry in sorted(stored.items()):
        tree.add(bytes.fromhex(entry[1]))
        if saved := told.checkpoints.get(tree.size):
            assert saved.root == tree.root(), f"a checkpoint of {tree.size} events is of another log"
            seen += 1
    assert seen == len(told.checkpoints)
    newest = max(told.checkpoints.values(), key=lambda each: each.size)
    lines = [line.decode() async for line in exporting.of_log(db, personal=False)]
    assert verify.export(lines, KEYS, newest).events == size
    await db.close()


async def killed(url: str, folder: Path) -> None:
    """Kill all at any moment once events and checkpoints were told, again and again."""
    told, chance = Told(), random.Random(19)
    for _ in range(CYCLES):
        with processes(url, folder, told):
            async with asyncio.timeout(60):
                while not (said(folder, 0) and said(folder, 1, 2)):
                    await asyncio.sleep(0.02)
            await asyncio.sleep(chance.random() * 0.3)
    await whole(url, told)


def said(folder: Path, *numbers: int) -> int:
    """How much these processes said so far."""
    return sum((folder / f"said-{number}").stat().st_size for number in numbers)


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_twenty_kills_of_writers_and_integrators_lose_and_fork_nothing(sqlite_url: str, tmp_path: Path) -> None:
    await killed(sqlite_url, tmp_path)


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_twenty_kills_beside_postgresql_lose_and_fork_nothing(tmp_path: Path) -> None:
    async with crashing() as (url, _server):
        await killed(url, tmp_path)


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_twenty_crashes_of_postgresql_lose_and_fork_nothing(tmp_path: Path) -> None:
    told, chance = Told(), random.Random(20)
    async with crashing() as (url, server):
        with processes(url, tmp_path, told):
            for _ in range(CYCLES):
                writer, integrators = said(tmp_path, 0), said(tmp_path, 1, 2)
                async with asyncio.timeout(60):  # they go on after each crash
                    while said(tmp_path, 0) == writer or said(tmp_path, 1, 2) == integrators:
                        await asyncio.sleep(0.02)
                await asyncio.sleep(chance.random() * 0.3)
                await asyncio.to_thread(server.restart)
        await whole(url, told)
