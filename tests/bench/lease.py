"""Lease issuance (durable, audited, guarded) beside OpenBao's audited KV read and wrapped read.

Figures: ratios to the peer's rates, raw rates and latencies; and ``lease_cpu_us``, ``reveal_cpu_us``, the CPU of the
broker for each answer, with ``…_cpu_vs_bare``, its ratio to that of an answer by uvicorn alone (``lease_bare``) in the
same round.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running as serving
from broker.sandbox.state import State
from tests.bench import asgi, broker, openbao
from tests.bench.load import http
from tests.bench.rounds import Contender, Figure, Rounds, cpu_us, cpu_vs, interleaved, middle

CONNECTIONS = 32
SECONDS = 4.0
ROUNDS = 3


@contextmanager
def sandbox() -> Iterator[tuple[State, str]]:
    """The upstream, served from a thread: only set-up calls it."""
    state = State()
    address: list[str] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(create_sandbox("bench", state)) as url:
            address.append(url)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield state, address[0]
    finally:
        over.set()
        thread.join()


def _lease(served: broker.Served, mode: str) -> bytes:
    body = json.dumps({"organization": "acme", "provider": "raptor-comply", "mode": mode}).encode()
    return http("POST", "/v1/leases", {"Authorization": f"Bearer {served.access_token}"}, body)


def _read(bao: openbao.OpenBao, wrap: bool) -> bytes:
    headers = {"X-Vault-Token": bao.token, "X-Vault-Request": "true"}
    if wrap:
        headers["X-Vault-Wrap-TTL"] = "300"
    return http("GET", "/v1/secret/data/tenants/acme", headers)


def measure(
    directory: Path, *, connections: int = CONNECTIONS, seconds: float = SECONDS, rounds: int = ROUNDS
) -> dict[str, Rounds]:
    """Each contender in turn, several rounds in the same run."""
    with (
        sandbox() as (state, upstream),
        broker.running(directory / "broker", upstream, state.add_key(state.add_organization("acme"))[1]) as served,
        openbao.running(directory / "openbao") as bao,
        asgi.running(directory / "bare", "answer") as (bare, bare_pid),
    ):
        contenders = {
            "lease_bare": Contender(bare, http("GET", "/", {}), bare_pid),
            "lease": Contender(served.port, _lease(served, "use"), served.pid),
            "reveal": Contender(served.port, _lease(served, "reveal"), served.pid),
            "openbao_read": Contender(bao.port, _read(bao, wrap=False)),
            "openbao_wrapped": Contender(bao.port, _read(bao, wrap=True)),
        }
        found = interleaved(contenders, rounds=rounds, connections=connections, seconds=seconds)
        if bao.audit_log.stat().st_size == 0:
            raise RuntimeError("OpenBao wrote no audit log: the comparison would not be fair")
    return found


def figures(rounds: dict[str, Rounds]) -> dict[str, Figure]:
    """The named figures (C6): ratios of this run, raw rates and latencies beside them."""
    measured = {name: middle(each) for name, each in rounds.items()}
    lease, reveal = measured["lease"], measured["reveal"]
    named = {
        "lease_vs_openbao_read": lease.rate / measured["openbao_read"].rate,
        "lease_vs_openbao_wrapped": lease.rate / measured["openbao_wrapped"].rate,
        "reveal_vs_openbao_read": reveal.rate / measured["openbao_read"].rate,
        "reveal_vs_openbao_wrapped": reveal.rate / measured["openbao_wrapped"].rate,
    }
    for name, each in measured.items():
        named |= {f"{name}_per_s": each.rate, f"{name}_p50_ms": each.p50, f"{name}_p99_ms": each.p99}
    cpu = {f"{name}_cpu_us": cpu_us(rounds[name]) for name in ("lease", "reveal", "lease_bare")}
    cpu |= {f"{name}_cpu_vs_bare": cpu_vs(rounds[name], rounds["lease_bare"]) for name in ("lease", "reveal")}
    return {name: round(value, 2) for name, value in named.items()} | cpu
