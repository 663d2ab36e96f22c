"""Lease issuance (durable, audited, guarded) beside OpenBao's audited KV read and wrapped read."""

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
from tests.bench import broker, openbao
from tests.bench.load import Measured, http, middle, run

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


def measure(directory: Path, *, connections: int = CONNECTIONS) -> dict[str, Measured]:
    """Each contender in turn, several rounds in the same run, the round of median rate for each."""
    with (
        sandbox() as (state, upstream),
        broker.running(directory / "broker", upstream, state.add_key(state.add_organization("acme"))[1]) as served,
        openbao.running(directory / "openbao") as bao,
    ):
        contenders = {
            "lease": (served.port, _lease(served, "use")),
            "reveal": (served.port, _lease(served, "reveal")),
            "openbao_read": (bao.port, _read(bao, wrap=False)),
            "openbao_wrapped": (bao.port, _read(bao, wrap=True)),
        }
        rounds: dict[str, list[Measured]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (port, request) in contenders.items():
                rounds[name].append(run(port, request, connections=connections, seconds=SECONDS))
        if bao.audit_log.stat().st_size == 0:
            raise RuntimeError("OpenBao wrote no audit log: the comparison would not be fair")
    return {name: middle(measured) for name, measured in rounds.items()}


def figures(measured: dict[str, Measured]) -> dict[str, float]:
    """The named figures (C6): ratios of this run, raw rates and latencies beside them."""
    lease, reveal = measured["lease"], measured["reveal"]
    named = {
        "lease_vs_openbao_read": lease.rate / measured["openbao_read"].rate,
        "lease_vs_openbao_wrapped": lease.rate / measured["openbao_wrapped"].rate,
        "reveal_vs_openbao_read": reveal.rate / measured["openbao_read"].rate,
        "reveal_vs_openbao_wrapped": reveal.rate / measured["openbao_wrapped"].rate,
    }
    for name, each in measured.items():
        named |= {f"{name}_per_s": each.rate, f"{name}_p50_ms": each.p50, f"{name}_p99_ms": each.p99}
    return {name: round(value, 2) for name, value in named.items()}
