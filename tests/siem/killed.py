"""A sink's worker that is killed at random, again and again, and at last may go on to the end.

It imports once, and becomes a copy of itself for each life, before it has opened anything.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time

from broker.audit.subjects import SubjectKeys
from broker.base.clock import now_ms
from broker.base.db import Database
from broker.base.outbound import Outbound
from broker.siem import duties
from broker.siem.export import Exporter
from broker.siem.senders import OverHttps
from broker.siem.sinks import Https


async def push(database_url: str, url: str) -> None:
    db, outbound = Database(database_url), Outbound()
    db.subjects = SubjectKeys(bytes(32))
    sink = Https(name="siem", kind="https", url=url, private=True)
    exporter = Exporter(db, now_ms, lambda _: "log")
    while True:
        pushing = duties.Pushing(db, now_ms, exporter, sink, OverHttps(sink, outbound))
        if (await pushing.go_on())["siem", "events"] == 0:
            break
    await outbound.close()
    await db.close()


def life(database_url: str, url: str, page: int) -> int:
    child = os.fork()
    if child == 0:
        setattr(duties, "PAGE", page)  # noqa: B010 - small ones, so that there are many
        asyncio.run(push(database_url, url))
        os._exit(0)
    return child


def main(database_url: str, url: str, lives: int) -> None:
    chance, killed = random.Random(11), 0
    for _ in range(lives):
        child = life(database_url, url, 4)
        time.sleep(chance.uniform(0.03, 0.18))
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(f"killed {killed}", file=sys.stderr, flush=True)
    assert os.waitpid(life(database_url, url, 500), 0)[1] == 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
