"""Lease issuance (durable, audited, guarded) beside OpenBao's audited KV read and wrapped read.

Figures, all of them medians over the rounds: ``lease_vs_openbao_read``, ``…_wrapped`` and the same of ``reveal``, the
ratios to the peer's rate in the same round; of each contender its rate and latencies and ``…_cpu_us``, the CPU of its
process for each answer, OpenBao's too; and ``…_cpu_vs_…``, the broker's ratio to OpenBao's, and to that of an answer by
uvicorn alone (``lease_bare``), in the same round.

The load generator takes its share of the machine.  On two cores OpenBao, which uses more than one, gets what is left of
them: rates move with whatever else runs, by as much as half, the CPU for each answer hardly.
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
from tests.bench.rounds import Contender, Figure, Rounds, cpu_vs, interleaved, rate_vs, told

CONNECTIONS = 32
SECONDS = 4.0
ROUNDS = 7
# Wrapped answers that end within the run would be revoked in the midst of others' rounds.
_WRAPPED_S = 3600


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
        headers["X-Vault-Wrap-TTL"] = str(_WRAPPED_S)
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
            "lease_bare": Contender(bare, http("GET", "/", {}), [bare_pid]),
            "lease": Contender(served.port, _lease(served, "use"), [served.pid]),
            "openbao_read": Contender(bao.port, _read(bao, wrap=False), [bao.pid]),
            "reveal": Contender(served.port, _lease(served, "reveal"), [served.pid]),
            "openbao_wrapped": Contender(bao.port, _read(bao, wrap=True), [bao.pid]),
        }
        found = interleaved(contenders, rounds=rounds, connections=connections, seconds=seconds)
        if bao.audit_log.stat().st_size == 0:
            raise RuntimeError("OpenBao wrote no audit log: the comparison would not be fair")
    return found


def figures(rounds: dict[str, Rounds]) -> dict[str, Figure]:
    """The named figures (C6): ratios of this run, rates, latencies and CPU beside them."""
    named: dict[str, Figure] = {}
    for name in ("lease", "reveal"):
        for peer in ("openbao_read", "openbao_wrapped"):
            named[f"{name}_vs_{peer}"] = rate_vs(rounds[name], rounds[peer])
            named[f"{name}_cpu_vs_{peer}"] = cpu_vs(rounds[name], rounds[peer])
        named[f"{name}_cpu_vs_bare"] = cpu_vs(rounds[name], rounds["lease_bare"])
    for name, each in rounds.items():
        named |= told(name, each)
    return named
