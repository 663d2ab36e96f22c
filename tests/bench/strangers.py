"""One caller's uses beside 250 connections of strangers, on SQLite and on PostgreSQL.

The strangers come from as many addresses, with wrong links and assertions that nobody signed, of a link and a job that
there are and of others that there are not, and ask again as soon as they are answered.  Alone and beside them in
interleaved rounds; figures, for each database:

- ``strangers_DATABASE_alone_p99_ms`` and ``…_beside_p99_ms``: of the caller's uses;
- ``strangers_DATABASE_p99_vs_alone``: their ratio, round by round.  Below 3 is what SECURITY.md promises.

A use that fails ends the benchmark: the promise is broken, not slow.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from broker.formats import ids
from broker.formats.assertion import ASSERTION_TYPE
from tests.bench import broker, proxy, upstream
from tests.bench.databases import databases
from tests.bench.load import Measured, http, run
from tests.bench.rounds import Figure, Spread

STRANGERS = 250
SECONDS = 5.0
ROUNDS = 3
_AROUND_S = 3.0  # they are there before the caller comes, and leave after it


def measure(directory: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> dict[str, Figure]:
    """The named figures."""
    found: dict[str, Figure] = {}
    with (
        upstream.running(directory / "upstream") as port,
        databases(directory / "postgres", ["strangers"]) as (database_url,),
    ):
        for name, url in (("sqlite", None), ("postgresql", database_url)):
            with broker.running(directory / name, f"http://127.0.0.1:{port}", database_url=url) as served:
                alone, beside = in_rounds(served, seconds, rounds)
            found[f"strangers_{name}_alone_p99_ms"] = Spread.of(each.p99 for each in alone)
            found[f"strangers_{name}_beside_p99_ms"] = Spread.of(each.p99 for each in beside)
            ratios = (crowded.p99 / quiet.p99 for crowded, quiet in zip(beside, alone, strict=True))
            found[f"strangers_{name}_p99_vs_alone"] = Spread.of(ratios)
    return found


def in_rounds(served: broker.Served, seconds: float, rounds: int) -> tuple[list[Measured], list[Measured]]:
    """The caller's, alone and beside the strangers."""
    call = http("GET", proxy.PROXIED, {"Authorization": f"Bearer {served.lease_token}"})
    wrong = strangers(served)

    def uses() -> Measured:
        measured = run(served.port, call, connections=1, seconds=seconds)
        if measured.failed:
            raise RuntimeError(f"{measured.failed} uses failed: strangers keep callers out")
        return measured

    uses()  # everything is warm
    taken = [(uses(), _beside(lambda: _ask(served, wrong, seconds + _AROUND_S), uses)) for _ in range(rounds)]
    return [quiet for quiet, _ in taken], [crowded for _, crowded in taken]


def _beside(strangers_ask: Callable[[], None], uses: Callable[[], Measured]) -> Measured:
    with ThreadPoolExecutor(1) as executor:
        asking = executor.submit(strangers_ask)
        measured = uses()
        asking.result()
    return measured


def _ask(served: broker.Served, requests: list[bytes], seconds: float) -> None:
    if run(served.port, requests, connections=STRANGERS, seconds=seconds).failed == 0:
        raise RuntimeError("strangers were let in: nothing was measured")


def strangers(served: broker.Served) -> list[bytes]:
    """A request of each of them."""
    wanted = {"organization": "acme", "provider": "raptor-comply", "label": "next", "contact": "a@acme.example"}
    headers = {"Authorization": f"Bearer {served.operator_token}"}
    asked = httpx2.post(f"http://127.0.0.1:{served.port}/v1/intakes", headers=headers, json=wanted, timeout=30)
    asked.raise_for_status()
    known = asked.json()["intake"]["id"]
    return [stranger(number, known, served.job.client_id) for number in range(STRANGERS)]


def stranger(number: int, link: str, job: str) -> bytes:
    address = {"X-Forwarded-For": f"198.18.0.{number}"}
    whose = number // 4 % 2
    if number % 4 == 3:
        claims = json.dumps({"sub": job if whose else ids.new(ids.WorkloadId), "jti": str(number)}).encode()
        unsigned = f"{_text(json.dumps({'alg': 'none'}).encode())}.{_text(claims)}."
        form = f"grant_type=client_credentials&client_assertion_type={ASSERTION_TYPE}&client_assertion={unsigned}"
        return http("POST", "/oauth/token", address, form.encode())
    page = "status" if number % 4 == 2 else "intake"
    path = f"/{page}/{link if whose else ids.new(ids.IntakeId)}/open"
    return http("POST", path, address, json.dumps({"proof": "x" * 43}).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
