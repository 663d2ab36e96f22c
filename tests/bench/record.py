"""The record alone, without HTTP: uses as the proxy puts them there, by one process.

Each caller appends a use that is allowed, with its row, its guards and the quota that every use takes from, and posts
what came of it, with the change of its row, as soon as that is durable; then comes its next one.  Beside them is the
floor: a row of an event's size, inserted and committed by the driver alone, at one caller, and on PostgreSQL, which
takes several commits at once, also at 32.

Figures, in interleaved rounds on one database each: ``record_CALLERS_DATABASE_per_s``, durable events in a second, two
for each use; ``…_p50_ms`` and ``…_p99_ms`` of an append; ``…_cpu_us`` of the process for each event, without the
database server's; ``record_floor_…``, the same for each bare row; ``record_CALLERS_DATABASE_vs_floor``, the ratio of
rates to the floor of as many callers, or the most that it has, in the same round.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, NamedTuple

import asyncpg
import uvloop
from sqlalchemy.engine import make_url

from broker import schema
from broker.audit.events import Actor, AuditTarget, Event, Outcome
from broker.audit.log import AuditLog
from broker.audit.quota import Cooldown
from broker.audit.subjects import SubjectKeys
from broker.base.clock import now_ms
from broker.base.db import Database
from broker.formats import ids
from broker.proxy.use import AUTHORIZE_USE, COMPLETE_USE, completed, use_row
from tests.bench.databases import databases
from tests.bench.load import Measured
from tests.bench.rounds import Figure, Rounds, rate_vs, told, turned

CALLERS = (1, 32, 128)
SECONDS = 2.0
ROUNDS = 5
FLOORS = {"sqlite": (1,), "postgres": (1, 32)}
_EVENT_BYTES = 600
WARM_UP_S = 0.5
_BARE = "CREATE TABLE IF NOT EXISTS bare (id varchar PRIMARY KEY, body {} NOT NULL)"

What = Literal["uses", "bare"]

Call = Callable[[], Awaitable[None]]
"""Makes one caller's next event or row durable."""


Beside = Callable[[Database], Coroutine[None, None, None]]
"""What is done while events are recorded, for ever."""


class _Round(NamedTuple):
    database_url: str
    callers: int
    what: What


def sqlite(directory: Path) -> str:
    """The address of the database that is in ``directory``, or will be."""
    directory.mkdir(parents=True, exist_ok=True)
    return f"sqlite+aiosqlite:///{directory}/record.db"


def run(database_url: str, *, callers: int, seconds: float, what: What = "uses") -> Measured:
    """Have so many callers put uses on the record, or bare rows beside it, in a process of their own.

    The database is made ready if it isn't.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.record", what, database_url, str(callers), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Measured.printed(done.stdout)


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Rounds]:
    """``record_CALLERS_DATABASE`` and ``record_floor_CALLERS_DATABASE``, the rounds of each."""
    with databases(directory / "postgres", ["record"]) as (postgres,):
        contenders: dict[str, _Round] = {}
        for kind, url in (("sqlite", sqlite(directory)), ("postgres", postgres)):
            contenders |= {f"record_floor_{callers}_{kind}": _Round(url, callers, "bare") for callers in FLOORS[kind]}
            contenders |= {f"record_{callers}_{kind}": _Round(url, callers, "uses") for callers in CALLERS}
        found: dict[str, Rounds] = {name: [] for name in contenders}
        for number in range(rounds):
            for name in turned(list(contenders), number):
                url, callers, what = contenders[name]
                found[name].append(run(url, callers=callers, seconds=seconds, what=what))
    return found


def figures(rounds: dict[str, Rounds]) -> dict[str, Figure]:
    """The named figures."""
    named: dict[str, Figure] = {}
    for name, each in rounds.items():
        named |= told(name, each)
    for kind, floors in FLOORS.items():
        for callers in CALLERS:
            name, beside = f"record_{callers}_{kind}", max(floor for floor in floors if floor <= callers)
            named[f"{name}_vs_floor"] = rate_vs(rounds[name], rounds[f"record_floor_{beside}_{kind}"])
    return named


class _Uses:
    """Uses of one lease, as the proxy puts them on the record."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._workload = ids.new(ids.WorkloadId)
        self._organization, self._credential = ids.new(ids.OrganizationId), ids.new(ids.CredentialId)
        self._grant, self._lease = ids.new(ids.GrantId), ids.new(ids.LeaseId)
        self._job = Actor("workload", self._workload, "bench", "127.0.0.1", "bench/1")
        self._guards = dict.fromkeys((self._workload, self._organization, self._grant, self._credential), 0)
        self._quotas = [Cooldown(f"{self._credential}/pause", 60_000)]

    async def call(self) -> None:
        """One use, durable once this returns, and what came of it, which follows."""
        use = self._authorized()
        await self._log.append(use, self._guards, [(AUTHORIZE_USE, use_row(use))], quotas=self._quotas)
        now = now_ms()
        ended = completed(use, now, reason="", outcome=Outcome(200, 12, 1_000, 0, ""))
        if not self._log.post(ended, [(COMPLETE_USE, {"use": use.use})]):
            raise RuntimeError("more is posted than is written: nothing was measured")

    def _authorized(self) -> Event:
        return Event(
            kind="use.authorized",
            time=now_ms(),
            actor=self._job,
            organization=self._organization,
            credential=self._credential,
            version=1,
            provider="raptor-comply",
            workload=self._workload,
            grant=self._grant,
            lease=self._lease,
            use=ids.new(ids.UseId),
            mode="use",
            target=AuditTarget("127.0.0.1", "GET", "/facilities"),
            request=ids.new(ids.RequestId),
        )


async def recorded(database_url: str, callers: int, seconds: float, beside: Beside | None = None) -> Measured:
    """Put uses on the record; the rate and the CPU are those of events, latencies those of appends.

    ``beside`` is done in the same process meanwhile, on the same database.
    """
    db = Database(database_url)
    await schema.upgrade(db)
    db.subjects = SubjectKeys(bytes(32))
    log = AuditLog(db)
    await log.start()
    call = _Uses(log).call
    meanwhile = asyncio.create_task(beside(db.beside(2, longest_s=60))) if beside else None
    await _in_turn(call, callers, WARM_UP_S)
    before, began, used = log.committed, time.perf_counter(), time.process_time()
    latencies = await _in_turn(call, callers, seconds)
    await log.stop()  # what was posted is durable, too
    took, used = time.perf_counter() - began, time.process_time() - used
    events = log.committed - before
    if meanwhile:
        meanwhile.cancel()
    await db.close()
    return replace(Measured.of(latencies, took), rate=events / took, cpu_us=used / events * 1_000_000)


async def bare(database_url: str, callers: int, seconds: float) -> Measured:
    """Insert rows of an event's size, each with a commit of its own."""
    url = make_url(database_url)
    body = bytes(_EVENT_BYTES)
    if url.get_backend_name() == "sqlite":
        file = sqlite3.connect(f"{url.database}.bare", isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _BARE.format("blob")):
            file.execute(statement)

        async def insert() -> None:
            file.execute("BEGIN IMMEDIATE")
            file.execute("INSERT INTO bare VALUES (?, ?)", (ids.new(ids.AuditEventId), body))
            file.execute("COMMIT")

        measured = await _driven(insert, callers, seconds)
        file.close()
        return measured
    async with asyncpg.create_pool(
        database_url.replace("+asyncpg", ""), min_size=callers, max_size=callers, reset=_nothing
    ) as pool:
        await pool.execute(_BARE.format("bytea"))

        async def insert() -> None:
            await pool.execute("INSERT INTO bare VALUES ($1, $2)", ids.new(ids.AuditEventId), body)

        return await _driven(insert, callers, seconds)


async def _nothing(_connection: object) -> None:
    """A pool resets a connection after each use, by a round trip of its own, unless it is told what to do."""


async def _driven(call: Call, callers: int, seconds: float) -> Measured:
    await _in_turn(call, callers, WARM_UP_S)
    began, used = time.perf_counter(), time.process_time()
    latencies = await _in_turn(call, callers, seconds)
    return Measured.of(latencies, time.perf_counter() - began, cpu_seconds=time.process_time() - used)


async def _in_turn(call: Call, callers: int, seconds: float) -> list[float]:
    """Have each caller call one time after the other; how long each took, in milliseconds."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while (before := time.perf_counter()) < until:
            await call()
            latencies.append((time.perf_counter() - before) * 1000)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies


def main() -> None:
    """Do what the command line says: what, on which database, with how many callers, for how many seconds."""
    what, database_url, callers, seconds = sys.argv[1:]
    made = (bare if what == "bare" else recorded)(database_url, int(callers), float(seconds))
    print(json.dumps(asdict(uvloop.run(made))))


if __name__ == "__main__":
    main()
