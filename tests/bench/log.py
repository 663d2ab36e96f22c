"""The log: what it costs uses that it is made beside them, and what receipts and their verification take.

Figures: ``log_record_DATABASE_vs_without``, the rate of the record at 32 callers with an integrator beside it (in a
process of its own, on SQLite in the same), as a ratio to the rate without one in the same round;
``log_proxy_DATABASE_vs_without``, the same of proxied calls at 32 connections, by a broker that integrates, to one
whose periodic work has all but that; ``log_open_p50_ms`` and ``…_p99_ms``, of an append on PostgreSQL where 3,000
events come in a second at random moments, with the integrator and the index of searches beside it; ``log_verify_s``, a
million events of an export verified by the one file that customers get, and as a ratio to its peer, a bare SHA-256 of
the same bytes; ``log_receipt_ms_DATABASE``, a receipt from a log of so many events; ``log_integrate_per_s_DATABASE``,
events that the integrator takes in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import uvloop
from sqlalchemy import select

from broker import schema
from broker.audit import exporting, receipts
from broker.audit.events import BROKER, Event
from broker.audit.indexing import follow
from broker.audit.integrating import PAGE, PAGES, integrate
from broker.audit.log import AuditLog
from broker.audit.record import record
from broker.audit.subjects import SubjectKeys
from broker.audit.tables import EventRow
from broker.base.clock import Millis, now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.client import verify
from broker.formats import ids
from broker.formats.ids import OrganizationId
from broker.formats.signed_note import Signer
from tests.bench import broker, upstream
from tests.bench import record as record_bench
from tests.bench.databases import databases
from tests.bench.load import Measured, http
from tests.bench.proxy import PROXIED
from tests.bench.rounds import Contender, Figure, Rounds, Spread, cpu_vs, rate_vs, turned, warm_up

CALLERS, SECONDS, ROUNDS = 32, 4.0, 5
RATE, OPEN_S = 3_000, 10.0
EVENTS = 1_000_000
_AT_ONCE = 1_000
_RECEIPTS = 200
_TURN_S = 1.0


def signers(epoch: int, number: int = 0) -> Signer:
    """What signs the log of a benchmark."""
    return Signer(f"bench/{epoch}", number.to_bytes(32))


def measure(directory: Path) -> dict[str, Figure]:
    """All figures, on both databases where that matters."""
    found: dict[str, Figure] = {}
    with databases(directory / "postgres", ["record", "calls", "fewer", "open", "large"]) as server:
        postgres, with_worker, without_worker, opened, large = server
        beside = {"sqlite": record_bench.sqlite(directory / "record"), "postgres": postgres}
        for kind, url in beside.items():
            found[f"log_record_{kind}_vs_without"] = _beside(url)
        found |= _proxied(directory, {True: with_worker, False: without_worker})
        _run("open", opened)  # which makes the database ready, and fills it a little
        with _integrator(opened, "work"):
            open_loop = _run("open", opened)
        found |= {"log_open_p50_ms": open_loop.p50, "log_open_p99_ms": open_loop.p99}
        for kind, url in (("sqlite", record_bench.sqlite(directory / "large")), ("postgres", large)):
            found |= {f"log_{name}_{kind}": value for name, value in uvloop.run(_large(url)).items()}
        export = directory / "log.ndjson"
        uvloop.run(_export(large, export))
    return found | _verified(export)


def _beside(url: str) -> Figure:
    record_bench.run(url, callers=CALLERS, seconds=record_bench.WARM_UP_S)  # which makes the database ready
    found: dict[str, Rounds] = {"with": [], "without": []}
    for number in range(ROUNDS):
        for name in turned(list(found), number):
            if name == "without":
                found[name].append(record_bench.run(url, callers=CALLERS, seconds=SECONDS))
            elif url.startswith("sqlite"):
                found[name].append(_run("record", url))
            else:
                with _integrator(url):
                    found[name].append(record_bench.run(url, callers=CALLERS, seconds=SECONDS))
    return rate_vs(found["with"], found["without"])


def _proxied(directory: Path, on_postgres: Mapping[bool, str]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    with upstream.answering(directory / "upstream") as answering:
        for kind in ("sqlite", "postgres"):
            with ExitStack() as stack:
                running = {}
                for integrates, url in on_postgres.items():
                    served = stack.enter_context(
                        broker.running(
                            directory / f"{kind}-{integrates}",
                            f"http://127.0.0.1:{answering}",
                            database_url=url if kind == "postgres" else None,
                            module="broker" if integrates else "tests.bench.without_log",
                        )
                    )
                    call = http("GET", PROXIED, {"Authorization": f"Bearer {served.lease_token}"})
                    running["with" if integrates else "without"] = Contender(served.port, call, [served.pid])
                warm_up(running, connections=CALLERS)
                rounds: dict[str, Rounds] = {"with": [], "without": []}
                for number in range(ROUNDS):
                    for name in turned(list(running), number):
                        rounds[name].append(running[name].run(connections=CALLERS, seconds=SECONDS))
            found[f"log_proxy_{kind}_vs_without"] = rate_vs(rounds["with"], rounds["without"])
            found[f"log_proxy_{kind}_cpu_vs_without"] = cpu_vs(rounds["with"], rounds["without"])
    return found


@contextmanager
def _integrator(url: str, what: str = "integrate") -> Iterator[None]:
    """An integrator in a process of its own, as ``broker worker`` is.  On SQLite there is one process alone."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.log", what, url])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _run(what: str, url: str) -> Measured:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.log", what, url], stdout=subprocess.PIPE, text=True, check=True
    )
    return Measured.printed(done.stdout)


def _database(url: str) -> Database:
    db = Database(url)
    db.subjects = SubjectKeys(bytes(32))
    return db


async def _integrating(db: Database) -> None:
    while True:
        await integrate(db, signers)
        await asyncio.sleep(_TURN_S)


async def _indexing(db: Database) -> None:
    while True:
        await follow(db)
        await asyncio.sleep(_TURN_S)


async def _as_worker(db: Database) -> None:
    await asyncio.gather(_integrating(db), _indexing(db))


async def _open(url: str) -> Measured:
    """Events at random moments, so many in a second whatever became of those before."""
    db, chance = _database(url), random.Random(3)
    await schema.upgrade(db)
    log = AuditLog(db)
    await log.start()
    latencies: list[float] = []

    async def put() -> None:
        before = time.perf_counter()
        await log.append(Event(kind="lease.ended", time=now_ms(), actor=BROKER, organization=ids.new(OrganizationId)))
        latencies.append((time.perf_counter() - before) * 1000)

    at, end = time.perf_counter(), time.perf_counter() + OPEN_S
    async with asyncio.TaskGroup() as group:
        while at < end:
            at += chance.expovariate(RATE)
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(put())
    await log.stop()
    await db.close()
    return Measured.of(latencies, OPEN_S)


async def _large(url: str) -> dict[str, Figure]:
    """Fill a log, and ask for receipts from it."""
    db = _database(url)
    await schema.upgrade(db)
    organizations = [ids.new(OrganizationId) for _ in range(1_000)]
    for page in range(EVENTS // _AT_ONCE):
        async with db.write(EVERY_TENANT) as session:
            made = [
                Event(
                    kind="lease.ended",
                    time=Millis(1_790_000_000_000 + page * _AT_ONCE + at),
                    actor=BROKER,
                    organization=organizations[at],
                    lease=ids.new(ids.LeaseId),
                )
                for at in range(_AT_ONCE)
            ]
            await record(session, *made)
    began = time.perf_counter()
    for _ in range(EVENTS // PAGE // PAGES + 1):
        await integrate(db, signers, share=1)
    rate = EVENTS / (time.perf_counter() - began)
    async with db.read(EVERY_TENANT) as session:
        wanted = random.Random(5).sample(range(EVENTS), _RECEIPTS)
        some = list(await session.scalars(select(EventRow.id).where(EventRow.idx.in_(wanted))))
    took = []
    for event in some:
        before = time.perf_counter()
        await receipts.of_event(db, EVERY_TENANT, event, personal=False)
        took.append((time.perf_counter() - before) * 1000)
    await db.close()
    return {"integrate_per_s": rate, "receipt_ms": Spread.of(took)}


async def _export(url: str, file: Path) -> None:
    db = Database(url)
    with file.open("wb") as into:
        async for line in exporting.of_log(db, personal=False):
            into.write(line)
    await db.close()


def _verified(export: Path) -> dict[str, Figure]:
    key = export.with_suffix(".key")
    key.write_text(signers(0).verifier().line() + "\n")
    began = time.perf_counter()
    _, facts = verify.examined("log", [export], key)
    took = time.perf_counter() - began
    began = time.perf_counter()
    with export.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    bare = time.perf_counter() - began
    return {"log_verified_events": facts["events"], "log_verify_s": took, "log_verify_vs_sha256": took / bare}


def main() -> None:
    """Do what the command line says, on which database."""
    what, url = sys.argv[1:]
    if what == "integrate":
        uvloop.run(_integrating(Database(url)))
    if what == "work":
        uvloop.run(_as_worker(Database(url)))
    measured = _open(url) if what == "open" else record_bench.recorded(url, CALLERS, SECONDS, _integrating)
    print(json.dumps(asdict(uvloop.run(measured))))


if __name__ == "__main__":
    main()
