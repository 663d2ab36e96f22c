"""What each page of the console takes on PostgreSQL with a hundred thousand customers and a million events.

Figures: ``console_PAGE_ms``, the median of some answers, by an admin of every customer, and ``console_PAGE_kb`` with
the style sheet; ``console_slowest_ms`` and ``console_largest_kb``.  The goal is 100 of each.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median

import httpx2

from broker.client.identity import Identity, generate, public
from broker.config import Settings
from tests.bench import broker, growth, upstream
from tests.bench.databases import databases
from tests.bench.growth.filling import declare
from tests.bench.growth.rows import Customers, Size
from tests.bench.growth.served import Serving

TRIES = 9


def measure(directory: Path, organizations: int = growth.ORGANIZATIONS) -> dict[str, float]:
    """The named figures."""
    with databases(directory / "pg", ["console"]) as (url,):
        return {name: float(f"{value:.4g}") for name, value in _measured(directory / "broker", organizations, url)}


def _measured(home: Path, organizations: int, url: str) -> Iterator[tuple[str, float]]:
    private = generate("EdDSA")
    with upstream.running(home / "upstream") as port:
        with broker.running(home, f"http://127.0.0.1:{port}", database_url=url) as prepared:
            public_port, operator_token = prepared.port, prepared.operator_token
        declare(home / "providers")
        settings: Settings = growth.settings_of(home, url, public_port)
        print(f"console: making {organizations:,} organizations …", flush=True)
        customers = asyncio.run(growth.filled(settings, Size.of(organizations), public(private)))
        with broker.replica(home, url, public_port) as (replica, pid):
            job = Identity(settings.public_url, customers.job, private)
            yield from _pages(Serving(replica, pid, operator_token, job, customers, home))


def _pages(serving: Serving) -> Iterator[tuple[str, float]]:
    slowest = largest = 0.0
    with closing(serving.operator()) as operator:
        for name, path in addresses(serving.customers).items():
            took, size = _page(operator, f"/console{path}")
            slowest, largest = max(slowest, took), max(largest, size)
            yield f"console_{name}_ms", took
            yield f"console_{name}_kb", size
    yield "console_slowest_ms", slowest
    yield "console_largest_kb", largest


def addresses(customers: Customers) -> Mapping[str, str]:
    """The pages, of the customer with the most where they are of one."""
    organization, key = customers.hot
    return {
        "overview": "",
        "organizations": "/organizations",
        "organizations_sought": "/organizations?name=9",
        "organization": f"/organizations/{organization}",
        "keys": "/keys",
        "keys_failing": "/keys?only=failing",
        "keys_overdue": "/keys?only=overdue",
        "key": f"/keys/{key}",
        "revoke_asked": f"/organizations/{organization}/revoke",
        "reviews": "/reviews?state=due",
        "accounts": "/accounts",
        "requests": "/requests",
        "requests_open": "/requests?state=open",
        "jobs": "/jobs",
        "job": f"/jobs/{customers.job}",
        "grants": "/grants",
        "grants_of_customer": f"/grants?organization={organization}",
        "leases": "/leases",
        "incidents": "/incidents?state=open",
        "audit": "/audit",
        "audit_of_customer": f"/audit?organization={organization}&kind=lease.*",
        "settings": "/settings",
    }


def _page(operator: httpx2.Client, path: str) -> tuple[float, float]:
    """Milliseconds of a page, and its kilobytes with what it loads."""
    found: list[float] = []
    for _ in range(TRIES):
        began = time.perf_counter()
        answer = operator.get(path).raise_for_status()
        found.append((time.perf_counter() - began) * 1000)
    (sheet,) = re.findall(r'rel="stylesheet" href="([^"]+)"', answer.text)
    loaded = len(answer.content) + len(operator.get(sheet).raise_for_status().content)
    return median(found), loaded / 1000
