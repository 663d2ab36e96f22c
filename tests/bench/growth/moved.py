"""What the keystore takes over a filled database: to count what it holds, and to move it to a new master key."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from sqlalchemy import func, select

from broker.base.db import EVERY_TENANT, Database
from broker.config import Settings
from broker.keystore.columns import sealed_columns
from broker.keystore.local import MasterKeys
from tests.bench.broker import environment_of
from tests.bench.growth.served import Serving, command, uses
from tests.bench.load import Measured, run

REWRAP_S = 60.0
BESIDE_S = 10.0
_CALLERS = 8


def keystore(serving: Serving, settings: Settings, database_url: str | None) -> Iterator[tuple[str, float]]:
    """Seconds of ``broker keystore status``; values moved in a second; what uses wait beside that.

    The move is begun as the guide says where the broker serves on the same machine.
    """
    state, port = serving.state, serving.port
    began = time.perf_counter()
    command(state, port, "keystore", "status", database_url=database_url)
    yield "keystore_status_s", time.perf_counter() - began
    command(state, port, "keystore", "rotate", database_url=database_url)
    before = _uses(serving)
    environment = environment_of(state, port) | ({"BROKER_DATABASE_URL": database_url} if database_url else {})
    began = time.perf_counter()
    with subprocess.Popen(
        ["nice", sys.executable, "-m", "broker", "keystore", "rewrap"], env=environment, stdout=subprocess.DEVNULL
    ) as moving:
        beside = _uses(serving)
        try:
            moving.wait(max(0.1, REWRAP_S - (time.perf_counter() - began)))
        except subprocess.TimeoutExpired:
            moving.send_signal(signal.SIGTERM)
            moving.wait(60)
    took = time.perf_counter() - began
    active = MasterKeys.from_file(settings.key_file()).active
    yield "rewrapped_per_s", asyncio.run(_held(settings, active)) / took
    yield "use_p99_beside_rewrap_ms", beside.p99
    yield "use_p99_beside_rewrap_vs_before", beside.p99 / before.p99


def _uses(serving: Serving) -> Measured:
    return run(serving.port, uses(serving), connections=_CALLERS, seconds=BESIDE_S)


async def _held(settings: Settings, kek_id: str) -> int:
    """How many values a master key holds."""
    db = Database(settings.database())
    beginning = bytes((1, len(kek_id))) + kek_id.encode()
    found = 0
    try:
        async with db.read(EVERY_TENANT) as session:
            for each in sealed_columns():
                if not each.own:
                    same = func.substr(each.sealed, 1, len(beginning)) == beginning
                    found += await session.scalar(select(func.count()).select_from(each.table).where(same)) or 0
    finally:
        await db.close()
    return found
