"""From the call that reports an exposure to "no use possible", while callers use the key without a pause.

Each round has a key of its own, leased once and called by 16 callers at once through the broker.  Figures
(milliseconds, over all rounds):

- ``exposure_answer_ms``, ``…_max_ms``: until the report is answered, median and worst;
- ``exposure_last_use_ms``, ``…_max_ms``: until the last answer that a call with the key still got.

A use that begins after the report was answered and succeeds ends the benchmark: the promise is broken, not slow.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median

import httpx2

from tests.bench import broker, upstream

ROUNDS = 15
CALLERS = 16
_WARM = 100
_WARM_WITHIN_S = 60
_AFTER_S = 0.4


class StillUsable(Exception):
    """A use succeeded that began after the exposure was answered."""


def measure(directory: Path, *, rounds: int = ROUNDS) -> dict[str, float]:
    """The named figures."""
    with (
        upstream.running(directory / "upstream") as port,
        broker.running(directory / "broker", f"http://127.0.0.1:{port}") as served,
    ):
        taken = [asyncio.run(_round(served, number)) for number in range(rounds)]
    answers, last = [one[0] for one in taken], [one[1] for one in taken]
    return {
        "exposure_answer_ms": round(median(answers), 1),
        "exposure_answer_max_ms": round(max(answers), 1),
        "exposure_last_use_ms": round(median(last), 1),
        "exposure_last_use_max_ms": round(max(last), 1),
    }


async def _round(served: broker.Served, number: int) -> tuple[float, float]:
    """Milliseconds until the answer, and until the last use that succeeded."""
    url = f"http://127.0.0.1:{served.port}"
    label = f"round-{number}"
    key = "rc_live_" + f"{number:04d}" * 16
    operator = {"Authorization": f"Bearer {served.operator_token}"}
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        wanted = {"organization": "acme", "provider": "raptor-comply", "label": label, "key": key}
        made = (await http.post("/v1/credentials", headers=operator, json=wanted)).json()
        asked = {"organization": "acme", "provider": "raptor-comply", "label": label}
        job = {"Authorization": f"Bearer {served.access_token}"}
        lease = (await http.post("/v1/leases", headers=job, json=asked)).json()
        good: list[tuple[float, float]] = []
        stop = asyncio.Event()
        callers = [asyncio.create_task(_call(url, lease["token"], good, stop)) for _ in range(CALLERS)]
        async with asyncio.timeout(_WARM_WITHIN_S):
            while len(good) < _WARM:
                for broken in (caller for caller in callers if caller.done()):
                    broken.result()  # says what went wrong
                await asyncio.sleep(0.01)
        began = time.perf_counter()
        path = f"/v1/credentials/{made['credential']}/exposure"
        report = await http.post(path, headers=operator, json={"found_by": "bench", "where": "bench"})
        answered = time.perf_counter()
        await asyncio.sleep(_AFTER_S)
        stop.set()
        await asyncio.gather(*callers)
    report.raise_for_status()
    if not good or any(started > answered for started, _ in good):
        raise StillUsable(f"{len(good)} uses, one of them begun after the answer")
    return (answered - began) * 1000, max(0.0, (max(ended for _, ended in good) - began) * 1000)


async def _call(url: str, token: str, good: list[tuple[float, float]], stop: asyncio.Event) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=30, headers={"Authorization": f"Bearer {token}"}) as http:
        while not stop.is_set():
            started = time.perf_counter()
            answer = await http.get("/proxy/acme/raptor-comply/facilities")
            if answer.status_code == 200:
                good.append((started, time.perf_counter()))
            elif answer.status_code not in {403, 409}:
                raise RuntimeError(f"{answer.status_code}: {answer.text[:200]}")
            else:
                await asyncio.sleep(0.01)
