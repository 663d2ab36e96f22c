"""What callers of a broker over a filled database wait for, and what a use costs it and its database."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from broker.client.identity import Identity
from broker.formats.assertion import ASSERTION_TYPE
from tests.bench import memory
from tests.bench.broker import environment_of
from tests.bench.growth.asked import AUDIT, PageAsked, lists
from tests.bench.growth.rows import PROVIDERS, Customers
from tests.bench.growth.weight import Weight
from tests.bench.load import Measured, http, walk

TRIES = 3
SUBJECTS = 300
USES = 10_000
_CALLERS = 16
_SLOW_MS = 500.0
_REQUESTS = re.compile(r"^keybroker_requests_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Serving:
    """A broker without a worker over a filled database.

    ``url`` is its address, ``job`` the one that has a right to every customer's key, and ``state`` its folder.
    """

    port: int
    pid: int
    operator_token: str
    job: Identity
    customers: Customers
    state: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def operator(self) -> httpx2.Client:
        """An operator of every customer."""
        headers = {"Authorization": f"Bearer {self.operator_token}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=120)

    def access(self) -> dict[str, str]:
        """The header of an access token of the job."""
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.job.assertion(),
        }
        answer = httpx2.post(f"{self.url}/oauth/token", data=form, timeout=30).raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def pages(serving: Serving) -> Iterator[tuple[str, float]]:
    """Milliseconds of a page: of each list with each filter, and the slowest of all of them, and of the record."""
    slowest = {"lists": 0.0, "record": 0.0}
    with closing(serving.operator()) as operator:
        openapi = operator.get("/openapi.json").raise_for_status().json()
        for first in lists(openapi, serving.customers):
            page: PageAsked | None = first
            while page is not None:
                took, answer = _page(operator, page.path, page.parameters)
                whose = "record" if page.path == AUDIT else "lists"
                slowest[whose] = max(slowest[whose], took)
                yield f"{page.name.removeprefix('/v1/')}_ms", took
                page = first.late(answer["next"]) if page is first else None
        hot = f"/v1/credentials/{serving.customers.hot[1]}/dependents"
        yield "dependents_of_hot_key_ms", _page(operator, hot, {})[0]
    for whose, took in slowest.items():
        yield f"slowest_of_{whose}_ms", took


def _page(operator: httpx2.Client, path: str, parameters: Mapping[str, str]) -> tuple[float, Any]:
    """Milliseconds of a page, and the page."""
    found: list[float] = []
    while len(found) < TRIES and (not found or found[-1] < _SLOW_MS):
        began = time.perf_counter()
        answer = operator.get(path, params=parameters).raise_for_status()
        found.append((time.perf_counter() - began) * 1000)
    return median(found), answer.json()


def first_and_next(serving: Serving) -> Iterator[tuple[str, float]]:
    """Milliseconds of the first lease and use of a subject, of whom nothing is in memory, and of the next ones."""
    job, subjects = serving.access(), serving.customers.subjects()
    for what, request, some in (
        ("lease", _lease, subjects[:SUBJECTS]),
        ("use", _use, subjects[SUBJECTS : 2 * SUBJECTS]),
    ):
        requests = [request(slug, job) for slug in some]
        for which in ("first", "next"):
            yield f"{which}_{what}_p50_ms", _all_good(walk(serving.port, requests, connections=1)).p50


def _lease(slug: str, job: dict[str, str]) -> bytes:
    body = f'{{"organization": "{slug}", "provider": "{PROVIDERS[0]}"}}'
    return http("POST", "/v1/leases", job, body.encode())


def _use(slug: str, job: dict[str, str]) -> bytes:
    return http("GET", f"/proxy/{slug}/{PROVIDERS[0]}/facilities", job)


def _all_good(measured: Measured) -> Measured:
    if measured.failed:
        raise RuntimeError(f"{measured.failed} answers were errors: nothing was measured")
    return measured


def cost_of_uses(serving: Serving, weigh: Callable[[], Weight]) -> Iterator[tuple[str, float]]:
    """CPU, bytes in the database and in its log for each use; how much memory the broker has after all."""
    yield "memory_mb", memory.resident(serving.pid) / 2**20
    requests = uses(serving)
    _all_good(walk(serving.port, requests[:SUBJECTS], connections=1))
    before = weigh()
    measured = _all_good(walk(serving.port, requests, connections=_CALLERS, pids=[serving.pid]))
    time.sleep(1)  # what came of the last ones follows them
    after = weigh()
    yield "uses_per_s", measured.rate
    yield "use_p50_ms", measured.p50
    yield "use_p99_ms", measured.p99
    yield "use_cpu_us", measured.cpu_us or 0.0
    yield "use_disk_bytes", (after.disk - before.disk) / len(requests)
    if after.log is not None and before.log is not None:
        yield "use_wal_bytes", (after.log - before.log) / len(requests)
    yield "memory_after_uses_mb", memory.resident(serving.pid) / 2**20


def uses(serving: Serving) -> Sequence[bytes]:
    """So many uses of some hundred subjects, in turn."""
    job, subjects = serving.access(), serving.customers.subjects()[2 * SUBJECTS : 3 * SUBJECTS]
    return [_use(subjects[number % len(subjects)], job) for number in range(USES)]


def commands(serving: Serving) -> Iterator[tuple[str, float]]:
    """Seconds of commands that print lists, and requests that they make."""
    one = serving.customers.slug(serving.customers.ordinary)
    for name, words in {"key_list_of_one": ("key", "list", "--org", one)}.items():
        before, began = _requests(serving), time.perf_counter()
        command(serving.state, serving.port, *words, token=serving.operator_token)
        took = time.perf_counter() - began
        yield f"{name}_s", took
        yield f"{name}_requests", _requests(serving) - before - 1


def _requests(serving: Serving) -> float:
    shown = httpx2.get(f"{serving.url}/metrics", timeout=30).raise_for_status().text
    return sum(float(each) for each in _REQUESTS.findall(shown))


def command(state: Path, port: int, *words: str, token: str = "", database_url: str | None = None) -> None:
    """Run a command of the broker's to its end; CalledProcessError where it fails."""
    environment = environment_of(state, port) | {"BROKER_URL": f"http://127.0.0.1:{port}", "BROKER_TOKEN": token}
    environment |= {"BROKER_DATABASE_URL": database_url} if database_url else {}
    subprocess.run([sys.executable, "-m", "broker", *words], env=environment, stdout=subprocess.DEVNULL, check=True)
